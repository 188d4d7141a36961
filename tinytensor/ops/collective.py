"""Collectives as ops: what ranks exchange in the middle of a model, each with its gradient, another exchange.

A model that is cut over the ranks of a group (Megatron-LM: Shoeybi et al. 2019, arXiv:1909.08053) knows two kinds of
values: those that all ranks have alike, and those of which each has a part or an addend. The loss is one that all have
alike, and so is the gradient of a value that they have alike. With x -> y, and g = dL/dy:

    enter      alike -> alike, from where each computes something else    y = x                 dx = sum of all ranks' g
    total      addends -> alike                                           y = sum of x          dx = g
    part       alike -> parts                                             y = own part of x     dx = all ranks' g joined
    gather     parts -> alike                                             y = all parts joined  dx = own part of g
    exchange   each rank sends every other one a row                      y[j] = x[own] of j    dx = the same of g

Every rank of the group must call them alike, forward and backward.
"""

from collections.abc import Sequence

from tinytensor.backend import array_module, backend_of
from tinytensor.distributed import Communicator, share
from tinytensor.ops.softmax import IGNORED, reduced_rows, target_ids
from tinytensor.tensor import Tensor, record


def enter(x: Tensor, group: Communicator) -> Tensor:
    """y = x, where ranks begin to compute different things with it; "f" in Megatron-LM.   dL/dx = sum of dL/dy"""
    return record("enter", x.data, (x,), lambda g: (_summed(g, group),))


def total(x: Tensor, group: Communicator) -> Tensor:
    """y = the sum of all ranks' x; "g" in Megatron-LM.   dL/dx = dL/dy"""
    return record("total", _summed(x.data, group), (x,), lambda g: (g,))


def part(x: Tensor, group: Communicator, axis: int = 0) -> Tensor:
    """y = this rank's share of x along an axis.   dL/dx = all ranks' dL/dy, joined"""
    parts = [share(x.shape[axis], rank, group.size) for rank in range(group.size)]
    return record("part", _own(x.data, group, axis, parts), (x,), lambda g: (_joined(g, group, axis, parts),))


def gather(x: Tensor, group: Communicator, axis: int = 0, parts: Sequence[slice] | None = None) -> Tensor:
    """y = all ranks' x, joined along an axis.   parts: where each lies; all are equally long if None.

    dL/dx = this rank's part of dL/dy
    """
    n = x.shape[axis]
    parts = parts or [slice(rank * n, (rank + 1) * n) for rank in range(group.size)]
    return record("gather", _joined(x.data, group, axis, parts), (x,), lambda g: (_own(g, group, axis, parts),))


def exchange(x: Tensor, group: Communicator) -> Tensor:
    """x (ranks, ...) -> y (ranks, ...), whose row j is what rank j has at this rank's place (an all-to-all).

    dL/dx = the same of dL/dy
    """
    if len(x) != group.size:
        raise ValueError(f"exchange: x {x.shape} must have a row for each of {group.size} ranks")
    swapped = lambda a: group.all_to_all(array_module(a).ascontiguousarray(a)).reshape(x.shape)
    return record("exchange", swapped(x.data), (x,), lambda g: (swapped(g),))


def cut_cross_entropy(logits: Tensor, targets, group: Communicator, parts: Sequence[slice], *,
                      ignore_index: int = IGNORED, label_smoothing: float = 0.0, reduction: str = "mean") -> Tensor:
    """ops.cross_entropy where each rank has the logits of its part of the V classes.

    logits: (..., n), of the classes in this rank's slice of `parts`; targets: (...), of all.
    A rank's highest logit m', its sum of exp(logit - m'), what the target takes of its logits (0 if that is another's)
    and label_smoothing of their mean are all that the others need, 3 numbers a row in place of V:
        m = max m',   S = sum of exp(m' - m) times its sum,   loss = m + log S - sum of what the targets take
    dL/dlogits = exp(logits - m) / S - (1 - smoothing) one_hot(target) - smoothing / V, without an exchange
    """
    shape, own, xp, kernels = logits.shape, parts[group.rank], logits.xp, backend_of(logits.data)
    ids = target_ids("cut_cross_entropy", targets, shape[:-1], parts[-1].stop, ignore_index, reduction, kernels)
    scores = logits.data.reshape(-1, shape[-1])  # (N, n)
    rows = xp.flatnonzero((ids >= own.start) & (ids < own.stop))
    columns = ids[rows] - own.start
    told = xp.zeros((group.size, 3, len(ids)), scores.dtype)
    highest = scores.max(axis=1)
    weights = xp.exp(scores - highest[:, None])
    told[group.rank, 0], told[group.rank, 1] = highest, weights.sum(axis=1)
    even = label_smoothing / parts[-1].stop
    told[group.rank, 2] = even * scores.sum(axis=1)
    told[group.rank, 2, rows] += (1 - label_smoothing) * scores[rows, columns]
    high, sums, picked = group.all_gather(told).swapaxes(0, 1)  # (ranks, N) each
    top = high.max(axis=0)
    sums = (sums * xp.exp(high - top)).sum(axis=0)
    counts = ids != ignore_index
    losses = xp.where(counts, top + xp.log(sums) - picked.sum(axis=0), 0)
    loss, per_row = reduced_rows(losses, ids, shape[:-1], ignore_index, reduction)
    weights *= (xp.exp(highest - top) / sums)[:, None]

    def backward(g):
        g = xp.where(counts, per_row(g), 0)
        dlogits = (weights - even) * g[:, None]
        dlogits[rows, columns] -= (1 - label_smoothing) * g[rows]
        return (dlogits.reshape(shape),)

    return record("cut_cross_entropy", loss, (logits,), backward)


def _summed(a, group: Communicator):
    return group.all_reduce(array_module(a).array(a, order="C"))


def _own(a, group: Communicator, axis: int, parts: Sequence[slice]):
    return a.swapaxes(0, axis)[parts[group.rank]].swapaxes(0, axis)


def _joined(a, group: Communicator, axis: int, parts: Sequence[slice]):
    """All ranks' arrays, of which this is one, beside one another along an axis."""
    xp, a = array_module(a), a.swapaxes(0, axis)
    whole = xp.empty((parts[-1].stop, *a.shape[1:]), a.dtype)
    whole[parts[group.rank]] = a
    return group.all_gather(whole, parts).swapaxes(0, axis)
