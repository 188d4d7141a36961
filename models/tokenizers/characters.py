"""Characters: every distinct character of the corpus is a token, in the order of their code points.

The smallest tokenizer there is, and the usual one for first experiments with a GPT on a small text. There is no
algorithm to follow. Both directions are one look-up table, so text of any size goes through NumPy in one step.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from models.tokenizers.base import Special, Tokenizer, distinct, read_own, write_own


@dataclass
class Saved:
    """What its file holds."""

    characters: str
    special_tokens: list[str] | None = None


class Characters(Tokenizer):
    """One id a character, special tokens first.

    Characters("abc").encode("cab") == [2, 0, 1].  A character outside the alphabet is a ValueError: there is no
    unknown token to hide it behind.
    """

    def __init__(self, characters: str, special_tokens: Iterable[str] = (), pad_token: str | None = None):
        special_tokens = list(special_tokens)
        if len(set(characters)) < len(characters):
            raise ValueError("Characters: the alphabet names a character twice; give each once")
        super().__init__({token: Special(i) for i, token in enumerate(special_tokens)}, pad_token=pad_token)
        self.characters = characters
        self.tokens = special_tokens + list(characters)
        code_points = as_code_points(characters)
        self.id_by_code_point = np.full(int(code_points.max(initial=0)) + 2, -1, np.int32)
        self.id_by_code_point[code_points] = np.arange(len(characters)) + len(special_tokens)

    @classmethod
    def train(cls, texts: str | Iterable[str], vocab_size: int | None = None, special_tokens: Iterable[str] = ()):
        """The alphabet of the texts. vocab_size only checks that the alphabet fits into it."""
        special_tokens = distinct(special_tokens)
        alphabet = set()
        for text in [texts] if isinstance(texts, str) else texts:
            alphabet |= set(text)
        needed = len(alphabet) + len(special_tokens)
        if vocab_size is not None and needed > vocab_size:
            raise ValueError(f"vocab_size {vocab_size} is smaller than the alphabet: the texts hold {len(alphabet)} "
                             f"characters, with special tokens {needed}; use at least that, or a BPE")
        return cls("".join(sorted(alphabet)), special_tokens)

    def encode_plain(self, text: str) -> list[int]:
        return self.encode_array(text).tolist()

    def encode_array(self, text: str) -> np.ndarray:
        """(len(text),) ids."""
        code_points = as_code_points(text)
        ids = self.id_by_code_point[np.minimum(code_points, len(self.id_by_code_point) - 1)]
        if ids.size and ids.min() < 0:
            at = int(np.argmax(ids < 0))
            raise ValueError(f"character {text[at]!r} at position {at} is not among the {len(self.characters)} "
                             f"characters of this tokenizer; train it on text that has it, or use a byte-level BPE")
        return ids.astype(self.dtype)

    def spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        return self.encode_plain(text), [(i, i + 1) for i in range(len(text))]

    def decode(self, ids: Iterable[int]) -> str:
        return "".join([self.tokens[i] for i in self.check_ids(ids)])

    def save(self, path: str | Path) -> None:
        """Writes path/tokenizer.json, or path itself if it ends in .json."""
        write_own(path, "Characters", {"characters": self.characters, "special_tokens": list(self.special)})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        saved = read_own(path, "Characters", Saved)
        return cls(saved.characters, saved.special_tokens or ())


def as_code_points(text: str) -> np.ndarray:
    """The text as one uint32 a character; lone surrogates pass, so that they can be named in an error."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
