"""No tokenizer at all: the bytes of UTF-8, as ByT5 and ELMo read them. Nothing is ever unknown, and nothing is learnt.

ByT5 (Xue et al. 2021, arXiv:2105.13626): an id is a byte plus 3; 0, 1 and 2 are padding, end and unknown (never made),
and 125 sentinels for span corruption follow the bytes. Sequences are long.

ELMo (Peters et al. 2018): a word is not an id but 50 of them, to be read by a convolution: begin-of-word 258, its first
48 bytes (0-255), end-of-word 259, then padding 260. The sentence starts and ends with words of their own, <S> and </S>,
whose only byte is 256 or 257. All ids are stored plus one, so that 0 can pad sentences.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from models.schema import Few
from models.tokenizers.base import Frame, Special, Tokenizer, read_own, write_own
from models.tokenizers.padding import pad

FIRST_BYTE = 3
EXTRA_IDS = 125
SENTENCE_START, SENTENCE_END, WORD_START, WORD_END, PADDING = range(256, 261)
MARKS = {"<S>": [SENTENCE_START], "</S>": [SENTENCE_END]}


@dataclass
class Nothing:
    """What the file of a Bytes holds beside its type."""


class Bytes(Tokenizer):
    """Bytes().encode("hi") == [107, 108]"""

    def __init__(self):
        special = ["<pad>", "</s>", "<unk>"]
        sentinels = [f"<extra_id_{i}>" for i in range(EXTRA_IDS)]
        self.tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), *sentinels]
        super().__init__({token: Special(self.tokens.index(token)) for token in special + sentinels},
                         Frame(["A", "</s>"], ["A", "</s>", "B", "</s>"], [0] * 4), "<pad>")

    @classmethod
    def train(cls, texts: str | Iterable[str] = (), vocab_size: int | None = None) -> Self:
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
    def load(cls, path: str | Path) -> Self:
        read_own(path, "Bytes", Nothing)
        return cls()


@dataclass
class Saved:
    """What the file of an ElmoCharacters holds."""

    characters: Few = 50


class ElmoCharacters:
    """Nothing to train, as the scheme has no vocabulary. Ids run from 0 (masked) to 261.

    characters: the ids of a word, 50 in everything published.
    """

    vocab_size = 262
    pad_id = 0

    def __init__(self, characters: int = 50):
        if characters < 3:
            raise ValueError(f"a word of {characters} characters has no room for a byte between its two marks")
        self.characters = characters

    def __repr__(self) -> str:
        return f"ElmoCharacters(characters={self.characters})"

    def encode(self, sentence: str | list[str]) -> np.ndarray:
        """(T, 50) ids of a sentence: its words, or a text to be split at white space. T counts both sentence marks."""
        words = sentence.split() if isinstance(sentence, str) else sentence
        return self.encode_words(["<S>", *words, "</S>"])

    def encode_words(self, words: list[str]) -> np.ndarray:
        """(N, 50) ids of words without marks around them. A word <S> or </S> is the mark itself, as in the original."""
        ids = np.full((len(words), self.characters), PADDING)
        for row, word in zip(ids, words):
            characters = MARKS.get(word) or list(word.encode()[:self.characters - 2])
            row[:len(characters) + 2] = [WORD_START, *characters, WORD_END]
        return ids + 1

    def encode_batch(self, sentences: Iterable[str | list[str]]) -> np.ndarray:
        """(B, T, 50) ids, sentences shorter than the longest padded with zeros."""
        rows = [self.encode(sentence) for sentence in sentences]
        return pad(rows) if rows else np.zeros((0, 0, self.characters), int)

    def decode(self, ids: np.ndarray) -> list[str]:
        """The words of one sentence, (T, 50) ids, without its marks. Words of more than 48 bytes come back cut."""
        ids = np.asarray(ids)
        if ids.ndim != 2 or ids.shape[1] != self.characters or (ids.size and (ids.min() < 0 or ids.max() > 261)):
            raise ValueError(f"ELMo ids have shape (T, {self.characters}) and run from 0 to 261; got shape {ids.shape}"
                             + (f" from {ids.min()} to {ids.max()}" if ids.size else ""))
        words = [bytes([int(one) - 1 for one in row if 1 <= one <= 256]) for row in ids
                 if row.any() and not {SENTENCE_START + 1, SENTENCE_END + 1} & set(row.tolist())]
        return [word.decode("utf-8", errors="replace") for word in words]

    def save(self, path: str | Path) -> None:
        write_own(path, "ElmoCharacters", {"characters": self.characters})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        return cls(read_own(path, "ElmoCharacters", Saved).characters)
