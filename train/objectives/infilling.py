"""Infilling: pieces are taken out of a text, and the model writes them, word by word and span by span (ERNIE-GEN).

    text       the cat sat on the mat and slept
    source     [CLS] the cat on mat and [SEP]
    target     sat the slept [SEP]                 what was taken out, in its order
    read       [CLS] sat dog slept                 what the contextual flow reads: some words are wrong (noise)

Fragments are short or long (1 to 4 tokens in two texts of five, 4 to 32 in the others), so that the model learns to
write words as well as sentences, and make up a quarter of the text. Noise replaces each word that is read, but not what
is to be predicted, by a random one with a probability of 5%. The span queries' spans are phrases, or single words
(train/data/phrases.py; Xiao et al. 2020, arXiv:2001.11314).

The authors never published this part. Lengths, shares, the t-test and the 5% are told from memory of the paper; that
nothing marks where a piece was taken out, and what is cut off the last fragment so that every source and every target
has the same length, is ours.
"""

from dataclasses import dataclass, field

import numpy as np

from models.config import option
from models.schema import Portion, Share, Whole, check_fields
from models.t5 import shift_right
from tinytensor import random
from train.data.phrases import Phrases
from train.objectives.windows import Windows

SHORT, LONG, OFTEN_SHORT = (1, 4), (4, 32), 0.4  # lengths of fragments, and how often a text has the short ones


@dataclass(frozen=True)
class InfillingConfig:
    """What is taken out of a text, and what the model reads while it writes that."""

    share: Portion = option(0.25, "of a text that is taken out")
    noise: Share = option(0.05, "share of the words written so far that are read as random others")
    pairs: Whole = option(2000, "pairs of words that count as a span")
    triples: Whole = option(500, "triples of words that do")

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class Infilling(Windows):
    """Windows as long as it takes for source, output and the last [ATTN] to fill the context.

    marks: the ids [CLS] and [SEP].   continues: (V,), whether a token goes on with the word before.
    A batch is {"ids": (B, S), "targets": (B, T), "read": (B, T), "spans": (B, T)}; see models/ernie_gen.py. One that is
    evaluated has neither "read" nor "spans": it asks the word queries alone, which are what writes.
    """

    marks: tuple[int, int] = (0, 0)
    continues: np.ndarray = field(default_factory=lambda: np.zeros(0, bool), repr=False)
    config: InfillingConfig = InfillingConfig()
    _phrases: dict = field(default_factory=dict, repr=False)  # id of a text -> (the text, its phrases)

    def __post_init__(self):
        if not 1 <= self.taken <= self.length - self.taken:
            kept = f"{self.taken} of {self.length} tokens would be taken out"
            raise ValueError(f"{kept}; a --context of 16 or more and a --share of at most 0.5 leave something to read")

    @property
    def length(self) -> int:
        return self.context - 4  # two marks of the source, the output's end, and the last [ATTN] one place further on

    @property
    def taken(self) -> int:
        """How many tokens of a window are the output's."""
        return round(self.config.share * self.length)

    def check(self, tokens: np.ndarray, what: str) -> None:
        super().check(tokens, what)
        if what == "training":
            self.phrases(tokens)  # now, before there are several workers

    def phrases(self, tokens: np.ndarray) -> Phrases:
        """Those of a text, counted once."""
        if id(tokens) not in self._phrases:
            found = Phrases.of(tokens, self.continues, self.config.pairs, self.config.triples)
            self._phrases[id(tokens)] = tokens, found
        return self._phrases[id(tokens)][1]

    def training_batch(self, tokens: np.ndarray, number: int) -> dict[str, np.ndarray]:
        with random.seeded(self.seed, number) as draw:
            windows = self._cut(tokens, draw.integers(0, len(tokens) - self.length + 1, size=self.batch))
            number = fragments(draw, *windows.shape, self.taken)
            batch = self.split(windows, number > 0)
            read = misread(shift_right(batch["targets"], self.marks[0]), self.config.noise, len(self.continues), draw)
        taken = number[number > 0].reshape(len(windows), -1)
        fresh = np.diff(taken, axis=1, prepend=0, append=0) != 0  # so the end, too, is a span of its own
        spans = self.phrases(tokens).starts(batch["targets"].reshape(-1), fresh.reshape(-1)).reshape(fresh.shape)
        return batch | {"read": read, "spans": spans - fresh.shape[1] * np.arange(len(windows))[:, None]}

    def make(self, windows: np.ndarray, draw: np.random.Generator) -> dict[str, np.ndarray]:
        return self.split(windows, fragments(draw, *windows.shape, self.taken) > 0)

    def split(self, windows: np.ndarray, gone: np.ndarray) -> dict[str, np.ndarray]:
        """Source and output of windows (B, n) from which equally many tokens of each row are gone."""
        start, end = (np.full((len(windows), 1), mark) for mark in self.marks)
        kept, taken = (windows[where].reshape(len(windows), -1) for where in (~gone, gone))
        return {"ids": np.hstack([start, kept, end]), "targets": np.hstack([taken, end])}


def fragments(draw: np.random.Generator, rows: int, n: int, taken: int) -> np.ndarray:
    """(rows, n): 1, 2, ... for the tokens of the first, second, ... fragment of a row, 0 for those that are kept.

    Lengths are drawn until `taken` tokens are gone, the last one cut to fit, and put into a random order; then the
    fragments are put between the kept tokens, no two at one place, all ways equally likely.
    """
    found = np.zeros((rows, n), int)
    for row, short in zip(found, draw.random(rows) < OFTEN_SHORT):
        low, high = SHORT if short else LONG
        ends = np.minimum(np.cumsum(draw.integers(low, high + 1, size=taken // low + 1)), taken)
        lengths = draw.permutation(np.diff(ends[: np.searchsorted(ends, taken) + 1], prepend=0))
        gaps = np.sort(draw.choice(n - taken + 1, len(lengths), replace=False))  # kept tokens before each fragment
        places = np.repeat(gaps + np.cumsum(lengths) - lengths, lengths) + within(lengths)
        row[places] = np.repeat(np.arange(len(lengths)) + 1, lengths)
    return found


def within(lengths: np.ndarray) -> np.ndarray:
    """0, 1, ... of each of several stretches, one after another."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def misread(read: np.ndarray, noise: float, vocab_size: int, draw: np.random.Generator) -> np.ndarray:
    """What is read of outputs (B, T), each token but the first replaced with probability `noise` by any of all."""
    wrong = draw.random(read.shape) < noise
    wrong[:, :1] = False
    return np.where(wrong, draw.integers(0, vocab_size, read.shape), read)
