"""What most other ops are written with: arithmetic, another shape, a part, another dtype; and the checks of operands.

Two tensors of different shapes are broadcast by NumPy's rules. The gradient of a broadcast input is summed over the
axes it was stretched along, because each of its elements took part several times: `unbroadcast` does that.
Tensors of different float dtypes do not mix, so nothing becomes float64 unseen; numbers, plain arrays and integer
tensors take the dtype of the float tensor beside them, and integers where a fraction is met become float32.
"""

import math
from collections.abc import Sequence

import numpy as np

from tinytensor import backend
from tinytensor.backend import is_float
from tinytensor.tensor import Tensor, raw, record


def unbroadcast(g, shape: tuple[int, ...]):
    """Sum the gradient `g` of a broadcast value back to the shape of the input."""
    if g.shape == shape:
        return g
    extra = g.ndim - len(shape)
    stretched = tuple(axis for axis, n in enumerate(shape, start=extra) if n == 1 and g.shape[axis] != 1)
    return add_up(g, (*range(extra), *stretched), keepdims=True).reshape(shape)


def add_up(x, axes, keepdims: bool = False):
    """The sum over these axes; 16-bit floats are added up in float32, and rounded once."""
    return rounded(x.sum(axis=axes, keepdims=keepdims, dtype=wide(x.dtype)), x.dtype)


def wide(dtype):
    """float32, in which 16-bit floats are added up; None, which is its own, for any other type."""
    return np.float32 if dtype.itemsize == 2 and is_float(dtype) else None


def floats(a: Tensor):
    """The array of a function's argument, with integers and booleans as float32."""
    return a.data.astype(np.float32) if a.data.dtype.kind in "iub" else a.data


def operands(name: str, a, b, fractions: bool = False):
    """The raw arrays of two operands, checked: one device, one float dtype (fractions: always one), fitting shapes."""
    x, y = alike(name, a, b)
    if fractions and x.dtype.kind in "iub":
        x, y = x.astype(np.float32), y.astype(np.float32)
    check_broadcast(name, x.shape, y.shape)
    return x, y


def alike(name: str, a, b):
    """The raw arrays of two operands, on one device and of one float dtype."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        x, y = a.data, b.data
    elif isinstance(a, Tensor):
        x, y = meet(name, a, b)
    else:
        y, x = meet(name, b if isinstance(b, Tensor) else Tensor(b), a)
    if x.dtype is not y.dtype and is_float(x.dtype) != is_float(y.dtype):
        x, y = (x, y.astype(x.dtype)) if is_float(x.dtype) else (x.astype(y.dtype), y)
    check_alike(name, x, y)
    return x, y


def check_alike(name: str, a, b) -> None:
    """Two arrays must be on one device and, if one is of floats, of one dtype."""
    if type(a) is not type(b) and backend.device_of(a) != backend.device_of(b):
        there = backend.device_of(a), backend.device_of(b)
        raise ValueError(f"{name}: one operand is on {there[0]}, the other on {there[1]}; move one with .to(device)")
    if a.dtype is not b.dtype and a.dtype != b.dtype and (  # int64 and uint64 would make float64
            is_float(a.dtype) or is_float(b.dtype) or is_float(np.result_type(a.dtype, b.dtype))):
        raise ValueError(f"{name}: {a.dtype} and {b.dtype} do not mix; convert one with .astype(dtype)")


def check_fits(name: str, label: str, given: Tensor | None, shape: tuple[int, ...], what: str, other: Tensor) -> None:
    """`given`, if any, must have the shape that goes with `other` (`what` is its name), and be alike."""
    if given is not None:
        if given.shape != shape:
            raise ValueError(f"{name}: {label} has shape {given.shape}, expected {shape} to match {what} {other.shape}")
        check_alike(name, other.data, given.data)


def check_reduction(reduction: str) -> None:
    """Of a loss: "mean", "sum", or "none", one loss per row or element."""
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"unknown reduction {reduction!r}; choose from mean, sum, none")


def check_broadcast(name: str, a: tuple[int, ...], b: tuple[int, ...]) -> None:
    if a != b:
        try:
            np.broadcast_shapes(a, b)
        except ValueError:
            raise ValueError(f"{name}: shapes {a} and {b} do not broadcast") from None


def meet(name: str, a: Tensor, value) -> tuple:
    """The arrays of a Tensor and of a number, list or plain array: on one device, the second in a float's dtype."""
    if is_number(value):
        x, value = with_number(name, a, value)
        return x, backend.beside(x, np.asarray(value, None if x.dtype == bool else x.dtype))
    x, y = a.data, Tensor(backend.beside(a.data, value)).data  # which refuses what is no numbers
    if is_float(x.dtype):
        return x, y.astype(x.dtype, copy=False)
    return x, y if backend.is_array(value) or y.dtype != np.float64 else y.astype(np.float32)


def is_number(value) -> bool:
    """A plain number, which needs no gradient and takes the dtype of the tensor beside it."""
    return isinstance(value, (int, float, np.number))


def plain(number):
    """A Python number (or None): unlike NumPy's scalars it never changes the dtype of the array beside it."""
    return number.item() if isinstance(number, np.number) else number


def with_number(name: str, a: Tensor, number) -> tuple:
    """The array of a Tensor and a Python number as they meet: beside a fraction, integers are float32."""
    x, number = (a if isinstance(a, Tensor) else Tensor(a)).data, plain(number)
    if x.dtype.kind not in "iub":
        return x, number
    if isinstance(number, float):
        return x.astype(np.float32), number
    limits = np.iinfo(np.int64 if x.dtype == bool else x.dtype)
    if not limits.min <= number <= limits.max:
        raise ValueError(f"{name}: {number} does not fit into {x.dtype}; convert the tensor with .astype(dtype)")
    return x, number


def rounded(y, dtype):
    """What came of an array of this float type and a plain number: NumPy and CuPy make float32 of bfloat16 and 0.5."""
    return y if y.dtype == dtype or not is_float(dtype) else y.astype(dtype)


def add(a, b) -> Tensor:
    """a + b.   dL/da = dL/dy,   dL/db = dL/dy"""
    if is_number(b):
        x, b = with_number("add", a, b)
        return record("add", rounded(x + b, x.dtype), (a,), lambda g: (g,))
    x, y = operands("add", a, b)
    return record("add", x + y, (a, b), lambda g: (unbroadcast(g, x.shape), unbroadcast(g, y.shape)))


def sub(a, b) -> Tensor:
    """a - b.   dL/da = dL/dy,   dL/db = -dL/dy"""
    if is_number(b):
        x, b = with_number("sub", a, b)
        return record("sub", rounded(x - b, x.dtype), (a,), lambda g: (g,))
    x, y = operands("sub", a, b)
    return record("sub", x - y, (a, b), lambda g: (unbroadcast(g, x.shape), unbroadcast(-g, y.shape)))


def mul(a, b) -> Tensor:
    """a * b.   dL/da = dL/dy * b,   dL/db = dL/dy * a"""
    if is_number(b):
        x, b = with_number("mul", a, b)
        return record("mul", rounded(x * b, x.dtype), (a,), lambda g: (rounded(g * b, g.dtype),))
    x, y = operands("mul", a, b)
    return record("mul", x * y, (a, b), lambda g: (unbroadcast(g * y, x.shape), unbroadcast(g * x, y.shape)))


def div(a, b) -> Tensor:
    """a / b.   dL/da = dL/dy / b,   dL/db = -dL/dy * a / b^2"""
    if is_number(b):
        x, b = with_number("div", a, float(b))
        return record("div", rounded(x / b, x.dtype), (a,), lambda g: (rounded(g / b, g.dtype),))
    x, y = operands("div", a, b, fractions=True)
    return record("div", x / y, (a, b), lambda g: (unbroadcast(g / y, x.shape), unbroadcast(-g * x / (y * y), y.shape)))


def neg(a: Tensor) -> Tensor:
    """-a.   dL/da = -dL/dy"""
    return record("neg", -a.data, (a,), lambda g: (-g,))


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
    if a.ndim == 0:
        return reshape(swapaxes(reshape(a, 1), first, second), ())
    return record("swapaxes", a.data.swapaxes(first, second), (a,), lambda g: (g.swapaxes(first, second),))


def getitem(a: Tensor, index) -> Tensor:
    """a[index], with slices, integers, None, `...`, integer arrays and boolean masks.

    dL/da is zero but for the chosen places, where it is dL/dy; a place chosen several times gets the sum.
    """
    index = tuple(as_index(i, a.data) for i in index) if isinstance(index, tuple) else as_index(index, a.data)
    shape, xp = a.shape, a.xp

    def backward(g):
        # Only arrays of integers can choose one place twice; slices, single integers and boolean masks cannot.
        parts = index if isinstance(index, tuple) else (index,)
        if any(backend.is_array(part) and part.dtype != bool for part in parts):
            return (added_at(index, g, shape, xp),)
        da = xp.zeros(shape, g.dtype)
        da[index] = g
        return (da,)

    return record("getitem", a.data[index], (a,), backward)


def as_index(index, like):
    """What an index is made of: arrays where `like` is, also for lists, tuples and the like; the others as they are."""
    index = raw(index)
    if isinstance(index, Sequence):  # array.array is one too
        index = np.asarray(index, None if len(index) else np.intp)
    return backend.beside(like, index) if backend.is_array(index) and index.ndim else index


def added_at(index, g, shape: tuple[int, ...], xp):
    """Zeros of this shape with g added at `index`; 16-bit numbers are added up in float32, and rounded once."""
    wide = np.float32 if g.dtype.itemsize == 2 else g.dtype
    sums = xp.zeros(shape, wide)
    xp.add.at(sums, index, g.astype(wide, copy=False))
    return sums.astype(g.dtype, copy=False)


def astype(a: Tensor, dtype) -> Tensor:
    """The same values in another dtype.   dL/da = dL/dy in a's dtype; none if the dtype is not a float"""
    before, after = a.dtype, np.dtype(dtype)
    if not is_float(after):
        return Tensor(a.data.astype(after))
    return record("astype", a.data.astype(after), (a,), lambda g: (g.astype(before),))


def to(a: Tensor, device: str) -> Tensor:
    """The same values on the device "cpu" or "cuda"; itself where it is there already.   dL/da = dL/dy brought back"""
    before = a.device
    y = backend.to_device(a.data, device)
    return a if before == device else record("to", y, (a,), lambda g: (backend.to_device(g, before),))
