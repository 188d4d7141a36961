"""From texts to the arrays a body reads, and from rows to a batch.

`TextInputs` serves bodies whose tokenizer's frame says what stands around a text ([CLS] A [SEP] B [SEP] for BERT),
`MarkedInputs` a GPT, which gets marks of its own (start A delimiter B classify), `CharacterInputs` an ELMo, which reads
words by their characters, every sentence between its marks.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models.gpt_body import MARKS
from models.sentences import find_words, group_words, words_of_sentences
from models.tokenizers import ElmoCharacters, Frame, Special, Tokenizer, pad
from tinytensor import backend
from tinytensor.ops.softmax import IGNORED

# what padding is made of
FILL = {"token_types": 0, "tags": IGNORED, "targets": IGNORED, "answerable": False, "mask": False}


@dataclass
class TextInputs:
    """Token ids of texts, cut to `max_length` tokens."""

    tokenizer: Tokenizer
    max_length: int

    def text(self, a: str, b: str | None = None) -> dict[str, np.ndarray]:
        """The arrays of one text, or of a pair."""
        first = self.tokenizer.encode(a)
        second = None if b is None else self.tokenizer.encode(b)
        return self._arrays(*self.tokenizer.dress(*self.tokenizer.truncate(first, second, self.max_length)))

    def judged(self, messages: list[dict], reply: str) -> dict[str, np.ndarray]:
        """The arrays of a reply to what was said (models/chat.py), for a head to read at its end."""
        return self.text(as_text(messages), reply)

    def target(self, text: str, source: dict[str, np.ndarray]) -> np.ndarray:
        """The ids of a text to be written for a source's arrays: with the mark that ends it, without any before it."""
        return self.text(text)["ids"][self.tokenizer.frame.single.index("A") :]

    def words(self, words: list[str]) -> tuple[dict[str, np.ndarray], list[int]]:
        """The arrays of a text given as words, and the place of each word's first token.

        The words that do not fit are left out, so there may be fewer places than words.
        """
        ids, firsts, unknown = [], [], self.tokenizer.unk_id
        room = self.max_length - len(self.tokenizer.dress([])[0])
        if room < 1:
            raise ValueError(f"{self.max_length} tokens are too few for a word between its marks; use 16 or more")
        for number, word in enumerate(words):
            # byte-level tokens begin with the space before them; the others do not care
            pieces = self.tokenizer.encode(f" {word}" if number else word)
            if not pieces and unknown is not None:
                pieces = [unknown]  # for signs that the tokenizer drops: every word has its place
            if not pieces or len(ids) + len(pieces) > room:
                break
            firsts.append(len(ids))
            ids += pieces
        before = self.tokenizer.frame.single.index("A")
        return self._arrays(*self.tokenizer.dress(ids)), [before + first for first in firsts]

    def passage(self, question: str, context: str, stride: int = 0) -> list[tuple[dict[str, np.ndarray], dict]]:
        """The arrays of (question, context) and, by place, the (start, end) of each context token's characters.

        A long context gives several rows, of which neighbours share `stride` tokens (a third of a row by default).
        """
        asked = self.tokenizer.encode(question)[: self.max_length // 2]
        ids, offsets = self.tokenizer.encode_with_offsets(context)
        room = self.max_length - len(self.tokenizer.dress(asked, [])[0])
        if room < 1:
            raise ValueError(f"{self.max_length} tokens are too few for a question and a passage; use 16 or more")
        frame = self.tokenizer.frame.pair
        before = sum(len(asked) if item == "A" else 1 for item in frame[: frame.index("B")])
        return self._windows(ids, dict(enumerate(offsets)), room, stride, before,
                             lambda part: self._arrays(*self.tokenizer.dress(asked, part)))

    def _windows(self, tokens: list, spans: dict, room: int, stride: int, before: int, arrays: Callable) -> list[tuple]:
        """The rows of a passage: `room` of its tokens each, behind `before` others; spans by a token's number."""
        step, rows = room - (stride or room // 3), []
        for start in range(0, max(1, len(tokens) - room + step), step):
            inside = {before + n - start: span for n, span in spans.items() if start <= n < start + room}
            rows.append((arrays(tokens[start : start + room]), inside))
        return rows

    def pad(self, rows: list[dict[str, np.ndarray]], axis: int = 0) -> dict[str, np.ndarray]:
        """Rows as one batch: arrays with a length along `axis` are padded to the longest, all are stacked."""
        batch = {}
        for name in rows[0]:
            arrays = [np.asarray(row[name]) for row in rows]
            fill = (self.tokenizer.pad_id or 0) if name == "ids" else FILL.get(name)
            batch[name] = np.stack(arrays) if fill is None else pad(arrays, fill, axis=axis)
        return batch

    def _arrays(self, ids: list[int], types: list[int]) -> dict[str, np.ndarray]:
        return {"ids": np.array(ids), "token_types": np.array(types), "mask": np.ones(len(ids), bool)}


@dataclass
class SharedInputs(TextInputs):
    """Of a model whose sources and outputs share its context (ERNIE-GEN): a source leaves a quarter of it."""

    context: int

    def __post_init__(self):
        self.max_length = min(self.max_length, self.context - self.context // 4)

    def target(self, text: str, source: dict[str, np.ndarray]) -> np.ndarray:
        ids, room = super().target(text, source), self.context - 1 - len(source["ids"])
        return ids if len(ids) <= room else np.append(ids[: room - 1], ids[-1])


@dataclass
class MarkedInputs(TextInputs):
    """Token ids between three marks behind the vocabulary: start A classify, or start A delimiter B classify.

    first: the id of the first mark (models/gpt_body.py).
    """

    first: int

    def __post_init__(self):
        start, delimiter, classify = MARKS
        marks = {mark: Special(self.first + n) for n, mark in enumerate(MARKS)}
        framed = copy.copy(self.tokenizer)  # the tokenizer itself goes on knowing nothing of the marks
        framed.special = self.tokenizer.special | marks
        framed.frame = Frame([start, "A", classify], [start, "A", delimiter, "B", classify], [0] * 5)
        self.tokenizer = framed


@dataclass
class CharacterInputs(TextInputs):
    """Words as `characters` ids each: ids (T, characters), every sentence between <S> and </S>, as it was in training.

    Texts are cut to `max_length` places, marks included. The tokenizer is only kept beside the model.
    """

    characters: int = 50

    def text(self, a: str, b: str | None = None) -> dict[str, np.ndarray]:
        dressed, _ = dress(words_of_sentences(a) + words_of_sentences(b or ""))
        return self._spelled(dressed[: self.max_length])

    def words(self, words: list[str]) -> tuple[dict[str, np.ndarray], list[int]]:
        dressed, places = dress(group_words(words))
        return self._spelled(dressed[: self.max_length]), [place for place in places if place < self.max_length]

    def passage(self, question: str, context: str, stride: int = 0) -> list[tuple[dict[str, np.ndarray], dict]]:
        asked = dress(words_of_sentences(question))[0][: self.max_length // 2]
        found = list(find_words(context))
        dressed, places = dress([[word[0] for word in words] for words in found])
        spans = dict(zip(places, (word.span() for words in found for word in words)))
        return self._windows(dressed, spans, self.max_length - len(asked), stride, len(asked),
                             lambda part: self._spelled(asked + part))

    def _spelled(self, words: list[str]) -> dict[str, np.ndarray]:
        ids = ElmoCharacters(self.characters).encode_words(words).astype(np.int16)
        return {"ids": ids, "mask": np.ones(len(words), bool)}


def as_text(messages: list[dict]) -> str:
    """A conversation as a person reads it, for models without the marks of models/chat.py."""
    return "\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in messages)


def dress(sentences: list[list[str]]) -> tuple[list[str], list[int]]:
    """(the words with <S> and </S> around each sentence, the place of each word there).

    A text without words is one empty sentence, so that there is something to read.
    """
    dressed, places = [], []
    for words in sentences or [[]]:
        places += range(len(dressed) + 1, len(dressed) + 1 + len(words))
        dressed += ["<S>", *words, "</S>"]
    return dressed, places


def attention_mask(mask, shape: tuple[int, int], like):
    """(B, T), true on tokens -> the same as booleans beside `like`; None if nothing is padding, which saves a pass.

    shape: that of the ids, which the mask must have.   like: an array of the model; the mask goes to its device here,
    once, and not in every block. What lies on a GPU already is not looked at: that would be to wait for it.
    """
    if mask is None:
        return None
    mask = mask if backend.is_array(mask) else np.asarray(mask)
    if mask.shape != shape:
        raise ValueError(f"the mask has shape {mask.shape}, expected {shape} to match the ids")
    mask = mask.astype(bool, copy=False)
    return None if backend.device_of(mask) == "cpu" and mask.all() else backend.beside(like, mask)
