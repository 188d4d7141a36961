"""What most other ops are written with: arithmetic, another shape, a part, another dtype; and the checks of operands.

Two tensors of different shapes are broadcast by NumPy's rules. The gradient of a broadcast input is summed over the
axes it was stretched along, because each of its elements took part several times: `unbroadcast` does that.
Tensors of different float dtypes do not mix, so nothing becomes float64 unseen; numbers, plain arrays and integer
tensors take the dtype of the float tensor beside them.
"""

import math
from collections.abc import Sequence

import numpy as np

from tinytensor import backend
from tinytensor.tensor import Tensor, raw, record


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


def plain(number):
    """A Python number (or None): unlike NumPy's scalars it never changes the dtype of the array beside it."""
    return number.item() if isinstance(number, np.number) else number


def _rounded(y, dtype):
    """What came of an array of this float type and a plain number: NumPy and CuPy make float32 of bfloat16 and 0.5."""
    return y if y.dtype == dtype or not backend.is_float(dtype) else y.astype(dtype)


def add(a, b) -> Tensor:
    """a + b.   dL/da = dL/dy,   dL/db = dL/dy"""
    if is_number(b):
        return record("add", _rounded(a.data + plain(b), a.dtype), (a,), lambda g: (g,))
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
        b = plain(b)
        return record("mul", _rounded(a.data * b, a.dtype), (a,), lambda g: (_rounded(g * b, g.dtype),))
    x, y = operands("mul", a, b)
    return record("mul", x * y, (a, b), lambda g: (unbroadcast(g * y, x.shape), unbroadcast(g * x, y.shape)))


def div(a, b) -> Tensor:
    """a / b.   dL/da = dL/dy / b,   dL/db = -dL/dy * a / b^2"""
    if is_number(b):
        b = plain(b)
        return record("div", _rounded(a.data / b, a.dtype), (a,), lambda g: (_rounded(g / b, g.dtype),))
    x, y = operands("div", a, b)
    return record("div", x / y, (a, b), lambda g: (unbroadcast(g / y, x.shape), unbroadcast(-g * x / (y * y), y.shape)))


def neg(a: Tensor) -> Tensor:
    """-a.   dL/da = -dL/dy"""
    return record("neg", -a.data, (a,), lambda g: (-g,))


def power(a: Tensor, exponent: int | float) -> Tensor:
    """a^n for a plain number n.   dL/da = dL/dy * n * a^(n-1)"""
    x, n = a.data, plain(exponent)
    if n == 0:  # a^-1 below would make 0 * infinity at a = 0
        return record("power", a.xp.ones_like(x), (a,), lambda g: (a.xp.zeros_like(x),))
    return record("power", _rounded(x**n, x.dtype), (a,), lambda g: (_rounded(g * n * x ** (n - 1), g.dtype),))


def reshape(a: Tensor, *shape) -> Tensor:
    """The same elements, in order, in another shape; one length may be -1.   dL/da = dL/dy in a's shape"""
    shape = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    before = a.shape
    known = math.prod(n for n in shape if n != -1)
    fits = a.size == known if -1 not in shape else known != 0 and a.size % known == 0
    if not fits or list(shape).count(-1) > 1:
        raise ValueError(f"reshape: {before} has {a.size} elements and cannot become {tuple(shape)}")
    return record("reshape", a.data.reshape(shape), (a,), lambda g: (g.reshape(before),))


def swapaxes(a: Tensor, first: int, second: int) -> Tensor:
    """Two axes exchanged.   dL/da = dL/dy with them exchanged again"""
    return record("swapaxes", a.data.swapaxes(first, second), (a,), lambda g: (g.swapaxes(first, second),))


def getitem(a: Tensor, index) -> Tensor:
    """a[index], with slices, integers, None, `...`, integer arrays and boolean masks.

    dL/da is zero but for the chosen places, where it is dL/dy; a place chosen several times gets the sum.
    """
    index = tuple(_index(i, a.data) for i in index) if isinstance(index, tuple) else _index(index, a.data)
    shape, xp = a.shape, a.xp

    def backward(g):
        # Only arrays of integers can choose one place twice; slices, single integers and boolean masks cannot.
        parts = index if isinstance(index, tuple) else (index,)
        if any(backend.is_array(part) and part.dtype != bool for part in parts):
            return (_added_at(index, g, shape, xp),)
        da = xp.zeros(shape, g.dtype)
        da[index] = g
        return (da,)

    return record("getitem", a.data[index], (a,), backward)


def _index(index, like):
    """What an index is made of: arrays where `like` is; slices and integers as they are."""
    index = np.asarray(index, None if index else np.intp) if isinstance(index, list) else raw(index)
    return backend.beside(like, index) if backend.is_array(index) and index.ndim else index


def _added_at(index, g, shape: tuple[int, ...], xp):
    """Zeros of this shape with g added at `index`; 16-bit numbers are added up in float32, and rounded once."""
    wide = np.float32 if g.dtype.itemsize == 2 else g.dtype
    sums = xp.zeros(shape, wide)
    xp.add.at(sums, index, g.astype(wide, copy=False))
    return sums.astype(g.dtype, copy=False)


def take_along_axis(a: Tensor, indices, axis: int) -> Tensor:
    """y[..., i, ...] = a[..., indices[..., i, ...], ...] along `axis`; the shapes match on every other axis.

    dL/da adds dL/dy at the places taken.
    """
    indices, shape, xp = _index(indices, a.data), a.shape, a.xp
    axis %= a.ndim

    def backward(g):
        places = [xp.asarray(place) for place in np.ogrid[tuple(slice(n) for n in shape)]]
        places[axis] = indices
        return (_added_at(tuple(places), g, shape, xp),)

    return record("take_along_axis", xp.take_along_axis(a.data, indices, axis), (a,), backward)


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
