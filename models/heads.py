"""Heads: what turns a pretrained body into a model for one task, by fine-tuning both together.

A body is anything that makes vectors of texts (BERT, GPT, ELMo, ...). It has
    feature_width                the length of its vectors
    features(batch)  (B, T, C)   a vector for every token
    summary(batch)   (B, C)      a vector for every text
    pools                        whether summary needs no further layer; otherwise the head brings one
and perhaps
    penalty()                    a scalar added to the loss (ELMo)
    own_loss()  (texts,)         the loss of what it still learns itself from the texts just read (GPT: to predict them)
A batch is a dict of arrays with the batch axis first: "ids" (B, T), "mask" (B, T), true on tokens, what else the body
reads, and the task's targets. Devlin et al. 2018, section 4; Radford et al. 2018, section 3.2.
"""

from __future__ import annotations

import numpy as np

from models.generate.answers import answer_ids
from nn import Dropout, Linear, Module
from tinytensor import Tensor, ops
from tinytensor.ops.softmax import IGNORED

FAR_BELOW = -1e4  # added to the scores of places that must not be chosen


class Head(Module):
    """A body, dropout and one linear layer. What the layer reads, and the loss, differ from task to task."""

    def __init__(self, body: Module, outputs: int, dropout: float, pooled: bool):
        """pooled: the layer reads summaries, not every token's vector."""
        C = body.feature_width
        self.body = body
        self.dropout = Dropout(dropout)
        self.dense = Linear(C, C) if pooled and not body.pools else None  # as RoBERTa's published head has one
        self.out = Linear(C, outputs)

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
        """What each part of the loss is the mean of: the task's predictions, and the examples for the body's own."""
        return self.task_counts(batch) | {"examples": len(batch["mask"])}

    def loss(self, batch: dict, counts: dict | None = None) -> Tensor:
        """The task's mean loss; the penalty of a body that has one; and its own loss, as the mean over an example's
        texts and over examples. Shards of a batch add up."""
        counts = counts or self.counts(batch)
        loss = self.mean_loss(batch, counts)
        if (penalty := self.body.penalty()) is not None:
            main, total = next(iter(counts.items()))
            penalty = penalty * (self.counts(batch)[main] / max(1, total))
            loss = loss + penalty.astype(loss.dtype)
        if (own := self.body.own_loss()) is not None:
            own = own.sum() * (len(batch["mask"]) / own.size) / counts["examples"]
            loss = loss + own.astype(loss.dtype)
        return loss


class Classifier(Head):
    """Which of `labels` classes is this text, or pair of texts?   Scores (B, K);  targets: "label" (B,)"""

    def __init__(self, body: Module, labels: int, dropout: float = 0.1):
        super().__init__(body, labels, dropout, pooled=True)

    def __call__(self, batch: dict) -> Tensor:
        return self.from_summary(batch)

    def task_counts(self, batch: dict) -> dict[str, int]:
        return {"label": len(batch["label"])}

    def mean_loss(self, batch: dict, counts: dict) -> Tensor:
        """The mean of -log p(label), in nats per text."""
        return ops.cross_entropy(self(batch), batch["label"], reduction="sum") / counts["label"]


class Regressor(Head):
    """A number for this text, or pair of texts.   (B,);  targets: "score" (B,)"""

    def __init__(self, body: Module, dropout: float = 0.1):
        super().__init__(body, 1, dropout, pooled=True)

    def __call__(self, batch: dict) -> Tensor:
        return self.from_summary(batch).reshape(-1)

    def task_counts(self, batch: dict) -> dict[str, int]:
        return {"score": len(batch["score"])}

    def mean_loss(self, batch: dict, counts: dict) -> Tensor:
        """The mean squared error."""
        score = self(batch)
        error = score - Tensor(score.xp.asarray(batch["score"], score.dtype))
        return (error * error).sum() / counts["score"]


class Tagger(Head):
    """Which of `tags` does each token have?   Scores (B, T, K);  targets: "tags" (B, T), -100 where nothing is asked"""

    def __init__(self, body: Module, tags: int, dropout: float = 0.1):
        super().__init__(body, tags, dropout, pooled=False)

    def __call__(self, batch: dict) -> Tensor:
        return self.from_features(batch)

    def task_counts(self, batch: dict) -> dict[str, int]:
        return {"tags": int((batch["tags"] != -100).sum())}

    def mean_loss(self, batch: dict, counts: dict) -> Tensor:
        """The mean of -log p(tag), in nats per tagged token."""
        return ops.cross_entropy(self(batch), batch["tags"], reduction="sum") / max(1, counts["tags"])


class Answerer(Head):
    """At which tokens does the answer begin and end?   Scores (B, T, 2);  targets: "span" (B, 2), both ends included

    The first token, [CLS], stands for "no answer". Only it and the tokens of the passage, where "answerable" (B, T) is
    true, can be chosen.
    """

    def __init__(self, body: Module, dropout: float = 0.1):
        super().__init__(body, 2, dropout, pooled=False)

    def __call__(self, batch: dict) -> Tensor:
        scores = self.from_features(batch)
        closed = np.where(batch["answerable"], 0.0, FAR_BELOW)[..., None]
        return scores + Tensor(scores.xp.asarray(closed, scores.dtype))

    def task_counts(self, batch: dict) -> dict[str, int]:
        return {"span": len(batch["span"])}

    def mean_loss(self, batch: dict, counts: dict) -> Tensor:
        """The mean of -log p(first token) and -log p(last token), in nats per question."""
        scores = self(batch).swapaxes(1, 2)  # (B, 2, T): two choices among T places
        return ops.cross_entropy(scores, batch["span"], reduction="sum") / (2 * counts["span"])


class Chooser(Head):
    """Which of N texts is right?   Scores (B, N) of ids (B, N, T);  targets: "choice" (B,)"""

    def __init__(self, body: Module, dropout: float = 0.1):
        super().__init__(body, 1, dropout, pooled=True)

    def __call__(self, batch: dict) -> Tensor:
        return self.scored(self.summaries(batch)).reshape(batch["ids"].shape[:2])

    def task_counts(self, batch: dict) -> dict[str, int]:
        return {"choice": len(batch["choice"])}

    def mean_loss(self, batch: dict, counts: dict) -> Tensor:
        """The mean of -log p(choice), in nats per question."""
        return ops.cross_entropy(self(batch), batch["choice"], reduction="sum") / counts["choice"]


class Writer(Module):
    """No head at all: an encoder-decoder, which writes its answer (T5).   Token ids (B, n), up to `longest` of them;
    targets: "targets" (B, T), padded with -100
    """

    def __init__(self, body: Module, longest: int):
        self.body, self.longest = body, longest

    def __call__(self, batch: dict) -> Tensor:
        """The most probable token at each step; from the end on -100, which is no token."""
        ids = answer_ids(self.body, batch["ids"], batch.get("mask"), self.longest)
        ended = (ids == self.body.config.eos_id).cumsum(axis=1) > 0
        return Tensor(np.where(ended, IGNORED, ids))

    def counts(self, batch: dict) -> dict[str, int]:
        return self.body.counts(batch)

    def loss(self, batch: dict, counts: dict | None = None) -> Tensor:
        """The mean of -log p(target), in nats per token."""
        return self.body.loss(batch, counts)
