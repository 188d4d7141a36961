"""Output layers that turn vectors into a loss over a vocabulary: in full, from a sample, or frequent words first.

The full softmax compares every position with every word: for 800,000 words that is nearly all of a language model's
work. Two ways out: learn from a few thousand words drawn at random instead, or spend less on the words that are rare.
Each layer has `loss(x, targets)`: the sum of -log p(target) over all rows, in nats, rows with target -100 left out;
and `scores(x)`, of all classes, whose softmax is p.
"""

import math
from collections.abc import Sequence

import numpy as np

from nn import init
from nn.layers import Linear
from nn.module import Module, Parameter
from tinytensor import Tensor, ops, random
from tinytensor.ops.softmax import IGNORED


class FullSoftmax(Module):
    """p = softmax(x @ weight^T + bias).   x: (..., width); weight: (classes, width)."""

    def __init__(self, width: int, classes: int):
        self.weight = Parameter.make((classes, width), init.normal(1 / math.sqrt(width)))
        self.bias = Parameter.make((classes,), init.zeros)

    def scores(self, x: Tensor) -> Tensor:
        """(..., classes)"""
        return ops.linear(x, self.weight, self.bias)

    def loss(self, x: Tensor, targets: np.ndarray) -> Tensor:
        return ops.linear_cross_entropy(x, self.weight, targets, self.bias, ignore_index=IGNORED, reduction="sum")


class SampledSoftmax(FullSoftmax):
    """The full softmax, trained on the target and `samples` other classes at a time (Jean et al. 2015, section 3).

    The classes must be ordered by falling frequency: they are drawn from P(k) = ln((k + 2) / (k + 1)) / ln(V + 1),
    which is about how often the k-th most frequent word of a text occurs (Zipf). That frequent words are drawn more
    often is made good by taking ln(how often each class is expected) off its logit, and a sample that is the target
    itself is left out. All rows of a batch share one sample without repetitions. In evaluation the softmax is full.
    """

    def __init__(self, width: int, classes: int, samples: int):
        super().__init__(width, classes)
        if not 1 <= samples < classes:
            raise ValueError(f"a sample of {samples} must be at least 1 and fewer than the {classes} classes")
        self.samples = samples

    def loss(self, x: Tensor, targets: np.ndarray) -> Tensor:
        if not self.training:
            return super().loss(x, targets)
        targets = targets.reshape(-1)
        kept = np.flatnonzero(targets != IGNORED)
        x, targets = x.reshape(-1, x.shape[-1])[kept], targets[kept]
        N = len(targets)
        sample, tries = draw_zipf(len(self.weight), self.samples)
        ids = np.concatenate([targets, sample])
        rows = ops.embedding(self.weight, ids)  # (N + samples, width)
        shift = self.bias[ids] - np.log(expected_counts(ids, len(self.weight), tries)).astype(x.dtype)
        true = (x * rows[:N]).sum(axis=-1) + shift[:N]  # (N,)
        others = ops.linear(x, rows[N:], shift[N:])  # (N, samples)
        others = ops.where(targets[:, None] == sample, -1e30, others)
        logits = ops.concatenate([true.expand_dims(1), others], axis=1)
        return ops.cross_entropy(logits, np.zeros(N, np.int64), reduction="sum")


def draw_zipf(classes: int, count: int) -> tuple[np.ndarray, int]:
    """(`count` different classes drawn from P(k) = ln((k + 2) / (k + 1)) / ln(classes + 1), how many draws it took)."""
    draws = np.zeros(0, np.int64)
    while True:
        uniform = random.generator().random(2 * count)
        more = np.expm1(uniform * math.log(classes + 1)).astype(np.int64)  # P(k) = P(k <= e^(u ln(V+1)) - 1 < k + 1)
        draws = np.concatenate([draws, np.minimum(more, classes - 1)])
        found, first = np.unique(draws, return_index=True)
        if len(found) >= count:
            order = np.sort(first)[:count]
            return draws[order], int(order[-1]) + 1


def expected_counts(ids: np.ndarray, classes: int, tries: int) -> np.ndarray:
    """How often each class is expected in a sample that took `tries` draws:  1 - (1 - P(k))^tries."""
    p = np.log1p(1 / (ids + 1.0)) / math.log(classes + 1)
    return -np.expm1(tries * np.log1p(-p))


class AdaptiveSoftmax(Module):
    """Frequent classes at full width, rarer ones in clusters at less and less (Grave et al. 2017, arXiv:1609.04309).

    The classes must be ordered by falling frequency. Those below cutoffs[0] are told apart at once, together with one
    entry for each cluster [cutoffs[i], cutoffs[i+1]); a cluster's classes only where it was the right one, from vectors
    narrowed to width / shrink^(i+1). Parameters are named as those of torch.nn.AdaptiveLogSoftmaxWithLoss.
    """

    def __init__(self, width: int, classes: int, cutoffs: Sequence[int], shrink: float = 4.0):
        self.cutoffs = [*cutoffs, classes]
        if any(a >= b for a, b in zip([0, *self.cutoffs], self.cutoffs)) or len(self.cutoffs) < 2:
            raise ValueError(f"cutoffs {list(cutoffs)} must rise from above 0 to below the {classes} classes")
        weights = init.normal(1 / math.sqrt(width))
        self.head = Linear(width, cutoffs[0] + len(cutoffs), bias=False, weight_init=weights)
        self.tail = []
        for index, (start, stop) in enumerate(zip(self.cutoffs, self.cutoffs[1:])):
            narrow = max(1, int(width // shrink ** (index + 1)))
            into = Linear(width, narrow, bias=False, weight_init=weights)
            self.tail.append([into, Linear(narrow, stop - start, False, init.normal(1 / math.sqrt(narrow)))])

    def scores(self, x: Tensor) -> Tensor:
        """(..., classes): log p, a cluster's classes sharing what its entry in the head has."""
        head, *entries = self.head(x).log_softmax().split([self.cutoffs[0], *[1] * len(self.tail)], -1)
        parts = [entry + out(into(x)).log_softmax() for entry, (into, out) in zip(entries, self.tail)]
        return ops.concatenate([head, *parts], axis=-1)

    def loss(self, x: Tensor, targets: np.ndarray) -> Tensor:
        targets = targets.reshape(-1)
        x = x.reshape(-1, x.shape[-1])
        clusters = np.searchsorted(self.cutoffs, targets, side="right")  # 0: in the head, i: in cluster i - 1
        heads = np.where(clusters > 0, self.cutoffs[0] + clusters - 1, targets)
        total = ops.linear_cross_entropy(x, self.head.weight, heads, ignore_index=IGNORED, reduction="sum")
        for index, (into, out) in enumerate(self.tail):
            rows = np.flatnonzero(clusters == index + 1)
            if len(rows):
                ids = targets[rows] - self.cutoffs[index]
                total = total + ops.linear_cross_entropy(into(x[rows]), out.weight, ids, reduction="sum")
        return total
