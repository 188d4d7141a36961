"""Bytes: no tokenizer at all, the scheme of ByT5 (Xue et al. 2021, arXiv:2105.13626).

An id is a byte of UTF-8 plus 3; 0, 1 and 2 are padding, end and unknown (never made), and 125 sentinels for span
corruption follow the bytes. Sequences are long, nothing is ever unknown, and there is nothing to train.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from models.tokenizers.base import Frame, Special, Tokenizer, read_own, write_own

FIRST_BYTE = 3
EXTRA_IDS = 125


class Bytes(Tokenizer):
    """Bytes().encode("hi") == [107, 108]"""

    def __init__(self):
        special = ["<pad>", "</s>", "<unk>"]
        sentinels = [f"<extra_id_{i}>" for i in range(EXTRA_IDS)]
        self.tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *sentinels]
        super().__init__({token: Special(self.tokens.index(token)) for token in special + sentinels},
                         Frame(["A", "</s>"], ["A", "</s>", "B", "</s>"], [0] * 4), "<pad>")

    @classmethod
    def train(cls, texts: str | Iterable[str] = (), vocab_size: int | None = None) -> Bytes:
        """There is nothing to learn; vocab_size, if given, must be the 384 that there are."""
        if vocab_size not in (None, len(cls().tokens)):
            raise ValueError(f"vocab_size {vocab_size}: the byte scheme always has {len(cls().tokens)} ids")
        return cls()

    def encode_plain(self, text: str) -> list[int]:
        return [byte + FIRST_BYTE for byte in text.encode()]

    def encode_array(self, text: str) -> np.ndarray:
        return np.frombuffer(text.encode(), np.uint8).astype(self.dtype) + self.dtype(FIRST_BYTE)

    def spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        return self.encode_plain(text), [(i, i + 1) for i, one in enumerate(text) for _ in one.encode()]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids; bytes that are no UTF-8 become U+FFFD."""
        data = [bytes([i - FIRST_BYTE]) if FIRST_BYTE <= i < FIRST_BYTE + 256 else self.tokens[i].encode()
                for i in self.check_ids(ids)]
        return b"".join(data).decode("utf-8", errors="replace")

    def save(self, path: str | Path) -> None:
        write_own(path, "Bytes", {})

    @classmethod
    def load(cls, path: str | Path) -> Bytes:
        read_own(path, "Bytes")
        return cls()

    from_pretrained = load
