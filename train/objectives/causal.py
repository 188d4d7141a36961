"""Causal language modelling: at every position, predict the next token (GPT)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinytensor import random


@dataclass(frozen=True)
class Causal:
    """Windows of `context` + 1 tokens from a long stream; the targets are the inputs moved by one.

    A batch is {"ids": (B, T), "targets": (B, T)}. Which windows make up a batch depends on the seed and the number of
    the batch alone, so a resumed run goes on with the very batches the first one would have seen.
    """

    context: int
    batch: int
    seed: int = 0

    def check(self, tokens: np.ndarray, what: str) -> None:
        if len(tokens) <= self.context:
            raise ValueError(
                f"the {what} part has {len(tokens)} tokens, fewer than one context of {self.context} and its targets; "
                "give more --data or a smaller --context"
            )

    def training_batch(self, tokens: np.ndarray, number: int) -> dict[str, np.ndarray]:
        """Batch `number` of training: windows at random places."""
        with random.seeded(self.seed, number) as draw:
            starts = draw.integers(0, len(tokens) - self.context, size=self.batch)
        return self._windows(tokens, starts)

    def evaluation_batches(self, tokens: np.ndarray, limit: int | None = None) -> list[np.ndarray]:
        """The first places of the windows to evaluate on, in groups of a batch.

        All the windows that follow one another without overlap, or `limit` batches of them spread evenly.
        """
        starts = np.arange(0, len(tokens) - self.context, self.context)
        if limit is not None and len(starts) > limit * self.batch:
            starts = starts[np.linspace(0, len(starts) - 1, limit * self.batch).astype(int)]
        return [starts[i : i + self.batch] for i in range(0, len(starts), self.batch)]

    def evaluation_batch(self, tokens: np.ndarray, starts: np.ndarray) -> dict[str, np.ndarray]:
        return self._windows(tokens, starts)

    def _windows(self, tokens: np.ndarray, starts: np.ndarray) -> dict[str, np.ndarray]:
        window = np.stack([tokens[start : start + self.context + 1] for start in starts]).astype(np.int64)
        return {"ids": window[:, :-1], "targets": window[:, 1:]}

