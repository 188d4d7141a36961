"""Softmax and cross-entropy: from scores to probabilities, and from probabilities to one number to make smaller.

The loss of logits that are there already, and the other losses, are in losses.py.
"""

import numpy as np

from tinytensor.backend import array_module, as_array, backend_of
from tinytensor.ops import chunks
from tinytensor.ops.basic import check_alike, check_fits, check_reduction, floats, rounded, wide
from tinytensor.tensor import Tensor, raw, record, retaining

IGNORED = -100  # a target that does not count, as in PyTorch


def softmax(a: Tensor, axis: int = -1) -> Tensor:
    """y = exp(a) / sum(exp(a)) along `axis`.   dL/da = y * (g - sum(g * y))   with g = dL/dy"""
    return _along("softmax", axis, a, log=False)


def log_softmax(a: Tensor, axis: int = -1) -> Tensor:
    """y = a - log(sum(exp(a))) along `axis`.   dL/da = g - exp(y) * sum(g)   with g = dL/dy"""
    return _along("log_softmax", axis, a, log=True)


def _along(name: str, axis: int, a: Tensor, log: bool) -> Tensor:
    """The kernels work on the last axis; any other is brought there and back."""
    kernels, x, shape = backend_of(a.data), floats(a), a.shape
    x = x if shape else x.reshape(1)  # a number is a row of one
    y = kernels.softmax(x.swapaxes(axis, -1), log)
    back = lambda g: kernels.softmax_backward(g.reshape(x.shape).swapaxes(axis, -1), y, log).swapaxes(axis, -1)
    return record(name, y.swapaxes(axis, -1).reshape(shape), (a,), lambda g: (back(g).reshape(shape),))


def plain_cross_entropy(logits, targets, *, ignore_index=IGNORED, label_smoothing=0.0, z_loss=0.0):
    """What `cross_entropy` computes of every row, on NumPy arrays: the tests hold the kernels against these lines."""
    counts = targets != ignore_index  # (N,)
    highest = logits.max(axis=-1, keepdims=True, initial=np.finfo(logits.dtype).min)
    log_z = (highest + np.log(np.exp(logits - highest).sum(axis=-1, keepdims=True)))[:, 0]  # (N, V) -> (N,)
    picked = logits[np.arange(len(logits)), np.where(counts, targets, 0)]
    losses = (1 - label_smoothing) * (log_z - picked) + label_smoothing * (log_z - logits.mean(axis=-1))
    return np.where(counts, losses + z_loss * log_z**2, 0)


def linear_cross_entropy(x: Tensor, weight: Tensor, targets, bias: Tensor | None = None, *, ignore_index: int = IGNORED,
                         label_smoothing: float = 0.0, z_loss: float = 0.0, reduction: str = "mean") -> Tensor:
    """cross_entropy(linear(x, weight, bias), targets), fused: the logits of a large vocabulary are never normalized.

    x: (..., C); weight: (V, C); bias: (V,); targets: (...) integers in [0, V).
    Returns a scalar, or with reduction="none" (...).  With p = softmax(x @ weight^T + bias) - one_hot(target):
        dL/dx = p @ weight,   dL/dweight = p^T @ x,   dL/dbias = sum(p),   over the rows
    """
    if x.shape[-1] != weight.shape[-1]:
        raise ValueError(f"linear_cross_entropy: x {x.shape} and weight {weight.shape} must end in the same length")
    check_fits("linear_cross_entropy", "bias", bias, weight.shape[:1], "weight", weight)
    check_alike("linear_cross_entropy", x.data, weight.data)
    shape, kernels = x.shape, backend_of(x.data)
    ids = target_ids("linear_cross_entropy", targets, shape[:-1], len(weight), ignore_index, reduction, kernels)
    how = dict(ignore_index=ignore_index, label_smoothing=label_smoothing, z_loss=z_loss)
    if ids.size * len(weight) > chunks.MOST:
        return chunks.in_chunks(linear_cross_entropy, x, weight, raw(targets), bias, reduction, **how)
    losses, saved = kernels.linear_cross_entropy(x.data.reshape(-1, shape[-1]), weight.data, ids, bias=raw(bias), **how)
    total, per_row = reduced_rows(losses, ids, shape[:-1], ignore_index, reduction)

    def backward(g):
        dx, dw, db = kernels.linear_cross_entropy_backward(per_row(g), saved, out=weight.gradient_buffer(),
                                                           keep=retaining())
        return dw, dx.reshape(shape), db

    return record("linear_cross_entropy", total, (weight, x, bias), backward)  # the weight first, as in `linear`


def count_targets(targets, ignore_index: int = IGNORED) -> int:
    """How many targets a mean loss is the mean of: those that are not ignored."""
    return int((targets != ignore_index).sum())


def target_ids(name: str, targets, shape: tuple[int, ...], classes: int, ignore_index: int, reduction: str, kernels):
    """The targets as a flat array of integers, each a class or `ignore_index`."""
    check_reduction(reduction)
    ids = as_array(raw(targets))
    if ids.dtype.kind not in "iu":
        raise ValueError(f"{name}: targets must be integers, not {ids.dtype}")
    if ids.shape != shape:
        raise ValueError(f"{name}: targets have shape {ids.shape}, expected {shape} to match the predictions")
    ids = ids.reshape(-1)
    if (wrong := kernels.id_outside(ids, classes, ignore_index)) is not None:
        raise ValueError(f"{name}: target {wrong} is outside the {classes} classes 0..{classes - 1}")
    return ids


def reduced_rows(losses, ids, shape: tuple[int, ...], ignore_index: int, reduction: str) -> tuple:
    """What was asked for of the losses per row, and what makes the gradient of each row's loss from that of it."""
    if reduction == "none":
        return losses.reshape(shape), lambda g: g.reshape(-1)
    xp, dtype, rows = array_module(losses), losses.dtype, losses.shape
    total = losses.sum(dtype=wide(dtype))
    if reduction == "sum":
        return rounded(total, dtype), lambda g: xp.broadcast_to(g, rows)
    # Left as an array: to read the number would be to wait for the GPU.
    count = array_module(ids).maximum((ids != ignore_index).sum(), 1).astype(total.dtype)
    return rounded(total / count, dtype), lambda g: xp.broadcast_to(rounded(g / count, dtype), rows)
