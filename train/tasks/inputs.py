"""From the texts of an example to the arrays a body reads, and from rows to a batch.

`TextInputs` serves bodies whose tokenizer's frame says what stands around a text ([CLS] A [SEP] B [SEP] for BERT),
`MarkedInputs` a GPT, which gets marks of its own (start A delimiter B classify). A body that reads something else
(ELMo: characters) brings a class with the same methods.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from models.gpt_body import MARKS
from models.tokenizers import Frame, Special, Tokenizer
from tinytensor.ops.softmax import IGNORED

NAMES = {str: "a text", int: "a whole number", float: "a number", list: "a list"}
# what padding is made of
FILL = {"ids": 0, "token_types": 0, "tags": IGNORED, "targets": IGNORED, "answerable": False, "mask": False}


@dataclass
class Row:
    """One row of a batch: its arrays (of tokens, with the length first; or single numbers), and notes for decoding."""

    arrays: dict[str, np.ndarray]
    notes: object = None
    group: str = ""  # rows of one group share a cap on how many are used in an epoch

    @property
    def length(self) -> int:
        """Tokens; of the longest text where there are several to choose from."""
        return self.arrays["mask"].shape[-1]


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

    def words(self, words: list[str]) -> tuple[dict[str, np.ndarray], list[int]]:
        """The arrays of a text given as words, and the place of each word's first token.

        The words that do not fit are left out, so there may be fewer places than words.
        """
        ids, firsts = [], []
        room = self.max_length - len(self.tokenizer.dress([])[0])
        if room < 1:
            raise ValueError(f"{self.max_length} tokens are too few for a word between its marks; use 16 or more")
        for number, word in enumerate(words):
            pieces = self.tokenizer.encode(word if not number else self._spaced(word))
            pieces = pieces or self._unknown  # of signs that the tokenizer drops: every word has its place
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
        step = room - (stride or room // 3)
        frame = self.tokenizer.frame.pair
        before = sum(len(asked) if item == "A" else 1 for item in frame[: frame.index("B")])
        rows = []
        for start in range(0, max(1, len(ids) - room + step), step):
            part = slice(start, start + room)
            arrays = self._arrays(*self.tokenizer.dress(asked, ids[part]))
            rows.append((arrays, {before + i: span for i, span in enumerate(offsets[part])}))
        return rows

    def pad(self, rows: list[dict[str, np.ndarray]], axis: int = 0) -> dict[str, np.ndarray]:
        """Rows as one batch: arrays with a length along `axis` are padded to the longest, all are stacked."""
        batch = {}
        for name in rows[0]:
            arrays = [np.asarray(row[name]) for row in rows]
            if name in FILL:
                longest = max(array.shape[axis] for array in arrays)
                fill = self.pad_id if name == "ids" else FILL[name]
                arrays = [_padded(array, longest, fill, axis) for array in arrays]
            batch[name] = np.stack(arrays)
        return batch

    @property
    def pad_id(self) -> int:
        token = self.tokenizer.pad_token
        return self.tokenizer.special[token].id if token else 0

    def _arrays(self, ids: list[int], types: list[int]) -> dict[str, np.ndarray]:
        return {"ids": np.array(ids), "token_types": np.array(types), "mask": np.ones(len(ids), bool)}

    @property
    def _unknown(self) -> list[int]:
        """The token for what cannot be spelt, where the scheme has one."""
        return [self.tokenizer.unk_id] if hasattr(self.tokenizer, "unk_id") else []

    def _spaced(self, word: str) -> str:
        """A word inside a text: byte-level tokens begin with the space before them, WordPiece's do not care."""
        return f" {word}"


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


def text_or_pair(inputs, example: dict, what: str, both_orders: bool = False) -> dict[str, np.ndarray]:
    """The arrays of an example's text or pair, (T,) each; or (2, T), of a pair in both orders."""
    a, b = field(example, "text", str, what), example.get("pair")
    b = b if b is None else field(example, "pair", str, what)
    if not both_orders:
        return inputs.text(a, b)
    if b is None:
        raise ValueError(f"both orders were asked for, but {a[:40]!r} has no pair")
    return inputs.pad([inputs.text(a, b), inputs.text(b, a)])


def _padded(array: np.ndarray, length: int, fill, axis: int) -> np.ndarray:
    missing = length - array.shape[axis]
    return np.pad(array, [(0, missing if a == axis else 0) for a in range(array.ndim)], constant_values=fill)


def field(example: dict, name: str, kind: type | tuple[type, ...], what: str):
    """example[name], which must be there and of a type (or one of several); `what` says what it is for."""
    if name not in example:
        raise ValueError(f"an example of {what} needs {name!r}; this one has {', '.join(map(repr, example))}")
    value = example[name]
    if not isinstance(value, kind):
        wanted = " or ".join(NAMES[one] for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise ValueError(f"{name!r} of an example of {what} must be {wanted}, not {value!r}")
    return value


def whole_number(example: dict, name: str, what: str) -> int:
    """example[name], which a TSV file has as text."""
    value = field(example, name, (int, str), what)
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{name!r} of an example of {what} must be a whole number, not {value!r}") from None


def known(label: str, labels: Iterable[str], what: str) -> int:
    """The number of a label."""
    labels = list(labels)
    if label not in labels:
        raise ValueError(f"{what} {label!r} is not among those trained on: {', '.join(labels)}")
    return labels.index(label)
