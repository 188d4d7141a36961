"""Windows: stretches of equal length from a long stream of tokens, which several objectives are made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinytensor import random

EVALUATION = 1  # marks the streams of chance that evaluation draws from, apart from those of training


@dataclass(frozen=True)
class Windows:
    """The parent of objectives on windows. An objective says how long they are and what becomes of them.

    Which windows make up a batch, and what is drawn for them, depends on the seed and the number of the batch alone, so
    a resumed run goes on with the very batches the first one would have seen.
    """

    context: int
    batch: int
    seed: int = 0

    one_shape = True  # of all training batches: what a CUDA graph asks for

    @property
    def length(self) -> int:
        """The tokens in a window."""
        raise NotImplementedError(f"{type(self).__name__} does not say how long its windows are")

    @property
    def stride(self) -> int:
        """How far apart windows stand in evaluation; each token is then predicted once."""
        return self.length

    def make(self, windows: np.ndarray, draw: np.random.Generator) -> dict[str, np.ndarray]:
        """(B, length) tokens -> a batch for the model."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it makes of a window")

    def check(self, tokens: np.ndarray, what: str) -> None:
        if len(tokens) < self.length:
            raise ValueError(
                f"the {what} part has {len(tokens)} tokens, fewer than the {self.length} that a context of "
                f"{self.context} is made from; give more --data or a smaller --context"
            )

    def training_batch(self, tokens: np.ndarray, number: int) -> dict[str, np.ndarray]:
        """Batch `number` of training: windows at random places."""
        with random.seeded(self.seed, number) as draw:
            starts = draw.integers(0, len(tokens) - self.length + 1, size=self.batch)
            return self.make(self._cut(tokens, starts), draw)

    def evaluation_batches(self, tokens: np.ndarray, limit: int | None = None) -> list[np.ndarray]:
        """The first places of the windows to evaluate on, in groups of a batch.

        All the windows that follow one another, or `limit` batches of them spread evenly.
        """
        starts = np.arange(0, len(tokens) - self.length + 1, self.stride)
        if limit is not None and len(starts) > limit * self.batch:
            starts = starts[np.linspace(0, len(starts) - 1, limit * self.batch).astype(int)]
        return [starts[i : i + self.batch] for i in range(0, len(starts), self.batch)]

    def evaluation_batch(self, tokens: np.ndarray, starts: np.ndarray) -> dict[str, np.ndarray]:
        with random.seeded(self.seed, int(starts[0]), EVALUATION) as draw:
            return self.make(self._cut(tokens, starts), draw)

    def _cut(self, tokens: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return np.stack([tokens[start : start + self.length] for start in starts]).astype(np.int64)
