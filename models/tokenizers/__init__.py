"""Text to ids and back. Each scheme has a file of its own, which opens with the algorithm it follows.

All tokenizers share one surface: `train(texts, vocab_size)`, `encode`, `encode_batch`, `encode_array`,
`encode_with_offsets`, `decode`, `prepare`, `save`, `load`, `from_pretrained`, `vocab_size`, `special_tokens`.
"""

from pathlib import Path

from .base import Batch, Frame, Special, Tokenizer
from .bytelevel import ByteLevelBPE
from .characters import Characters
from .classic import ClassicBPE
from .files import read_json, tokenizer_file
from .wordpiece import WordPiece

__all__ = ["Batch", "ByteLevelBPE", "Characters", "ClassicBPE", "Frame", "Special", "Tokenizer", "WordPiece", "load"]


def load(path: str | Path) -> Tokenizer:
    """The tokenizer in a tokenizer.json, or in a folder that has one, whatever its scheme."""
    spec = read_json(tokenizer_file(path))
    if isinstance(spec, dict) and spec.get("type") == "Characters":
        return Characters.load(path)
    return ByteLevelBPE.load(path)
