"""Reductions: sums, means and extremes over some of the axes, and the losses that are a mean of something.

The gradient spreads back over what was reduced.
"""

import math
from collections.abc import Callable

import numpy as np

from tinytensor.backend import array_module
from tinytensor.ops.basic import operands
from tinytensor.tensor import Tensor, record

Axis = int | tuple[int, ...] | None


def sum(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum over `axis` (all axes by default).   dL/da = dL/dy, repeated along the axes"""
    xp, shape = a.xp, a.shape
    y = a.data.sum(axis=axis, keepdims=keepdims)
    return record("sum", y, (a,), lambda g: (xp.broadcast_to(_kept(g, shape, axis), shape),))


def mean(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over `axis`.   dL/da = dL/dy / n, repeated along the axes"""
    xp, shape = a.xp, a.shape
    n = _count("mean", "average", shape, axis)
    y = a.data.mean(axis=axis, keepdims=keepdims)
    return record("mean", y, (a,), lambda g: (xp.broadcast_to(_kept(g / n, shape, axis), shape),))


def var(a: Tensor, axis: Axis = None, keepdims: bool = False, correction: int = 0) -> Tensor:
    """The variance over `axis`, sum((a - mean)^2) / (n - correction).   dL/da = dL/dy * 2 (a - mean) / (n - correction)

    correction=1 gives the unbiased estimate from a sample.
    """
    n = math.prod(a.shape[one] for one in _axes(a.shape, axis)) - correction
    if n <= 0:
        raise ValueError(f"var: axis {axis} of shape {a.shape} is too short for correction={correction}")
    shape = a.shape
    centred = a.data - a.data.mean(axis=axis, keepdims=True)
    y = (centred * centred).sum(axis=axis, keepdims=keepdims) / n
    return record("var", y, (a,), lambda g: (_kept(g, shape, axis) * centred * 2 / n,))


def max(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element over `axis`.   dL/da = dL/dy there; shared equally where several are largest"""
    return _extreme("max", a.xp.max, a, axis, keepdims)


def min(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element over `axis`.   dL/da = dL/dy there; shared equally where several are smallest"""
    return _extreme("min", a.xp.min, a, axis, keepdims)


def _extreme(name: str, choose: Callable, a: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    x, shape = a.data, a.shape
    _count(name, "choose from", shape, axis)
    y = choose(x, axis=axis, keepdims=True)

    def backward(g):
        winners = (x == y).astype(g.dtype)
        return (_kept(g, shape, axis) * winners / winners.sum(axis=axis, keepdims=True),)

    return record(name, y if keepdims else y.squeeze(_axes(shape, axis)), (a,), backward)


def logsumexp(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(a))) over `axis`, without overflow.   dL/da = dL/dy * softmax(a)"""
    xp, x, shape = a.xp, a.data, a.shape
    _count("logsumexp", "add up", shape, axis)
    top = x.max(axis=axis, keepdims=True)
    top = xp.where(xp.isfinite(top), top, xp.zeros((), x.dtype))  # a row of -inf has the value -inf, not NaN
    e = xp.exp(x - top)
    total = e.sum(axis=axis, keepdims=True)
    with np.errstate(divide="ignore"):
        y = xp.log(total) + top

    def backward(g):
        return (_kept(g, shape, axis) * e / xp.where(total == 0, 1, total),)

    return record("logsumexp", y if keepdims else y.squeeze(_axes(shape, axis)), (a,), backward)


def mse_loss(prediction: Tensor, target) -> Tensor:
    """mean((prediction - target)^2).   dL/dprediction = 2 (prediction - target) / n, the opposite for the target"""
    x, y = operands("mse_loss", prediction, target)
    if x.shape != y.shape:
        raise ValueError(f"mse_loss: prediction {x.shape} and target {y.shape} must have the same shape")
    difference = x - y

    def backward(g):
        dx = difference * (2 * g / difference.size)
        return dx, -dx

    return record("mse_loss", (difference * difference).mean(), (prediction, target), backward)


def binary_cross_entropy(logits: Tensor, targets) -> Tensor:
    """mean(log(1 + e^x) - x * target), for scores x and targets in [0, 1].   dL/dx = (sigmoid(x) - target) / n

    Written as max(x, 0) - x * target + log(1 + e^-|x|), in which nothing overflows.
    """
    x, y = operands("binary_cross_entropy", logits, targets)
    if x.shape != y.shape:
        raise ValueError(f"binary_cross_entropy: logits {x.shape} and targets {y.shape} must have the same shape")
    xp = array_module(x)
    losses = xp.maximum(x, 0) - x * y + xp.log1p(xp.exp(-xp.abs(x)))
    backward = lambda g: ((0.5 * xp.tanh(0.5 * x) + 0.5 - y) * (g / x.size), -x * (g / x.size))
    return record("binary_cross_entropy", losses.mean(), (logits, targets), backward)


def _axes(shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """The reduced axes as a tuple of non-negative numbers."""
    if axis is None or not shape:  # NumPy lets a 0-d array be reduced over axis 0 or -1
        return tuple(range(len(shape)))
    axes = axis if isinstance(axis, tuple) else (axis,)
    return tuple(one % len(shape) for one in axes)


def _count(name: str, purpose: str, shape: tuple[int, ...], axis: Axis) -> int:
    """How many elements become one; there must be some."""
    n = math.prod(shape[one] for one in _axes(shape, axis))
    if n == 0:
        raise ValueError(f"{name}: there is nothing to {purpose} over axis {axis} of shape {shape}")
    return n


def _kept(g, shape: tuple[int, ...], axis: Axis):
    """The gradient with the reduced axes put back as axes of length 1, so that it broadcasts against the input."""
    gone = _axes(shape, axis)
    return g.reshape([1 if one in gone else n for one, n in enumerate(shape)])
