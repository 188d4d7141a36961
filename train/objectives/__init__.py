"""Objectives: what a batch is made of, and so what a model learns from a text.

A batch is a dict of arrays whose first axis is the batch; batch["ids"] holds the tokens read, (B, T) or (B, T, ...).
The model turns it into a loss. A loss is a mean, or a sum of several (BERT's two), and `model.counts(batch)` says how
many predictions each is the mean of, the main one first. `model.loss(shard, counts)` divides the shard's sums by those
of the whole batch instead, or of all batches of an update: so the losses of the shards add up to the loss of the whole,
exactly, and so do gradients.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Objective(Protocol):
    """All that the trainer knows about an objective.   data: what a batch is made from, such as an array of tokens."""

    one_shape: bool = False  # whether all training batches have the same shapes: what a CUDA graph asks for

    def check(self, data, what: str) -> None:
        """ValueError if there is too little of the "training" or "held-out" data."""

    def training_batch(self, data, number: int) -> dict[str, np.ndarray]:
        """Batch `number` of training.

        A function of the objective's seed and that number alone: a resumed run goes on with the batches it would have
        seen.
        """

    def evaluation_batches(self, data, limit: int | None = None) -> list:
        """A key for every batch of one pass over the data, or for `limit` of them spread evenly over it."""

    def evaluation_batch(self, data, key) -> dict[str, np.ndarray]:
        """The batch of a key, always the same."""
