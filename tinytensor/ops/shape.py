"""Ops that move elements about without changing them. Their gradients move them back, and add where one went twice."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tinytensor.backend import beside, is_array
from tinytensor.ops.elementwise import check_alike, unbroadcast
from tinytensor.tensor import Tensor, raw, record, record_many


def reshape(a: Tensor, *shape) -> Tensor:
    """The same elements, in order, in another shape; one length may be -1.   dL/da = dL/dy in a's shape"""
    shape = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    before = a.shape
    known = math.prod(n for n in shape if n != -1)
    fits = a.size == known if -1 not in shape else known != 0 and a.size % known == 0
    if not fits or list(shape).count(-1) > 1:
        raise ValueError(f"reshape: {before} has {a.size} elements and cannot become {tuple(shape)}")
    return record("reshape", a.data.reshape(shape), (a,), lambda g: (g.reshape(before),))


def transpose(a: Tensor, *axes) -> Tensor:
    """The axes in another order (reversed if none is given).   dL/da = dL/dy with the order undone"""
    axes = axes[0] if len(axes) == 1 and isinstance(axes[0], Sequence) else axes
    axes = axes or tuple(reversed(range(a.ndim)))
    if sorted(axis % a.ndim if a.ndim else axis for axis in axes) != list(range(a.ndim)):
        raise ValueError(f"transpose: {axes} is no order of the {a.ndim} axes of shape {a.shape}")
    back = sorted(range(a.ndim), key=lambda axis: axes[axis] % a.ndim)
    return record("transpose", a.data.transpose(axes), (a,), lambda g: (g.transpose(back),))


def swapaxes(a: Tensor, first: int, second: int) -> Tensor:
    """Two axes exchanged.   dL/da = dL/dy with them exchanged again"""
    return record("swapaxes", a.data.swapaxes(first, second), (a,), lambda g: (g.swapaxes(first, second),))


def expand_dims(a: Tensor, axis: int) -> Tensor:
    """A new axis of length 1 at `axis`.   dL/da = dL/dy in a's shape"""
    before = a.shape
    return record("expand_dims", a.xp.expand_dims(a.data, axis), (a,), lambda g: (g.reshape(before),))


def squeeze(a: Tensor, axis: int | None = None) -> Tensor:
    """Without the axis `axis` of length 1 (all such axes by default).   dL/da = dL/dy in a's shape"""
    before = a.shape
    if axis is not None and before[axis] != 1:
        raise ValueError(f"squeeze: axis {axis} of shape {before} has length {before[axis]}, not 1")
    return record("squeeze", a.data.squeeze(axis), (a,), lambda g: (g.reshape(before),))


def broadcast_to(a: Tensor, shape: Sequence[int]) -> Tensor:
    """Repeat along new axes and axes of length 1, without copying.   dL/da = dL/dy summed over the repeats"""
    before = a.shape
    try:
        y = a.xp.broadcast_to(a.data, shape)
    except ValueError:
        raise ValueError(f"broadcast_to: {before} does not broadcast to {tuple(shape)}") from None
    return record("broadcast_to", y, (a,), lambda g: (unbroadcast(g, before),))


def getitem(a: Tensor, index) -> Tensor:
    """a[index], with slices, integers, None, `...`, integer arrays and boolean masks.

    dL/da is zero but for the chosen places, where it is dL/dy; a place chosen several times gets the sum.
    """
    index = tuple(_index(i, a.data) for i in index) if isinstance(index, tuple) else _index(index, a.data)
    shape, xp = a.shape, a.xp

    def backward(g):
        if _may_repeat(index):
            return (_added_at(index, g, shape, xp),)
        da = xp.zeros(shape, g.dtype)
        da[index] = g
        return (da,)

    return record("getitem", a.data[index], (a,), backward)


def _index(index, like):
    """What an index is made of: arrays where `like` is; slices and integers as they are."""
    index = np.asarray(index, None if index else np.intp) if isinstance(index, list) else raw(index)
    return beside(like, index) if is_array(index) and index.ndim else index


def _may_repeat(index) -> bool:
    """Only arrays of integers can choose one place twice; slices, single integers and boolean masks cannot."""
    parts = index if isinstance(index, tuple) else (index,)
    return any(is_array(part) and part.dtype != bool for part in parts)


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


def concatenate(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The tensors one after the other along `axis`.   Each gets its own stretch of dL/dy"""
    if not tensors:
        raise ValueError("concatenate: no tensors were given")
    for t in tensors:
        check_alike("concatenate", tensors[0].data, t.data)
        if t.ndim == 0:
            raise ValueError("concatenate: a 0-d tensor has no axis to be joined along; use stack")
    others = {t.shape[:axis % t.ndim] + t.shape[axis % t.ndim + 1 :] for t in tensors}
    if len(others) > 1:
        raise ValueError(f"concatenate: shapes {[t.shape for t in tensors]} differ outside axis {axis}")
    xp = tensors[0].xp
    ends = np.cumsum([t.shape[axis] for t in tensors])[:-1].tolist()
    y = xp.concatenate([t.data for t in tensors], axis)
    return record("concatenate", y, tensors, lambda g: xp.split(g, ends, axis))


def stack(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """Tensors of one shape side by side along a new axis.   Each gets its own slice of dL/dy"""
    return concatenate([expand_dims(t, axis) for t in tensors], axis)


def split(a: Tensor, parts: int, axis: int = -1) -> list[Tensor]:
    """Cut into `parts` equal pieces along `axis`.   dL/da = the pieces' gradients side by side"""
    if a.shape[axis] % parts:
        raise ValueError(f"split: axis {axis} of shape {a.shape} does not divide into {parts} equal parts")
    xp = a.xp
    pieces = xp.split(a.data, parts, axis)
    shape, dtype = pieces[0].shape, a.dtype

    def backward(*grads):
        return (xp.concatenate([xp.zeros(shape, dtype) if g is None else g for g in grads], axis),)

    return record_many("split", pieces, (a,), backward)


def toeplitz(a: Tensor, rows: int, columns: int) -> Tensor:
    """A matrix that is constant along its diagonals, from its diagonals: y[..., t, s] = a[..., s - t + rows - 1].

    a: (..., rows + columns - 1), the diagonals from the lowest left corner to the upper right one.
    Returns (..., rows, columns), a view, read-only.   dL/da[d] = dL/dy summed along diagonal d
    """
    diagonals = rows + columns - 1
    if rows < 1 or columns < 1 or a.shape[-1] != diagonals:
        raise ValueError(f"toeplitz: {rows} rows and {columns} columns have {diagonals} diagonals, not {a.shape}")
    xp = a.xp
    windows = xp.lib.stride_tricks.sliding_window_view(xp.ascontiguousarray(a.data), columns, axis=-1)

    def backward(g):
        # Row i from below belongs i places to the right. Laid out in rows one element too long and read in rows of the
        # right length, it stands there, and the diagonals have become columns.
        lead = g.shape[:-2]
        laid = xp.zeros((*lead, rows, diagonals + 1), g.dtype)
        laid[..., :columns] = g[..., ::-1, :]
        read = laid.reshape(*lead, rows * (diagonals + 1))[..., : rows * diagonals].reshape(*lead, rows, diagonals)
        return (read.sum(axis=-2),)

    return record("toeplitz", windows[..., ::-1, :], (a,), backward)


def pad(a: Tensor, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Add `widths[axis] = (before, after)` elements of `value` around each axis.   dL/da = the middle of dL/dy"""
    if len(widths) != a.ndim:
        raise ValueError(f"pad: {len(widths)} pairs of widths for the {a.ndim} axes of shape {a.shape}")
    middle = tuple(slice(before, before + n) for (before, _), n in zip(widths, a.shape))
    return record("pad", a.xp.pad(a.data, widths, constant_values=value), (a,), lambda g: (g[middle],))


def flip(a: Tensor, axis: int) -> Tensor:
    """In reverse order along `axis`.   dL/da = dL/dy in reverse order"""
    xp = a.xp
    return record("flip", xp.flip(a.data, axis), (a,), lambda g: (xp.flip(g, axis),))
