"""models: whole models, each readable top to bottom in its own file, with their tokenizers and generation."""

from models.elmo import ELMo, ELMoConfig
from models.gpt import GPT, GPTConfig
from models.t5 import T5, T5Config

__all__ = ["GPT", "T5", "ELMo", "ELMoConfig", "GPTConfig", "T5Config"]
