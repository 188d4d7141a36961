"""Causal language modelling: at every position, predict the next token (GPT)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from train.objectives.windows import Windows


@dataclass(frozen=True)
class Causal(Windows):
    """Windows of `context` + 1 tokens; the targets are the inputs moved by one.

    A batch is {"ids": (B, T), "targets": (B, T)}.
    """

    @property
    def length(self) -> int:
        return self.context + 1

    @property
    def stride(self) -> int:
        return self.context  # the last token of a window is a target only, and the first input of the next

    def make(self, windows: np.ndarray, draw: np.random.Generator) -> dict[str, np.ndarray]:
        return {"ids": windows[:, :-1], "targets": windows[:, 1:]}
