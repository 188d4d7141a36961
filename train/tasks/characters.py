"""What ELMo reads instead of token ids: words by their characters, every sentence between its marks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.tokenizers import ElmoCharacters
from models.tokenizers.words import SENTENCE, WORD, split_sentences
from train.tasks.inputs import TextInputs

FULL_STOPS, CLOSING = set(".!?"), set("\"'”’)")


@dataclass
class CharacterInputs(TextInputs):
    """Words as `characters` ids each: ids (T, characters), every sentence between <S> and </S>, as it was in training.

    Texts are cut to `max_length` places, marks included. The tokenizer is only kept beside the model.
    """

    characters: int = 50

    def text(self, a: str, b: str | None = None) -> dict[str, np.ndarray]:
        dressed, _ = dress(split_sentences(a) + split_sentences(b or ""))
        return self._spelled(dressed[: self.max_length])

    def words(self, words: list[str]) -> tuple[dict[str, np.ndarray], list[int]]:
        dressed, places = dress(sentences_of(words))
        return self._spelled(dressed[: self.max_length]), [place for place in places if place < self.max_length]

    def passage(self, question: str, context: str, stride: int = 0) -> list[tuple[dict[str, np.ndarray], dict]]:
        asked = dress(split_sentences(question))[0][: self.max_length // 2]
        found = [list(WORD.finditer(context, *sentence.span())) for sentence in SENTENCE.finditer(context)]
        dressed, places = dress([[word.group() for word in words] for words in found if words])
        spans = dict(zip(places, (word.span() for words in found for word in words)))
        room = self.max_length - len(asked)
        step = room - (stride or room // 3)
        rows = []
        for start in range(0, max(1, len(dressed) - room + step), step):
            arrays = self._spelled(asked + dressed[start : start + room])
            inside = {len(asked) + place - start: span for place, span in spans.items() if 0 <= place - start < room}
            rows.append((arrays, inside))
        return rows

    @property
    def pad_id(self) -> int:
        return 0

    def _spelled(self, words: list[str]) -> dict[str, np.ndarray]:
        ids = ElmoCharacters(self.characters).encode_words(words).astype(np.int16)
        return {"ids": ids, "mask": np.ones(len(words), bool)}


def dress(sentences: list[list[str]]) -> tuple[list[str], list[int]]:
    """(the words with <S> and </S> around each sentence, the place of each word there)."""
    dressed, places = [], []
    for words in sentences:
        places += range(len(dressed) + 1, len(dressed) + 1 + len(words))
        dressed += ["<S>", *words, "</S>"]
    return dressed, places


def sentences_of(words: list[str]) -> list[list[str]]:
    """A list of words cut after every full stop (and the quotation mark that closes behind it) that a word follows."""
    sentences, start = [], 0
    for number in range(1, len(words)):
        before, word = words[number - 1], words[number]
        ended = before in FULL_STOPS or (before in CLOSING and number > 1 and words[number - 2] in FULL_STOPS)
        if ended and word[:1].isalnum():
            sentences.append(words[start:number])
            start = number
    return [*sentences, words[start:]] if words else []
