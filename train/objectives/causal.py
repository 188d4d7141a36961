"""Causal language modelling: at every position, predict the next token (GPT)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinytensor.ops.softmax import IGNORED
from train.objectives.windows import Windows


@dataclass(frozen=True)
class Causal(Windows):
    """Windows of `context` + 1 tokens; the targets are the inputs moved by one.

    A batch is {"ids": (B, T), "targets": (B, T)}.
    apart: in evaluation windows begin so many tokens apart (0: a context). If they overlap, a token that was a target
    before is none again, so all but the first context - apart tokens of a text are read with at least as many before.
    """

    apart: int = 0

    @property
    def length(self) -> int:
        return self.context + 1

    @property
    def stride(self) -> int:
        return self.apart or self.context  # the last token of a window is a target only, and the next one's first input

    def make(self, windows: np.ndarray, draw: np.random.Generator) -> dict[str, np.ndarray]:
        return {"ids": windows[:, :-1], "targets": windows[:, 1:]}

    def evaluation_batch(self, tokens: np.ndarray, starts: np.ndarray) -> dict[str, np.ndarray]:
        batch = super().evaluation_batch(tokens, starts)
        seen = (starts[:, None] > 0) & (np.arange(self.context) < self.context - self.stride)
        return batch | {"targets": np.where(seen, IGNORED, batch["targets"])}
