"""Text as documents of sentences, in the flat files of ids that every corpus is stored in, and pairs packed from them.

A sentence ends with [SEP], a document with one more. In the text a blank line ends a document; a line may hold one
sentence (the format of BERT's published code) or a paragraph, which is cut behind . ! ? where a new sentence begins.

BERT and its relatives are pretrained on pairs of texts, packed to length:

next    Devlin et al. 2018, and the published create_pretraining_data.py: sentences of a document are gathered up to the
        length; a random number of them is A, the rest is B; every second time B is taken from another document, and
        the rest goes back to be used again
order   Lan et al. 2019: B always follows A, but every second time the two are swapped
none    Liu et al. 2019, "full sentences": one text, as many whole sentences as fit, across documents if need be
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from models.sentences import split_sentences
from models.tokenizers import Tokenizer

TASKS = ("next", "order", "none")
TRIES = 10  # to find another document


@dataclass
class SentenceEncoder:
    """Stands for a tokenizer when a corpus is built: its ids are those of the sentences, with their ends marked."""

    tokenizer: Tokenizer

    def __post_init__(self):
        if self.tokenizer.separator_id is None:
            raise ValueError("this tokenizer puts no special token behind a text, so sentences cannot be told apart")

    @property
    def dtype(self) -> type:
        return self.tokenizer.dtype

    def encode_array(self, text: str) -> np.ndarray:
        lines = [split_sentences(line) if line.strip() else [] for line in text.splitlines()]
        encoded = iter(self.tokenizer.encode_batch([sentence for line in lines for sentence in line]))
        ids, end = [], self.tokenizer.separator_id
        for line in lines:
            for sentence in [next(encoded) for _ in line]:
                ids += [*sentence, end] if sentence else []
            if not line:
                ids.append(end)
        return np.array(ids, self.dtype)

    def gives_back(self, text: str) -> bool:
        """Never: what stands between sentences is lost."""
        return False


class Documents:
    """Where the sentences and documents of a file of ids begin and end.

    Sentence s is tokens[starts[s] : stops[s]], without its end mark; document d has the sentences
    first[d] .. first[d + 1] - 1. Sentences and documents that hold nothing are left out.
    """

    def __init__(self, tokens: np.ndarray, end: int):
        ends = np.flatnonzero(np.asarray(tokens) == end)
        ends = np.append(ends, len(tokens)) if not len(ends) or ends[-1] != len(tokens) - 1 else ends
        starts = np.concatenate([[0], ends[:-1] + 1])
        full = ends > starts
        number = np.cumsum(~full)[full]  # of the document: how many empty sentences come before
        self.tokens, self.end = tokens, end
        self.starts, self.stops = starts[full], ends[full]
        self.first = np.append(np.flatnonzero(np.diff(number, prepend=-1)), len(number)).tolist()
        self.lengths = (self.stops - self.starts).tolist()

    def __len__(self) -> int:
        return len(self.first) - 1

    def ids(self, first: int, stop: int) -> np.ndarray:
        """The ids of the sentences first .. stop - 1. One end mark stays between two documents."""
        ids = np.asarray(self.tokens[self.starts[first] : self.stops[stop - 1]])
        ends = ids == self.end
        return ids[~ends | (ends & np.append(False, ends[:-1]))]


@dataclass(frozen=True)
class Pair:
    """A and B as sentences (first, stop) of the documents, with what is cut off their ends, (front, back) tokens each.

    label: 0 where B follows A, 1 where it does not.   length: of both together in tokens, after the cuts.
    """

    a: tuple[int, int]
    b: tuple[int, int] | None
    label: int
    length: int
    cut_a: tuple[int, int] = (0, 0)
    cut_b: tuple[int, int] = (0, 0)

    def ids(self, documents: Documents) -> tuple[list[int], list[int] | None]:
        """The tokens of A and of B."""
        one = lambda text, cut: documents.ids(*text)[cut[0] : -cut[1] or None].tolist()
        return one(self.a, self.cut_a), self.b and one(self.b, self.cut_b)


def pack(documents: Documents, room: int, task: str, short: float, draw: np.random.Generator) -> list[Pair]:
    """All documents, once, as pairs of at most `room` tokens (special ones not counted).

    short: the share of documents packed to a random smaller length, so that short texts are known too.
    """
    if task == "none":
        return list(_full_sentences(documents, room))
    return [pair for number in range(len(documents)) for pair in _pairs_of(documents, number, room, task, short, draw)]


def _pairs_of(documents: Documents, number: int, room: int, task: str, short: float,
              draw: np.random.Generator) -> Iterator[Pair]:
    """The pairs that begin in document `number`."""
    target = _between(draw, 2, room) if draw.random() < short else room
    start, stop = documents.first[number], documents.first[number + 1]
    length, s = 0, start
    while s < stop:
        length += documents.lengths[s]
        s += 1
        if length < target and s < stop:
            continue
        many = s - start
        middle = start + (_between(draw, 1, many - 1) if many > 1 else 1)
        a, b, label = (start, middle), (middle, s), 0
        if task == "next" and (many == 1 or draw.random() < 0.5):
            b, label = _elsewhere(documents, number, target - sum(documents.lengths[start:middle]), draw), 1
            s = middle  # the rest of the sentences is used again
        elif task == "order" and draw.random() < 0.5:
            a, b, label = b, a, 1
        if b[0] < b[1] and a[0] < a[1]:  # a lone sentence has no order
            yield _cut(documents, a, b, label, room, draw)
        start, length = s, 0


def _elsewhere(documents: Documents, number: int, target: int, draw: np.random.Generator) -> tuple[int, int]:
    """Sentences of another document, from a random one on, until they are `target` tokens long."""
    for _ in range(TRIES):
        other = _between(draw, 0, len(documents) - 1)
        if other != number:
            break
    end = documents.first[other + 1]
    start = stop = _between(draw, documents.first[other], end - 1)
    length = 0
    while stop < end and (stop == start or length < target):
        length += documents.lengths[stop]
        stop += 1
    return start, stop


def _cut(documents: Documents, a: tuple, b: tuple, label: int, room: int, draw: np.random.Generator) -> Pair:
    """The pair, shortened to `room` tokens: one at a time off the longer text, front or back with equal odds."""
    length_a, length_b = (sum(documents.lengths[first:stop]) for first, stop in (a, b))
    over = max(0, length_a + length_b - room)
    longer = int(length_a <= length_b)  # off which text the first go, until it is the shorter; then in turn
    first = min(over, length_b - length_a + 1 if longer else length_a - length_b)
    of_b = np.full(over, longer, bool)
    of_b[first::2] = not longer
    back = draw.random(over) >= 0.5
    cuts = [(int((own & ~back).sum()), int((own & back).sum())) for own in (~of_b, of_b)]
    return Pair(a, b, label, length_a + length_b - over, *cuts)


def _full_sentences(documents: Documents, room: int) -> Iterator[Pair]:
    """Whole sentences up to `room` tokens, with a mark between documents; a longer sentence alone is cut."""
    one = lambda start, stop, n: Pair((start, stop), None, 0, min(n, room), (0, max(0, n - room)))
    breaks = set(documents.first)
    start, length = 0, 0
    for s, n in enumerate(documents.lengths):
        more = n + (s > start and s in breaks)
        if s > start and length + more > room:
            yield one(start, s, length)
            start, length, more = s, 0, n
        length += more
    if length:
        yield one(start, len(documents.lengths), length)


def _between(draw: np.random.Generator, low: int, high: int) -> int:
    """A whole number from low to high, both included (much faster than draw.integers for a single one)."""
    return low + int(draw.random() * (high - low + 1))
