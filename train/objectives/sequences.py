"""Four ways to teach an encoder-decoder from plain text: what to show the encoder, what to ask of the decoder.

    text          the cat sat on the mat and slept
    spans         the <extra_id_0> on the mat <extra_id_1> </s>  ->  <extra_id_0> cat sat <extra_id_1> and slept </s>
    next          the cat sat on          -> the mat and slept      two sequences that follow one another
    prefix        the cat sat </s>        -> on the mat and slept </s>      cut at a random place
    deshuffle     mat on cat the ... </s> -> the cat sat on the mat and slept </s>

The first is T5's own: spans are cut out, and the model writes what is missing (Raffel et al. 2020, arXiv:1910.10683,
section 3.1.4, by the procedure of the published code, t5/data/preprocessors.py). 15% of the tokens are noise, in spans
of 3 on average; the lengths of the spans, and those of the stretches between them, are drawn evenly from all the ways
to cut so many tokens into so many parts. A text begins with a stretch that is kept and ends with noise, so no sentinel
closes the target (the paper's figure shows one).

The second is the plainest: the decoder is a language model that has read what came before. The last two are baselines
of that paper (section 3.3.1): a prefix language model (Liu et al. 2018) and deshuffling (Liu et al. 2019).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

import numpy as np

from models.tokenizers import pad
from tinytensor.ops.softmax import IGNORED
from train.objectives.windows import Windows


@dataclass(frozen=True)
class SpanCorruption(Windows):
    """Windows just as long as it takes for the corrupted input to be exactly `context` tokens.

    sentinels: the ids that stand for the first, second, ... span.   eos: the id that ends input and target.
    A batch is {"ids": (B, context), "targets": (B, T)}: nothing is padded, as every window loses equally much.
    """

    sentinels: tuple[int, ...] = field(default=(), repr=False)
    eos: int = 1
    density: float = 0.15
    mean_span: float = 3.0

    def __post_init__(self):
        if not 0 < self.density < 1:
            raise ValueError(f"density must be a share in (0, 1), not {self.density}")
        if not self.mean_span >= 1:
            raise ValueError(f"mean_span must be at least 1 token, not {self.mean_span}")
        _, spans = noise_size(self.length, self.density, self.mean_span)
        if spans > len(self.sentinels):
            few = f"but the tokenizer only {len(self.sentinels)} sentinels <extra_id_0>, ..."
            what = f"a context of {self.context} has {spans} spans, {few}"
            raise ValueError(f"{what}; use a smaller --context or a tokenizer with more")

    @property
    def length(self) -> int:
        return raw_length(self.context, self.density, self.mean_span)

    def make(self, windows: np.ndarray, draw: np.random.Generator) -> dict[str, np.ndarray]:
        mask = noise_mask(draw, *windows.shape, self.density, self.mean_span)
        sentinels, end = np.array(self.sentinels), np.full((len(windows), 1), self.eos)
        ids, targets = (replace_spans(windows, where, sentinels) for where in (mask, ~mask))
        return {"ids": np.hstack([ids, end]), "targets": np.hstack([targets, end])}


@dataclass(frozen=True)
class NextSequence(Windows):
    """`context` tokens for the encoder, and the `context` that follow for the decoder to predict one by one.

    The windows end where they happen to, so nothing marks their end.   {"ids": (B, context), "targets": (B, context)}
    """

    @property
    def length(self) -> int:
        return 2 * self.context

    def make(self, windows: np.ndarray, draw: np.random.Generator) -> dict[str, np.ndarray]:
        return {"ids": windows[:, : self.context], "targets": windows[:, self.context :]}


@dataclass(frozen=True)
class PrefixLM(Windows):
    """`context` tokens, cut at a place that is drawn evenly; the encoder sees what is before it.

    {"ids": (B, S), "mask": (B, S), "targets": (B, T)}, S and T as long as the batch's longest parts with their ends.
    one_shape: S and T are both `context` in every batch, as long as a part with its end can be.
    """

    pad: int = 0
    eos: int = 1
    one_shape: bool = False

    @property
    def length(self) -> int:
        if self.context < 2:
            raise ValueError(f"context {self.context} is too short to be cut in two; it must be at least 2")
        return self.context

    def make(self, windows: np.ndarray, draw: np.random.Generator) -> dict[str, np.ndarray]:
        B, n = windows.shape
        cuts = draw.integers(1, n, size=B)  # tokens in the prefix
        length = n if self.one_shape else None
        ids = pad([np.append(window[:cut], self.eos) for window, cut in zip(windows, cuts)], self.pad, length)
        targets = pad([np.append(window[cut:], self.eos) for window, cut in zip(windows, cuts)], IGNORED, length)
        return {"ids": ids, "mask": np.arange(ids.shape[1]) <= cuts[:, None], "targets": targets}


@dataclass(frozen=True)
class Deshuffling(Windows):
    """The encoder sees a window's tokens in random order; the decoder puts them right.

    {"ids": (B, context), "targets": (B, context)}, both ending with `eos`.
    """

    eos: int = 1

    @property
    def length(self) -> int:
        if self.context < 2:
            raise ValueError(f"context {self.context} leaves no room for a token and the end; it must be at least 2")
        return self.context - 1

    def make(self, windows: np.ndarray, draw: np.random.Generator) -> dict[str, np.ndarray]:
        end = np.full((len(windows), 1), self.eos)
        return {"ids": np.hstack([draw.permuted(windows, axis=1), end]), "targets": np.hstack([windows, end])}


def noise_size(length: int, density: float, mean_span: float) -> tuple[int, int]:
    """(tokens of noise, spans) in a text of `length` >= 2 tokens."""
    noise = min(max(round(length * density), 1), length - 1)
    spans = max(round(noise / mean_span), 1)
    return noise, min(spans, length - noise)  # each span follows a token that is kept


@functools.cache
def raw_length(context: int, density: float, mean_span: float) -> int:
    """The most tokens of text whose corrupted input, with its sentinels and the end, has no more than `context`."""

    def corrupted(length: int) -> int:
        noise, spans = noise_size(length, density, mean_span)
        return length - noise + spans + 1

    length = 2
    if corrupted(length) > context:
        raise ValueError(f"context {context} is too short for span corruption, whose inputs have at least 3 tokens")
    while corrupted(length + 1) <= context:
        length += 1
    return length


def noise_mask(draw: np.random.Generator, rows: int, length: int, density: float, mean_span: float) -> np.ndarray:
    """(rows, length) booleans, True at noise: in turn a stretch that is kept and one of noise, from the left."""
    noise, spans = noise_size(length, density, mean_span)
    kept = random_parts(draw, rows, length - noise, spans)
    cut = random_parts(draw, rows, noise, spans)
    lengths = np.stack([kept, cut], axis=2)  # (rows, spans, 2)
    return np.repeat(np.tile([False, True], rows * spans), lengths.reshape(-1)).reshape(rows, length)


def random_parts(draw: np.random.Generator, rows: int, n: int, parts: int) -> np.ndarray:
    """(rows, parts): n cut into `parts` lengths of at least 1, every way equally likely.

    Between n things in a row there are n - 1 places to cut; parts - 1 of them are chosen.
    """
    cuts = np.zeros((rows, n), bool)
    cuts[:, : parts - 1] = True
    cuts[:, : n - 1] = draw.permuted(cuts[:, : n - 1], axis=1)
    cuts[:, -1] = True  # behind the last thing
    ends = np.nonzero(cuts)[1].reshape(rows, parts) + 1
    return np.diff(ends, prepend=0, axis=1)


def replace_spans(tokens: np.ndarray, mask: np.ndarray, sentinels: np.ndarray) -> np.ndarray:
    """Each run of True in a row of the mask becomes one sentinel: the first sentinels[0], the second sentinels[1], ...

    tokens, mask: (B, n), each row with equally many True in equally many runs.
    """
    starts = mask & ~np.pad(mask, ((0, 0), (1, 0)))[:, :-1]
    number = np.cumsum(starts, axis=1) - 1
    return np.where(starts, sentinels[number], tokens)[~mask | starts].reshape(len(tokens), -1)
