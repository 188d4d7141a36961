"""Losses: of one class in many, also with weights or towards probabilities; of yes or no; of numbers.

reduction: "mean" over all elements or rows (in cross_entropy those that count, by their weights), "sum", or "none".
"""

import numpy as np

from tinytensor.backend import array_module, as_array, backend_of, beside
from tinytensor.ops.basic import check_alike, check_reduction, floats, operands, rounded, wide
from tinytensor.ops.softmax import IGNORED, log_softmax, reduced_rows, target_ids
from tinytensor.ops.sorting import take_along_axis
from tinytensor.tensor import Tensor, raw, record


def cross_entropy(logits: Tensor, targets, weight=None, *, ignore_index: int = IGNORED, label_smoothing: float = 0.0,
                  z_loss: float = 0.0, reduction: str = "mean") -> Tensor:
    """The negative log probability of the right class, in nats.

    loss = logsumexp(logits) - logits[target],    averaged over all rows whose target is not `ignore_index`

    logits: (..., V); targets: (...) integers in [0, V), or probabilities (..., V).  Returns a scalar; with
    reduction="none" one loss per row.   weight: (V,), how much each class counts.
    label_smoothing: that share of the target is spread evenly over all classes (Szegedy et al. 2016, section 7).
    z_loss: adds z_loss * logsumexp^2, which keeps logits from drifting (Chowdhery et al. 2022, section 5).
    dL/dlogits = (softmax(logits) - one_hot(target)) / number of rows
    """
    shape, kernels, scores = logits.shape, backend_of(logits.data), floats(logits)
    soft = as_array(raw(targets)).dtype.kind not in "iub"
    if soft or weight is not None:
        check_reduction(reduction)
        if z_loss:
            raise ValueError("cross_entropy: z_loss goes with one class a row, and without weights")
    if soft:
        return soft_cross_entropy(log_softmax(logits), targets, weight, label_smoothing, reduction)
    ids = target_ids("cross_entropy", targets, shape[:-1], shape[-1], ignore_index, reduction, kernels)
    if weight is not None:
        options = ignore_index, label_smoothing, reduction
        return weighted_cross_entropy(log_softmax(logits), targets, weight, *options)
    losses, saved = kernels.cross_entropy(scores.reshape(-1, shape[-1]), ids, ignore_index=ignore_index,
                                          label_smoothing=label_smoothing, z_loss=z_loss)
    total, per_row = reduced_rows(losses, ids, shape[:-1], ignore_index, reduction)
    backward = lambda g: (kernels.cross_entropy_backward(per_row(g), saved).reshape(shape),)
    return record("cross_entropy", total, (logits,), backward)


def weighted_cross_entropy(log_p: Tensor, ids, weight, ignore_index: int, smoothing: float, reduction: str) -> Tensor:
    """cross_entropy with a weight (V,) for each class, from log p (..., V) and targets (...).

    loss = -(1 - smoothing) w[target] log p[target] - smoothing / V sum over c of w[c] log p[c];
    the mean is the sum over the rows that count divided by the sum of their w[target]
    """
    weight, xp, V = _class_weights(log_p, weight), log_p.xp, log_p.shape[-1]
    ids = beside(log_p.data, as_array(raw(ids)))
    counts = (ids != ignore_index).astype(log_p.dtype)
    targets = xp.where(ids == ignore_index, 0, ids)
    own = weight[targets] * counts  # (...): the weight of each row's target
    losses = take_along_axis(log_p, targets[..., None], -1).squeeze(-1) * (own * -(1 - smoothing))
    if smoothing:
        losses = losses - (log_p * weight).sum(axis=-1) * (counts * (smoothing / V))
    if reduction == "none":
        return losses
    total = own.sum()
    return losses.sum() / (xp.where(total == 0, 1, total) if reduction == "mean" else 1)


def soft_cross_entropy(log_p: Tensor, targets, weight, smoothing: float, reduction: str) -> Tensor:
    """cross_entropy towards probabilities (..., V) instead of one class a row; they may ask for a gradient too.

    q = (1 - smoothing) targets + smoothing / V,   loss = -sum over c of w[c] q[c] log p[c];   the mean is over all rows
    """
    q = beside(log_p.data, as_array(raw(targets)))
    if q.shape != log_p.shape:
        what = f"not {q.dtype} of shape {q.shape}; or probabilities {log_p.shape}, as the logits"
        raise ValueError(f"cross_entropy: targets must be integers, {what}")
    targets = targets if isinstance(targets, Tensor) else Tensor(q.astype(log_p.dtype))
    check_alike("cross_entropy", log_p.data, targets.data)
    q = targets * (1 - smoothing) + smoothing / log_p.shape[-1] if smoothing else targets
    losses = -(log_p * (q if weight is None else q * _class_weights(log_p, weight))).sum(axis=-1)
    return {"none": lambda: losses, "sum": losses.sum, "mean": losses.mean}[reduction]()


def _class_weights(log_p: Tensor, weight):
    """A raw (V,) beside the logits, in their dtype; all 1 if None."""
    if weight is None:
        return log_p.xp.ones(log_p.shape[-1], log_p.dtype)
    weight = beside(log_p.data, as_array(raw(weight))).astype(log_p.dtype)
    if weight.shape != log_p.shape[-1:]:
        raise ValueError(f"cross_entropy: weight has shape {weight.shape}, expected {log_p.shape[-1:]}, one a class")
    return weight


def mse_loss(prediction: Tensor, target, reduction: str = "mean") -> Tensor:
    """(prediction - target)^2.   dL/dprediction = 2 (prediction - target) dL/dy, the opposite for the target"""
    x, y = _paired("mse_loss", "prediction", "target", prediction, target, reduction)
    difference = x - y
    value, spread = _reduced(difference * difference, reduction)

    def backward(g):
        dx = difference * (2 * spread(g))
        return dx, -dx

    return record("mse_loss", value, (prediction, target), backward)


def binary_cross_entropy(logits: Tensor, targets, weight=None, pos_weight=None, reduction: str = "mean") -> Tensor:
    """-log p(label), for scores x whose sigmoid is p, and labels t in [0, 1], as binary_cross_entropy_with_logits.

    loss = weight ((1 - t) x + (1 + (pos_weight - 1) t) log(1 + e^-x)),   with weights of 1: log(1 + e^x) - t x
    weight, pos_weight: arrays that broadcast to the logits, of each element and of what is to be 1.
    With l = 1 + (pos_weight - 1) t:   dL/dx = weight (1 - t - l sigmoid(-x)) dL/dy;   nothing overflows.
    """
    x, y = _paired("binary_cross_entropy", "logits", "targets", logits, targets, reduction)
    xp = array_module(x)
    softplus = xp.maximum(-x, 0) + xp.log1p(xp.exp(-xp.abs(x)))  # log(1 + e^-x)
    more = 0 if pos_weight is None else _broadcast("pos_weight", pos_weight, x) - 1
    own = 1 if weight is None else _broadcast("weight", weight, x)
    value, spread = _reduced(own * ((1 - y) * x + (1 + more * y) * softplus), reduction)

    def backward(g):
        each = spread(g) * own
        low = 0.5 - 0.5 * xp.tanh(0.5 * x)  # sigmoid(-x)
        return (1 - y - (1 + more * y) * low) * each, (more * softplus - x) * each

    return record("binary_cross_entropy", value, (logits, targets), backward)


def _paired(name: str, first: str, second: str, a, b, reduction: str) -> tuple:
    """The raw arrays of a prediction and of what is right, which do not broadcast."""
    check_reduction(reduction)
    x, y = operands(name, a, b, fractions=True)
    if x.shape != y.shape:
        raise ValueError(f"{name}: {first} {x.shape} and {second} {y.shape} must have the same shape")
    return x, y


def _broadcast(label: str, weight, x):
    """A weight as a raw array in x's dtype, which broadcasts to x."""
    weight = beside(x, as_array(raw(weight))).astype(x.dtype)
    try:
        fits = np.broadcast_shapes(weight.shape, x.shape) == x.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"binary_cross_entropy: {label} {weight.shape} does not broadcast to the logits {x.shape}")
    return weight


def _reduced(losses, reduction: str) -> tuple:
    """What was asked for of the losses, and what makes the gradient of each of them from that of it."""
    if reduction == "none":
        return losses, lambda g: g
    n, dtype = losses.size if reduction == "mean" else 1, losses.dtype
    return rounded(losses.sum(dtype=wide(dtype)) / n, dtype), lambda g: g / n
