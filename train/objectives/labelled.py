"""Fine-tuning: examples with answers, gone through in a new order each epoch, rows of like length together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tinytensor import random
from train.objectives import Objective
from train.objectives.windows import in_batches, spread
from train.tasks.task import Row

POOL = 50  # batches whose rows are sorted by length together


@dataclass
class Labelled(Objective):
    """Batches of Rows. The data is a list of them; `pad` makes a batch of some rows' arrays.

    cap: the most rows of a group that are used in an epoch, drawn anew each time (0: all), so that a task with many
    examples does not crowd out the others it is mixed with.
    change: (batch, generator) -> what the model gets of a batch in training, where it is not the batch itself.
    """

    pad: Callable[[list[dict]], dict[str, np.ndarray]] = field(repr=False)
    batch: int
    seed: int = 0
    cap: int = 0
    change: Callable[[dict, np.random.Generator], dict] | None = None
    _plans: dict = field(default_factory=dict, repr=False)  # epoch -> its batches; only the last one is kept
    _counted: tuple = field(default=(None, 0), repr=False)  # rows, and their steps per epoch: asked for at every step

    def check(self, rows: list[Row], what: str) -> None:
        if not rows:
            raise ValueError(f"the {what} part has no examples")

    def steps_per_epoch(self, rows: list[Row]) -> int:
        if self._counted[0] is not rows:
            groups = Counter(row.group for row in rows)
            self._counted = rows, math.ceil(sum(min(n, self.cap or n) for n in groups.values()) / self.batch)
        return self._counted[1]

    def training_batch(self, rows: list[Row], number: int) -> dict[str, np.ndarray]:
        epoch, place = divmod(number, self.steps_per_epoch(rows))
        if epoch not in self._plans:
            self._plans.clear()
            with random.seeded(self.seed, epoch) as draw:
                chosen = self._mixture(rows, draw)
                batches = bucketed([rows[i].length for i in chosen], self.batch, draw)
                self._plans[epoch] = [chosen[places] for places in batches]
        batch = self.evaluation_batch(rows, self._plans[epoch][place])
        if self.change is None:
            return batch
        with random.seeded(self.seed, epoch, place) as draw:
            return self.change(batch, draw)

    def _mixture(self, rows: list[Row], draw: np.random.Generator) -> np.ndarray:
        """The numbers of the rows of an epoch: of each group all, or `cap` at random."""
        if not self.cap:
            return np.arange(len(rows))
        groups = np.array([row.group for row in rows])
        members = [np.flatnonzero(groups == name) for name in sorted(set(groups.tolist()))]
        return np.concatenate([draw.choice(m, min(len(m), self.cap), replace=False) for m in members])

    def evaluation_batches(self, rows: list[Row], limit: int | None = None) -> list[np.ndarray]:
        return by_length([row.length for row in rows], self.batch, limit)

    def evaluation_batch(self, rows: list[Row], chosen: np.ndarray) -> dict[str, np.ndarray]:
        return self.pad([rows[i].arrays for i in chosen])


def by_length(lengths: list[int], batch: int, limit: int | None) -> list[np.ndarray]:
    """The numbers 0 .. len(lengths) - 1 from short to long, as batches: all of them, or `limit` spread evenly."""
    batches = in_batches(np.argsort(lengths, kind="stable"), batch)
    return [batches[i] for i in spread(len(batches), limit)]


def bucketed(lengths: list[int], batch: int, draw: np.random.Generator) -> list[np.ndarray]:
    """All numbers 0 .. len(lengths) - 1 in a random order, as batches in which the lengths are nearly equal.

    A batch is padded to its longest row, so rows of like length belong together; but who meets whom should still be
    chance. So a shuffled epoch is cut into pools of POOL batches, sorted within each, and the batches shuffled again.
    """
    order = draw.permutation(len(lengths))
    lengths = np.asarray(lengths)
    batches = []
    for start in range(0, len(order), POOL * batch):
        pool = order[start : start + POOL * batch]
        pool = pool[np.argsort(lengths[pool], kind="stable")]
        batches += in_batches(pool, batch)
    return [batches[i] for i in draw.permutation(len(batches))]
