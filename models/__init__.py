"""models: whole models, each readable top to bottom in its own file, with their tokenizers and generation."""

from models.elmo import ELMo, ELMoConfig
from models.gpt import GPT, GPTConfig

__all__ = ["GPT", "ELMo", "ELMoConfig", "GPTConfig"]
