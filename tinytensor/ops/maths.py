"""The functions of a mathematics library, element by element, and choosing between two values."""

import numpy as np

from tinytensor.backend import array_module
from tinytensor.ops.basic import is_number, operands, plain, unbroadcast
from tinytensor.tensor import Tensor, record


def exp(a: Tensor) -> Tensor:
    """e^a.   dL/da = dL/dy * y"""
    y = a.xp.exp(a.data)
    return record("exp", y, (a,), lambda g: (g * y,))


def log(a: Tensor) -> Tensor:
    """The natural logarithm.   dL/da = dL/dy / a"""
    x = a.data
    return record("log", a.xp.log(x), (a,), lambda g: (g / x,))


def sqrt(a: Tensor) -> Tensor:
    """The square root.   dL/da = dL/dy / (2 y)"""
    y = a.xp.sqrt(a.data)
    return record("sqrt", y, (a,), lambda g: (g / (2 * y),))


def sin(a: Tensor) -> Tensor:
    """sin(a).   dL/da = dL/dy * cos(a)"""
    x, xp = a.data, a.xp
    return record("sin", xp.sin(x), (a,), lambda g: (g * xp.cos(x),))


def cos(a: Tensor) -> Tensor:
    """cos(a).   dL/da = -dL/dy * sin(a)"""
    x, xp = a.data, a.xp
    return record("cos", xp.cos(x), (a,), lambda g: (-g * xp.sin(x),))


def abs(a: Tensor) -> Tensor:
    """|a|.   dL/da = dL/dy * sign(a), and 0 at a = 0"""
    x, xp = a.data, a.xp
    return record("abs", xp.abs(x), (a,), lambda g: (g * xp.sign(x),))


def tanh(a: Tensor) -> Tensor:
    """tanh(a).   dL/da = dL/dy * (1 - y^2)"""
    y = a.xp.tanh(a.data)
    return record("tanh", y, (a,), lambda g: (g * (1 - y * y),))


def sigmoid(a: Tensor) -> Tensor:
    """1 / (1 + e^-a).   dL/da = dL/dy * y * (1 - y)"""
    y = logistic(a.data, a.xp)
    return record("sigmoid", y, (a,), lambda g: (g * y * (1 - y),))


def logistic(x, xp):
    """1 / (1 + e^-x), with e^x on top where x < 0: nothing overflows, and small values keep all their digits."""
    e = xp.exp(-xp.abs(x))
    return xp.where(x < 0, e, xp.ones((), e.dtype)) / (1 + e)


def relu(a: Tensor) -> Tensor:
    """max(a, 0).   dL/da = dL/dy where a > 0, else 0"""
    y = a.xp.maximum(a.data, 0)
    return record("relu", y, (a,), lambda g: (g * (y > 0),))


def silu(a: Tensor) -> Tensor:
    """a * sigmoid(a), also called swish.   dL/da = dL/dy * (s + y * (1 - s)),   s = sigmoid(a)"""
    s = logistic(a.data, a.xp)
    y = a.data * s
    return record("silu", y, (a,), lambda g: (g * (s + y * (1 - s)),))


def maximum(a, b) -> Tensor:
    """The larger of the two; where they are equal each gets half of the gradient."""
    return _extreme("maximum", a, b, np.maximum, lambda x, y: x > y)


def minimum(a, b) -> Tensor:
    """The smaller of the two; where they are equal each gets half of the gradient."""
    return _extreme("minimum", a, b, np.minimum, lambda x, y: x < y)


def _extreme(name: str, a, b, choose, wins) -> Tensor:
    x, y = operands(name, a, b)
    xp = array_module(x)

    def backward(g):
        share = xp.where(x == y, 0.5, wins(x, y)).astype(g.dtype)  # a's part of the gradient
        return unbroadcast(g * share, x.shape), unbroadcast(g * (1 - share), y.shape)

    return record(name, choose(x, y), (a, b), backward)


def clip(a: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """Hold every element within [low, high].   dL/da = dL/dy inside, 0 outside"""
    x = a.data
    y = a.xp.clip(x, plain(low), plain(high))
    return record("clip", y, (a,), lambda g: (g * (x == y),))


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
