"""Heads: what turns a pretrained body into a model for one task, by fine-tuning both together.

What a body and a model promise stands in contract.py; each task's own head stands with the task, in train/tasks. A
batch is a dict of arrays with the batch axis first: "ids" (B, T), "mask" (B, T), true on tokens, what else the body
reads, and the task's right answers. Devlin et al. 2018, section 4; Radford et al. 2018, section 3.2.
"""

from typing import ClassVar

from models.contract import Body, Model
from nn import Dropout, Linear, Module
from tinytensor import Tensor, ops


class Head(Module, Model):
    """A body, dropout and one linear layer. What the layer reads, and the loss, differ from task to task."""

    target: ClassVar[str]  # the array of a batch that holds the right answers
    pooled: ClassVar[bool] = True  # whether the layer reads summaries, not every token's vector

    def __init__(self, body: Body, outputs: int = 1, dropout: float = 0.1):
        C = body.feature_width
        self.body = body
        self.dropout = Dropout(dropout)
        self.dense = Linear(C, C) if self.pooled and not body.pools else None  # as RoBERTa's published head has one
        self.out = Linear(C, outputs)

    @property
    def config(self):
        """The body's."""
        return self.body.config

    def __call__(self, batch: dict) -> Tensor:
        return self.scores(batch)

    def right(self, batch: dict):
        return batch[self.target]

    def summaries(self, batch: dict) -> Tensor:
        """(B, N, C) where each example has N texts, with arrays of (B, N, T)."""
        B, N = batch["mask"].shape[:2]
        texts = {name: a.reshape(B * N, *a.shape[2:]) for name, a in batch.items() if a.ndim > 2}
        return self.body.summary(texts).reshape(B, N, -1)

    def from_summary(self, batch: dict) -> Tensor:
        """(B, outputs). The summaries of several texts, a pair in both orders, are added up."""
        x = self.body.summary(batch) if batch["mask"].ndim == 2 else self.summaries(batch).sum(axis=1)
        return self.scored(x)

    def scored(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., outputs)"""
        x = self.dropout(x)
        if self.dense:
            x = self.dropout(ops.tanh(self.dense(x)))
        return self.out(x)

    def from_features(self, batch: dict) -> Tensor:
        """(B, T, outputs)"""
        return self.out(self.dropout(self.body.features(batch)))

    def counts(self, batch: dict) -> dict[str, int]:
        """What each part of the loss is the mean of: the task's questions, and the examples for the body's own."""
        return {self.target: ops.count_targets(self.right(batch)), "examples": len(batch["mask"])}

    def loss(self, batch: dict, counts: dict | None = None) -> Tensor:
        """The task's mean loss; the body's penalty; and its own loss, as the mean over an example's texts and over
        examples. Shards of a batch add up."""
        counts = counts or self.divisors(batch)
        number = max(1, counts[self.target])
        loss = self.loss_sum(batch) / number
        if (penalty := self.body.penalty()) is not None:
            loss = loss + (penalty * (self.counts(batch)[self.target] / number)).astype(loss.dtype)
        if (own := self.body.own_loss()) is not None:
            own = own.sum() * (len(batch["mask"]) / own.size) / counts["examples"]
            loss = loss + own.astype(loss.dtype)
        return loss

    def loss_sum(self, batch: dict) -> Tensor:
        """The sum over the batch's questions of -log p(right answer), in nats."""
        return ops.cross_entropy(self.scores(batch), self.right(batch), reduction="sum")
