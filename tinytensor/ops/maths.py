"""The functions of a mathematics library, element by element, and choosing between two values."""

import numpy as np

from tinytensor.backend import array_module
from tinytensor.ops.basic import floats, is_number, operands, plain, rounded, unbroadcast, with_number
from tinytensor.tensor import Tensor, record


def exp(a: Tensor) -> Tensor:
    """e^a.   dL/da = dL/dy * y"""
    y = a.xp.exp(floats(a))
    return record("exp", y, (a,), lambda g: (g * y,))


def log(a: Tensor) -> Tensor:
    """The natural logarithm.   dL/da = dL/dy / a"""
    x = floats(a)
    return record("log", a.xp.log(x), (a,), lambda g: (g / x,))


def sqrt(a: Tensor) -> Tensor:
    """The square root.   dL/da = dL/dy / (2 y)"""
    y = a.xp.sqrt(floats(a))
    return record("sqrt", y, (a,), lambda g: (g / (2 * y),))


def log1p(a: Tensor) -> Tensor:
    """log(1 + a), which keeps its digits where a is small.   dL/da = dL/dy / (1 + a)"""
    x = floats(a)
    return record("log1p", a.xp.log1p(x), (a,), lambda g: (g / (1 + x),))


def sin(a: Tensor) -> Tensor:
    """sin(a).   dL/da = dL/dy * cos(a)"""
    x, xp = floats(a), a.xp
    return record("sin", xp.sin(x), (a,), lambda g: (g * xp.cos(x),))


def cos(a: Tensor) -> Tensor:
    """cos(a).   dL/da = -dL/dy * sin(a)"""
    x, xp = floats(a), a.xp
    return record("cos", xp.cos(x), (a,), lambda g: (-g * xp.sin(x),))


def abs(a: Tensor) -> Tensor:
    """|a|.   dL/da = dL/dy where a > 0, -dL/dy where a < 0, else 0"""
    x, xp = a.data, a.xp
    return record("abs", xp.abs(x), (a,), lambda g: (g * (x > 0) - g * (x < 0),))


def power(a, b) -> Tensor:
    """a^b of tensors, or of one and a number.

    dL/da = dL/dy * b * a^(b-1), and 0 where b = 0,   dL/db = dL/dy * y * log(a), and 0 where a = 0 <= b
    """
    if is_number(b):
        x, n = with_number("power", a, b)
        slope = lambda g: rounded(g * n * x ** (n - 1), g.dtype) if n else a.xp.zeros_like(g)
        return record("power", rounded(x**n, x.dtype), (a,), lambda g: (slope(g),))
    x, y = operands("power", a, b)
    xp, z = array_module(x), x**y

    def backward(g):
        da = db = None
        if isinstance(a, Tensor) and a.requires_grad:
            da = unbroadcast(g * xp.where(y == 0, 0, y * x ** xp.where(y == 0, 1, y - 1)), x.shape)
        if isinstance(b, Tensor) and b.requires_grad:
            flat = (x == 0) & (y >= 0)
            db = unbroadcast(g * xp.where(flat, 0, z * xp.log(xp.where(flat, 1, x))), y.shape)
        return da, db

    return record("power", z, (a, b), backward)


def maximum(a, b) -> Tensor:
    """The larger of the two; where they are equal each gets half of the gradient."""
    return _extreme("maximum", a, b, np.maximum, lambda x, y: x < y)


def minimum(a, b) -> Tensor:
    """The smaller of the two; where they are equal each gets half of the gradient."""
    return _extreme("minimum", a, b, np.minimum, lambda x, y: x > y)


def _extreme(name: str, a, b, choose, loses) -> Tensor:
    x, y = operands(name, a, b)
    xp = array_module(x)

    def backward(g):
        share = lambda x, y: xp.where(x == y, 0.5, ~loses(x, y)).astype(g.dtype)  # beside NaN, neither loses
        return unbroadcast(g * share(x, y), x.shape), unbroadcast(g * share(y, x), y.shape)

    return record(name, choose(x, y), (a, b), backward)


def clip(a: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """min(max(a, low), high), low and high numbers or None.   dL/da = dL/dy where low <= a <= high, else 0"""
    low, high = plain(low), plain(high)
    bounds = [bound for bound in (low, high) if bound is not None]
    if not all(map(is_number, bounds)):
        raise ValueError("clip: low and high are numbers; between tensors, write minimum(maximum(a, low), high)")
    x = y = floats(a) if float in map(type, bounds) else a.data
    for bound in bounds:
        with_number("clip", a, bound)  # refuses what does not fit
    y = y if low is None else a.xp.maximum(y, low)
    y = y if high is None else a.xp.minimum(y, high)

    def backward(g):
        above = True if low is None else x >= low
        return (g * (above if high is None else above & (x <= high)),)

    return record("clip", rounded(y, x.dtype), (a,), backward)


def where(condition, a, b) -> Tensor:
    """a where the condition holds, b elsewhere.   Each gets the gradient of its own places, 0 at the others'."""
    if is_number(a) and is_number(b):
        a = Tensor(a)  # so that two floats make a float32, as they do everywhere
    x, y = operands("where", a, b)
    xp = array_module(x)
    chosen = condition.data if isinstance(condition, Tensor) else xp.asarray(condition)
    if chosen.dtype != bool:
        raise ValueError(f"where: the condition must be boolean, not {chosen.dtype}; write it as a comparison")

    def backward(g):
        zero = xp.zeros((), g.dtype)
        return unbroadcast(xp.where(chosen, g, zero), x.shape), unbroadcast(xp.where(chosen, zero, g), y.shape)

    return record("where", xp.where(chosen, x, y), (a, b), backward)
