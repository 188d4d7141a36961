"""More reductions, less often needed than those in reduce.py: spread, products, running sums, whether any or all hold.
"""

import math

from tinytensor.ops.basic import astype, floats, reshape, rounded, wide
from tinytensor.ops.reduce import Axis, axes_of, axis_of, kept, var
from tinytensor.tensor import Tensor, record


def std(a: Tensor, axis: Axis = None, keepdims: bool = False, correction: int = 1) -> Tensor:
    """The standard deviation over `axis`, the root of `var`.   Its gradient is 0 where it is 0."""
    dtype, xp = floats(a).dtype, a.xp
    variance = var(astype(a, wide(dtype) or dtype), axis, keepdims, correction)
    y = xp.sqrt(variance.data)
    slope = 0.5 * (y > 0) / xp.where(y > 0, y, 1)
    return astype(record("std", y, (variance,), lambda g: (g * slope,)), dtype)


def prod(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """The product over `axis`.   dL/da = dL/dy * the product of all others, so that zeros do no harm"""
    xp, shape, axes = a.xp, a.shape, axes_of("prod", a.shape, axis)
    x, n, last = a.data, math.prod(shape[one] for one in axes), tuple(range(a.ndim - len(axes), a.ndim))
    y = x.prod(axis=axes, keepdims=keepdims, dtype=wide(x.dtype))

    def backward(g):
        moved = xp.moveaxis(x, axes, last)
        rows = moved.reshape(*moved.shape[: a.ndim - len(axes)], n).astype(wide(x.dtype) or x.dtype)
        before, after = xp.ones_like(rows), xp.ones_like(rows)  # the products of those before, and after, each
        before[..., 1:] = xp.cumprod(rows[..., :-1], axis=-1)
        after[..., :-1] = xp.cumprod(rows[..., :0:-1], axis=-1)[..., ::-1]
        others = xp.moveaxis((before * after).reshape(moved.shape), last, axes)
        return (rounded(kept(g, shape, axes) * others, x.dtype),)

    return record("prod", rounded(y, x.dtype), (a,), backward)


def cumsum(a: Tensor, axis: int) -> Tensor:
    """The sums of the elements up to and with each, along `axis`.   dL/da = the sums of dL/dy from each to the last"""
    if a.ndim == 0:
        return reshape(cumsum(reshape(a, 1), axis), ())
    xp = a.xp
    axis = axis_of("cumsum", a.shape, axis)
    total = lambda x: rounded(xp.cumsum(x, axis=axis, dtype=wide(x.dtype)), x.dtype)
    return record("cumsum", total(a.data), (a,), lambda g: (xp.flip(total(xp.flip(g, axis)), axis),))


def any(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether any element over `axis` is not 0; a boolean tensor, without a gradient."""
    return Tensor(a.xp.asarray((a.data != 0).any(axis=axes_of("any", a.shape, axis), keepdims=keepdims)))


def all(a: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements over `axis` are not 0; a boolean tensor, without a gradient."""
    return Tensor(a.xp.asarray((a.data != 0).all(axis=axes_of("all", a.shape, axis), keepdims=keepdims)))
