"""Windows: stretches of equal length from a long stream of tokens, which several objectives are made from.

The plainest of them is here too, causal language modelling: at every position, predict the next token (GPT).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinytensor import random
from tinytensor.ops.softmax import IGNORED
from train.objectives import Objective

EVALUATION = 1  # marks the streams of chance that evaluation draws from, apart from those of training


@dataclass(frozen=True)
class Windows(Objective):
    """The parent of objectives on windows. An objective says how long they are and what becomes of them.

    Which windows make up a batch, and what is drawn for them, depends on the seed and the number of the batch alone, so
    a resumed run goes on with the very batches the first one would have seen.
    """

    context: int
    batch: int
    seed: int = 0

    one_shape = True

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
            least = f"the {self.length} that a context of {self.context} is made from"
            few = f"the {what} part has {len(tokens)} tokens, fewer than {least}"
            raise ValueError(f"{few}; give more --data or a smaller --context")

    def training_batch(self, tokens: np.ndarray, number: int) -> dict[str, np.ndarray]:
        """Batch `number` of training: windows at random places."""
        with random.seeded(self.seed, number) as draw:
            starts = draw.integers(0, len(tokens) - self.length + 1, size=self.batch)
            return self.make(self._cut(tokens, starts), draw)

    def evaluation_batches(self, tokens: np.ndarray, limit: int | None = None) -> list[np.ndarray]:
        """The first places of the windows that follow one another, in groups of a batch."""
        return even_starts(len(tokens) - self.length + 1, self.stride, self.batch, limit)

    def evaluation_batch(self, tokens: np.ndarray, starts: np.ndarray) -> dict[str, np.ndarray]:
        with random.seeded(self.seed, int(starts[0]), EVALUATION) as draw:
            return self.make(self._cut(tokens, starts), draw)

    def _cut(self, tokens: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return np.stack([tokens[start : start + self.length] for start in starts]).astype(np.int64)


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


def even_starts(stop: int, stride: int, batch: int, limit: int | None) -> list[np.ndarray]:
    """The places 0, stride, 2 stride, ... before `stop` in groups of a batch, or `limit` groups spread evenly."""
    starts = np.arange(0, stop, stride)
    return in_batches(starts[spread(len(starts), limit and limit * batch)], batch)


def spread(count: int, limit: int | None) -> np.ndarray:
    """The numbers 0 .. count - 1, or `limit` of them at even distances, the first and the last among them."""
    return np.arange(count) if limit is None or count <= limit else np.linspace(0, count - 1, limit).astype(int)


def in_batches(items: np.ndarray, batch: int) -> list[np.ndarray]:
    """An array cut into stretches of `batch` items; the last may be shorter."""
    return [items[i : i + batch] for i in range(0, len(items), batch)]
