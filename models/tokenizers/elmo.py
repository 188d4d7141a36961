"""ELMo's character ids (Peters et al. 2018): a word is not an id but 50 of them, its bytes between two marks.

ELMo has no vocabulary of words. Its input layer is a convolution over the UTF-8 bytes of each word:
begin-of-word 258, the first 48 bytes (0-255), end-of-word 259, then padding 260. The sentence starts and ends with
words of their own, <S> and </S>, whose only byte is 256 or 257. All ids are stored plus one, so that 0 can pad
sentences.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from models.tokenizers.base import read_own, write_own
from models.tokenizers.methods import pad

SENTENCE_START, SENTENCE_END, WORD_START, WORD_END, PADDING = range(256, 261)
MARKS = {"<S>": [SENTENCE_START], "</S>": [SENTENCE_END]}


class ElmoCharacters:
    """Nothing to train, as the scheme has no vocabulary. Ids run from 0 (masked) to 261.

    characters: the ids of a word, 50 in everything published.
    """

    vocab_size = 262

    def __init__(self, characters: int = 50):
        if characters < 3:
            raise ValueError(f"a word of {characters} characters has no room for a byte between its two marks")
        self.characters = characters

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
    def load(cls, path: str | Path) -> ElmoCharacters:
        return cls(read_own(path, "ElmoCharacters").get("characters", 50))

    from_pretrained = load
