"""Reductions: sums, means and extremes over some of the axes.

The gradient spreads back over what was reduced.
"""

import math
import operator
from collections.abc import Callable, Sequence

import numpy as np

from tinytensor.ops.basic import add_up, floats, rounded, wide
from tinytensor.tensor import Tensor, record

Axis = int | Sequence[int] | None


def axes_of(name: str, shape: tuple[int, ...], axis: Axis) -> tuple[int, ...]:
    """The axes that are meant, counted from the first; all for None. A 0-d tensor may be asked for axis 0 or -1."""
    if axis is None:
        return tuple(range(len(shape)))
    n = len(shape) or 1
    given = tuple(map(operator.index, axis if isinstance(axis, Sequence) else (axis,)))
    if wrong := [one for one in given if not -n <= one < n]:
        raise ValueError(f"{name}: axis {wrong[0]} is out of bounds for shape {shape}")
    axes = tuple(one % n for one in given)
    if len(set(axes)) < len(axes):
        raise ValueError(f"{name}: axis {axis} names an axis of shape {shape} twice")
    return axes if shape else ()


def axis_of(name: str, shape: tuple[int, ...], axis: int) -> int:
    """The one axis that is meant, counted from the first; 0 for a 0-d tensor."""
    return (*axes_of(name, shape, operator.index(axis)), 0)[0]


def sum(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The sum over `axis` (all axes by default).   dL/da = dL/dy, repeated along the axes"""
    xp, shape, axes = a.xp, a.shape, axes_of("sum", a.shape, axis)
    y = add_up(a.data, axes, keepdims)
    return record("sum", y, (a,), lambda g: (xp.broadcast_to(kept(g, shape, axes), shape),))


def mean(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The mean over `axis`.   dL/da = dL/dy / n, repeated along the axes"""
    xp, x, shape, axes = a.xp, floats(a), a.shape, axes_of("mean", a.shape, axis)
    n = _count("mean", "average", shape, axes, axis)
    y = rounded(x.mean(axis=axes, keepdims=keepdims, dtype=wide(x.dtype)), x.dtype)
    return record("mean", y, (a,), lambda g: (xp.broadcast_to(kept(g / n, shape, axes), shape),))


def var(a: Tensor, axis: Axis = None, keepdims: bool = False, correction: int = 1) -> Tensor:
    """The variance over `axis`, sum((a - mean)^2) / (n - correction).   dL/da = dL/dy * 2 (a - mean) / (n - correction)

    correction=1 is the unbiased estimate from a sample; 0 the mean squared distance from the mean.
    """
    shape, axes, dtype = a.shape, axes_of("var", a.shape, axis), floats(a).dtype
    n = math.prod(shape[one] for one in axes) - correction
    if n <= 0:
        raise ValueError(f"var: axis {axis} of shape {shape} is too short for correction={correction}")
    x = floats(a).astype(wide(dtype) or dtype, copy=False)
    centred = x - x.mean(axis=axes, keepdims=True)
    y = (centred * centred).sum(axis=axes, keepdims=keepdims) / n
    backward = lambda g: (rounded(kept(g, shape, axes) * centred * 2 / n, dtype),)
    return record("var", rounded(y, dtype), (a,), backward)


def max(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The largest element over `axis`.   dL/da = dL/dy there; shared equally where several are largest"""
    return _extreme("max", a.xp.max, a, axis, keepdims)


def min(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The smallest element over `axis`.   dL/da = dL/dy there; shared equally where several are smallest"""
    return _extreme("min", a.xp.min, a, axis, keepdims)


def _extreme(name: str, choose: Callable, a: Tensor, axis: Axis, keepdims: bool) -> Tensor:
    x, shape, axes = a.data, a.shape, axes_of(name, a.shape, axis)
    _count(name, "choose from", shape, axes, axis)
    y = choose(x, axis=axes, keepdims=True)

    def backward(g):
        winners = (x == y).astype(g.dtype)
        return (kept(g, shape, axes) * winners / add_up(winners, axes, keepdims=True),)

    return record(name, y if keepdims else y.squeeze(axes), (a,), backward)


def logsumexp(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """log(sum(exp(a))) over `axis`, without overflow.   dL/da = dL/dy * softmax(a)"""
    xp, shape, axes, dtype = a.xp, a.shape, axes_of("logsumexp", a.shape, axis), floats(a).dtype
    _count("logsumexp", "add up", shape, axes, axis)
    x = floats(a).astype(wide(dtype) or dtype, copy=False)
    top = x.max(axis=axes, keepdims=True)
    top = xp.where(xp.isfinite(top), top, xp.zeros((), x.dtype))  # a row of -inf has the value -inf, not NaN
    e = xp.exp(x - top)
    total = e.sum(axis=axes, keepdims=True)
    with np.errstate(divide="ignore"):
        y = rounded(xp.log(total) + top, dtype)

    def backward(g):
        return (rounded(kept(g, shape, axes) * e / xp.where(total == 0, 1, total), dtype),)

    return record("logsumexp", y if keepdims else y.squeeze(axes), (a,), backward)


def _count(name: str, purpose: str, shape: tuple[int, ...], axes: tuple[int, ...], axis: Axis) -> int:
    """How many elements become one; there must be some."""
    n = math.prod(shape[one] for one in axes)
    if n == 0:
        raise ValueError(f"{name}: there is nothing to {purpose} over axis {axis} of shape {shape}")
    return n


def kept(g, shape: tuple[int, ...], axes: tuple[int, ...]):
    """The gradient with the reduced axes put back as axes of length 1, so that it broadcasts against the input."""
    return g.reshape([1 if one in axes else n for one, n in enumerate(shape)])
