"""Softmax and the losses: from scores to probabilities, and from probabilities to one number to make smaller."""

from __future__ import annotations

import numpy as np

from tinytensor.backend import array_module, backend_of, device_of, repeated
from tinytensor.ops.elementwise import check_alike, operands
from tinytensor.tensor import Tensor, record

IGNORED = -100  # a target that does not count, as in PyTorch


def softmax(a: Tensor, axis: int = -1) -> Tensor:
    """y = exp(a) / sum(exp(a)) along `axis`.   dL/da = y * (g - sum(g * y))   with g = dL/dy"""
    return _along(axis, a, "softmax")


def log_softmax(a: Tensor, axis: int = -1) -> Tensor:
    """y = a - log(sum(exp(a))) along `axis`.   dL/da = g - exp(y) * sum(g)   with g = dL/dy"""
    return _along(axis, a, "log_softmax")


def _along(axis: int, a: Tensor, name: str) -> Tensor:
    """The kernels work on the last axis; any other is brought there and back."""
    kernels = backend_of(a.data)
    forward, gradient = getattr(kernels, name), getattr(kernels, name + "_backward")
    if a.ndim == 0:
        raise ValueError(f"{name}: a 0-d tensor has no axis to normalize over")
    y = forward(a.data.swapaxes(axis, -1))

    def backward(g):
        return (gradient(g.swapaxes(axis, -1), y).swapaxes(axis, -1),)

    backward.__qualname__ = name
    return record(y.swapaxes(axis, -1), (a,), backward)


def cross_entropy(
    logits: Tensor,
    targets,
    *,
    ignore_index: int = IGNORED,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """The negative log probability of the right class, in nats.

    loss = logsumexp(logits) - logits[target],    averaged over all rows whose target is not `ignore_index`

    logits: (..., V); targets: (...) integers in [0, V).  Returns a scalar; with reduction="none" one loss per row.
    label_smoothing: that share of the target is spread evenly over all classes (Szegedy et al. 2016, section 7).
    z_loss: adds z_loss * logsumexp^2, which keeps logits from drifting (Chowdhery et al. 2022, section 5).
    dL/dlogits = (softmax(logits) - one_hot(target)) / number of rows
    """
    _check_reduction(reduction)
    xp, shape = logits.xp, logits.shape
    ids = check_targets("cross_entropy", targets, shape[:-1], shape[-1], ignore_index)
    kernels = backend_of(logits.data)
    losses, saved = kernels.cross_entropy(
        logits.data.reshape(-1, shape[-1]),
        ids,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
    )

    def backward(g):
        return (kernels.cross_entropy_backward(_per_row(g, ids, ignore_index, reduction, xp), saved).reshape(shape),)

    return record(_reduced(losses, ids, shape[:-1], ignore_index, reduction), (logits,), backward)


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    targets,
    bias: Tensor | None = None,
    *,
    ignore_index: int = IGNORED,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """cross_entropy(linear(x, weight, bias), targets), fused: the logits of a large vocabulary are never normalized.

    x: (..., C); weight: (V, C); bias: (V,); targets: (...) integers in [0, V).
    Returns a scalar, or with reduction="none" (...).  With p = softmax(x @ weight^T + bias) - one_hot(target):
        dL/dx = p @ weight,   dL/dweight = p^T @ x,   dL/dbias = sum(p),   over the rows
    """
    _check_reduction(reduction)
    if x.shape[-1] != weight.shape[-1]:
        raise ValueError(f"linear_cross_entropy: x {x.shape} and weight {weight.shape} must end in the same length")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(f"linear_cross_entropy: bias has shape {bias.shape}, expected {weight.shape[:1]}")
    check_alike("linear_cross_entropy", x.data, weight.data)
    xp, shape = x.xp, x.shape
    ids = check_targets("linear_cross_entropy", targets, shape[:-1], weight.shape[0], ignore_index)
    kernels = backend_of(x.data)
    losses, saved = kernels.linear_cross_entropy(
        x.data.reshape(-1, shape[-1]),
        weight.data,
        ids,
        bias=None if bias is None else bias.data,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
    )

    def backward(g):
        rows = _per_row(g, ids, ignore_index, reduction, xp)
        dx, dw, db = kernels.linear_cross_entropy_backward(rows, saved, out=weight.gradient_buffer())
        return dw, dx.reshape(shape), db

    # The weight first, as in `linear`.
    return record(_reduced(losses, ids, shape[:-1], ignore_index, reduction), (weight, x, bias), backward)


def check_targets(name: str, targets, shape: tuple[int, ...], classes: int, ignore_index: int):
    """The targets as a flat array of integers, each a class or `ignore_index`."""
    ids = targets.data if isinstance(targets, Tensor) else targets
    ids = ids if hasattr(ids, "dtype") else np.asarray(ids)
    if ids.dtype.kind not in "iu":
        raise ValueError(f"{name}: targets must be integers, not {ids.dtype}")
    if ids.shape != shape:
        raise ValueError(f"{name}: targets have shape {ids.shape}, expected {shape} to match the predictions")
    ids = ids.reshape(-1)
    wrong = ((ids < 0) | (ids >= classes)) & (ids != ignore_index)
    if not (repeated() and device_of(ids) == "cuda") and wrong.any():
        raise ValueError(f"{name}: target {int(ids[wrong][0])} is outside the {classes} classes 0..{classes - 1}")
    return ids


def count_targets(targets, ignore_index: int = IGNORED) -> int:
    """How many targets a mean loss is the mean of: those that are not ignored, and 1 where all are (their sum is 0)."""
    return max(1, int((targets != ignore_index).sum()))


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"unknown reduction {reduction!r}; choose from mean, sum, none")


def _reduced(losses, ids, shape: tuple[int, ...], ignore_index: int, reduction: str):
    """Losses per row -> what was asked for. The mean leaves ignored rows out of the count."""
    if reduction == "none":
        return losses.reshape(shape)
    total = losses.sum()
    return total if reduction == "sum" else total / count_targets(ids, ignore_index)


def _per_row(g, ids, ignore_index: int, reduction: str, xp):
    """The gradient of each row's loss, from that of what `_reduced` made of them."""
    if reduction == "none":
        return g.reshape(-1)
    share = g if reduction == "sum" else g / count_targets(ids, ignore_index)
    return xp.broadcast_to(share, (len(ids),))


def mse_loss(prediction: Tensor, target) -> Tensor:
    """mean((prediction - target)^2).   dL/dprediction = 2 (prediction - target) / n, the opposite for the target"""
    x, y = operands("mse_loss", prediction, target)
    if x.shape != y.shape:
        raise ValueError(f"mse_loss: prediction {x.shape} and target {y.shape} must have the same shape")
    difference = x - y

    def backward(g):
        dx = difference * (2 * g / difference.size)
        return dx, -dx

    return record((difference * difference).mean(), (prediction, target), backward)


def binary_cross_entropy(logits: Tensor, targets) -> Tensor:
    """mean(log(1 + e^x) - x * target), for scores x and targets in [0, 1].   dL/dx = (sigmoid(x) - target) / n

    Written as max(x, 0) - x * target + log(1 + e^-|x|), in which nothing overflows.
    """
    x, y = operands("binary_cross_entropy", logits, targets)
    if x.shape != y.shape:
        raise ValueError(f"binary_cross_entropy: logits {x.shape} and targets {y.shape} must have the same shape")
    xp = array_module(x)
    losses = xp.maximum(x, 0) - x * y + xp.log1p(xp.exp(-xp.abs(x)))
    n = x.size
    return record(
        losses.mean(), (logits, targets), lambda g: ((0.5 * xp.tanh(0.5 * x) + 0.5 - y) * (g / n), -x * (g / n))
    )
