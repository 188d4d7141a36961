"""Three more ways to teach an encoder-decoder from plain text: what to show the encoder, what to ask of the decoder.

    text          the cat sat on the mat and slept
    next          the cat sat on          -> the mat and slept      two sequences that follow one another
    prefix        the cat sat </s>        -> on the mat and slept </s>      cut at a random place
    deshuffle     mat on cat the ... </s> -> the cat sat on the mat and slept </s>

The first is the plainest: the decoder is a language model that has read what came before. The other two are baselines
of the T5 paper (Raffel et al. 2020, arXiv:1910.10683, section 3.3.1): a prefix language model (Liu et al. 2018) and
deshuffling (Liu et al. 2019). Span corruption has a file of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.tokenizers import pad
from tinytensor.ops.softmax import IGNORED
from train.objectives.windows import Windows


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
