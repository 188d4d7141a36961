"""Elementwise ops: the value at each place depends on the inputs at that place only.

Two tensors of different shapes are broadcast by NumPy's rules. The gradient of a broadcast input is summed over the
axes it was stretched along, because each of its elements took part several times: `unbroadcast` does that.
Tensors of different float dtypes do not mix, so nothing becomes float64 unseen; numbers, plain arrays and integer
tensors take the dtype of the float tensor beside them.
"""

from __future__ import annotations

import numpy as np

from tinytensor import backend, random
from tinytensor.tensor import Tensor, raw, record, recording


def unbroadcast(g, shape: tuple[int, ...]):
    """Sum the gradient `g` of a broadcast value back to the shape of the input."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    stretched = tuple(axis for axis, n in enumerate(shape, start=extra) if n == 1 and g.shape[axis] != 1)
    return g.sum(axis=(*range(extra), *stretched), keepdims=True).reshape(shape)


def operands(name: str, a, b):
    """The raw arrays of two operands, checked: one device, one float dtype, shapes that broadcast."""
    x, y = alike(name, a, b)
    check_broadcast(name, x.shape, y.shape)
    return x, y


def alike(name: str, a, b):
    """The raw arrays of two operands, on one device and of one float dtype."""
    if isinstance(a, Tensor) and isinstance(b, Tensor) and a.data.dtype is b.data.dtype:
        x, y = a.data, b.data
    else:
        x, y = _constant(a, like=b), _constant(b, like=a)
    check_alike(name, x, y)
    return x, y


def check_alike(name: str, a, b) -> None:
    """Two arrays must be on one device and, if both are floats, of one dtype."""
    if type(a) is not type(b) and backend.device_of(a) != backend.device_of(b):
        there = backend.device_of(a), backend.device_of(b)
        raise ValueError(f"{name}: one operand is on {there[0]}, the other on {there[1]}; move one with .to(device)")
    if a.dtype is not b.dtype and a.dtype != b.dtype and backend.is_float(a.dtype) and backend.is_float(b.dtype):
        raise ValueError(f"{name}: {a.dtype} and {b.dtype} do not mix; convert one with .astype(dtype)")


def check_fits(name: str, label: str, given: Tensor | None, shape: tuple[int, ...], what: str, other: Tensor) -> None:
    """`given`, if any, must have the shape that goes with `other` (`what` is its name), and be alike."""
    if given is not None:
        if given.shape != shape:
            raise ValueError(f"{name}: {label} has shape {given.shape}, expected {shape} to match {what} {other.shape}")
        check_alike(name, other.data, given.data)


def check_broadcast(name: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    if a != b:
        try:
            np.broadcast_shapes(a, b)
        except ValueError:
            raise ValueError(f"{name}: shapes {a} and {b} do not broadcast") from None


def _constant(value, like):
    """The array behind a Tensor; numbers, plain arrays and integers as an array of the other operand's float dtype."""
    other = like.data if isinstance(like, Tensor) else np.asarray(like)
    if isinstance(value, Tensor):
        array, given = value.data, "iu"
    else:
        array, given = backend.beside(other, value), "fiub"
    return array.astype(other.dtype) if array.dtype.kind in given and backend.is_float(other.dtype) else array


def is_number(value) -> bool:
    """A plain number, which needs no gradient and takes the dtype of the tensor beside it."""
    return isinstance(value, (int, float, np.number))


def add(a, b) -> Tensor:
    """a + b.   dL/da = dL/dy,   dL/db = dL/dy"""
    if is_number(b):
        return record("add", _rounded(a.data + _plain(b), a.dtype), (a,), lambda g: (g,))
    x, y = operands("add", a, b)
    return record("add", x + y, (a, b), lambda g: (unbroadcast(g, x.shape), unbroadcast(g, y.shape)))


def sub(a, b) -> Tensor:
    """a - b.   dL/da = dL/dy,   dL/db = -dL/dy"""
    if is_number(b):
        return add(a, -b)
    x, y = operands("sub", a, b)
    return record("sub", x - y, (a, b), lambda g: (unbroadcast(g, x.shape), unbroadcast(-g, y.shape)))


def mul(a, b) -> Tensor:
    """a * b.   dL/da = dL/dy * b,   dL/db = dL/dy * a"""
    if is_number(b):
        b = _plain(b)
        return record("mul", _rounded(a.data * b, a.dtype), (a,), lambda g: (_rounded(g * b, g.dtype),))
    x, y = operands("mul", a, b)
    return record("mul", x * y, (a, b), lambda g: (unbroadcast(g * y, x.shape), unbroadcast(g * x, y.shape)))


def div(a, b) -> Tensor:
    """a / b.   dL/da = dL/dy / b,   dL/db = -dL/dy * a / b^2"""
    if is_number(b):
        b = _plain(b)
        return record("div", _rounded(a.data / b, a.dtype), (a,), lambda g: (_rounded(g / b, g.dtype),))
    x, y = operands("div", a, b)
    return record("div", x / y, (a, b), lambda g: (unbroadcast(g / y, x.shape), unbroadcast(-g * x / (y * y), y.shape)))


def _plain(number):
    """A Python number (or None): unlike NumPy's scalars it never changes the dtype of the array beside it."""
    return number.item() if isinstance(number, np.number) else number


def _rounded(y, dtype):
    """What came of an array of this float type and a plain number: NumPy and CuPy make float32 of bfloat16 and 0.5."""
    return y if y.dtype == dtype or not backend.is_float(dtype) else y.astype(dtype)


def neg(a: Tensor) -> Tensor:
    """-a.   dL/da = -dL/dy"""
    return record("neg", -a.data, (a,), lambda g: (-g,))


def power(a: Tensor, exponent: int | float) -> Tensor:
    """a^n for a plain number n.   dL/da = dL/dy * n * a^(n-1)"""
    x, n = a.data, _plain(exponent)
    if n == 0:  # a^-1 below would make 0 * infinity at a = 0
        return record("power", a.xp.ones_like(x), (a,), lambda g: (a.xp.zeros_like(x),))
    return record("power", _rounded(x**n, x.dtype), (a,), lambda g: (_rounded(g * n * x ** (n - 1), g.dtype),))


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


def gelu(a: Tensor, approximate: bool = False, bias: Tensor | None = None) -> Tensor:
    """a * Phi(a), Phi the normal distribution function (Hendrycks & Gimpel 2016, arXiv:1606.08415).

    approximate=True is the tanh form of GPT-2 and T5 v1.1:   y = a/2 * (1 + tanh(sqrt(2/pi) * (a + 0.044715 a^3)))
    bias: (C,), added to the last axis of a first, in the same pass over memory.
    dL/da = dL/dy * slope, where the kernel finds the slope together with the value;   dL/dbias = its sum over the rows.
    """
    check_fits("gelu", "bias", bias, a.shape[-1:], "x", a)
    kernels = backend.backend_of(a.data)
    needed = recording() and (a.requires_grad or (bias is not None and bias.requires_grad))
    y, slope = kernels.gelu(a.data, approximate, need_slope=needed, bias=raw(bias))

    return record("gelu", y, (a, bias), lambda g: kernels.gelu_backward(g, slope, need_bias=bias is not None))


def dropout(x: Tensor, p: float) -> Tensor:
    """y = x * keep / (1 - p), each element of keep 1 with probability 1 - p, else 0.   dL/dx = dL/dy * keep / (1 - p)

    So that no element is relied on alone (Srivastava et al. 2014); the survivors are scaled up, for training only.
    p: the share to drop, 0 <= p < 1. Draws from this thread's stream (tinytensor.random).
    """
    check_share("dropout", p)
    if p == 0:
        return x
    kernels = backend.backend_of(x.data)
    y, mask = kernels.dropout(x.data, p, random.generator())
    return record("dropout", y, (x,), lambda g: (kernels.dropout_backward(g, mask, p),))


def check_share(name: str, p: float) -> None:
    if not 0 <= p < 1:
        raise ValueError(f"{name}: p={p} is not a share in [0, 1)")


def maximum(a, b) -> Tensor:
    """The larger of the two; where they are equal each gets half of the gradient."""
    return _extreme("maximum", a, b, np.maximum, lambda x, y: x > y)


def minimum(a, b) -> Tensor:
    """The smaller of the two; where they are equal each gets half of the gradient."""
    return _extreme("minimum", a, b, np.minimum, lambda x, y: x < y)


def _extreme(name: str, a, b, choose, wins) -> Tensor:
    x, y = operands(name, a, b)
    xp = backend.array_module(x)

    def backward(g):
        share = xp.where(x == y, 0.5, wins(x, y)).astype(g.dtype)  # a's part of the gradient
        return unbroadcast(g * share, x.shape), unbroadcast(g * (1 - share), y.shape)

    return record(name, choose(x, y), (a, b), backward)


def clip(a: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """Hold every element within [low, high].   dL/da = dL/dy inside, 0 outside"""
    x = a.data
    y = a.xp.clip(x, _plain(low), _plain(high))
    return record("clip", y, (a,), lambda g: (g * (x == y),))


def where(condition, a, b) -> Tensor:
    """a where the condition holds, b elsewhere.   Each gets the gradient of its own places, 0 at the others'."""
    if is_number(a) and is_number(b):
        a = Tensor(a)  # so that two floats make a float32, as they do everywhere
    x, y = operands("where", a, b)
    xp = backend.array_module(x)
    chosen = condition.data if isinstance(condition, Tensor) else xp.asarray(condition)
    if chosen.dtype != bool:
        raise ValueError(f"where: the condition must be boolean, not {chosen.dtype}; write it as a comparison")

    def backward(g):
        zero = xp.zeros((), g.dtype)
        return unbroadcast(xp.where(chosen, g, zero), x.shape), unbroadcast(xp.where(chosen, zero, g), y.shape)

    return record("where", xp.where(chosen, x, y), (a, b), backward)


def astype(a: Tensor, dtype) -> Tensor:
    """The same values in another dtype.   dL/da = dL/dy in a's dtype; none if the dtype is not a float"""
    before, after = a.dtype, np.dtype(dtype)
    if not backend.is_float(after):
        return Tensor(a.data.astype(after))
    return record("astype", a.data.astype(after), (a,), lambda g: (g.astype(before),))


def to(a: Tensor, device: str) -> Tensor:
    """The same values on the device "cpu" or "cuda"; itself where it is there already.   dL/da = dL/dy brought back"""
    before = a.device
    y = backend.to_device(a.data, device)
    return a if before == device else record("to", y, (a,), lambda g: (backend.to_device(g, before),))
