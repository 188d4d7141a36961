"""Ops that move elements about without changing them. Their gradients move them back, and add where one went twice."""

from collections.abc import Sequence

import numpy as np

from tinytensor.backend import is_float
from tinytensor.ops.basic import astype, check_alike, unbroadcast, with_number
from tinytensor.ops.reduce import axes_of, axis_of
from tinytensor.tensor import Tensor, record, record_many


def transpose(a: Tensor, *axes) -> Tensor:
    """The axes in another order (reversed if none is given).   dL/da = dL/dy with the order undone"""
    axes = axes[0] if len(axes) == 1 and isinstance(axes[0], Sequence) else axes
    axes = axes or tuple(reversed(range(a.ndim)))
    if sorted(axis % a.ndim if a.ndim else axis for axis in axes) != list(range(a.ndim)):
        raise ValueError(f"transpose: {axes} is no order of the {a.ndim} axes of shape {a.shape}")
    back = sorted(range(a.ndim), key=lambda axis: axes[axis] % a.ndim)
    return record("transpose", a.data.transpose(axes), (a,), lambda g: (g.transpose(back),))


def expand_dims(a: Tensor, axis: int) -> Tensor:
    """A new axis of length 1 at `axis`.   dL/da = dL/dy in a's shape"""
    before = a.shape
    return record("expand_dims", a.xp.expand_dims(a.data, axis), (a,), lambda g: (g.reshape(before),))


def squeeze(a: Tensor, axis: int | Sequence[int] | None = None) -> Tensor:
    """Without the axes `axis` of length 1 (all such axes by default).   dL/da = dL/dy in a's shape"""
    before = a.shape
    axes = [one for one, n in enumerate(before) if n == 1] if axis is None else axes_of("squeeze", before, axis)
    if long := [one for one in axes if before[one] != 1]:
        raise ValueError(f"squeeze: axis {long[0]} of shape {before} has length {before[long[0]]}, not 1")
    after = [n for one, n in enumerate(before) if one not in axes]
    return record("squeeze", a.data.reshape(after), (a,), lambda g: (g.reshape(before),))


def broadcast_to(a: Tensor, shape: Sequence[int]) -> Tensor:
    """Repeat along new axes and axes of length 1, without copying.   dL/da = dL/dy summed over the repeats"""
    before = a.shape
    try:
        y = a.xp.broadcast_to(a.data, shape)
    except ValueError:
        raise ValueError(f"broadcast_to: {before} does not broadcast to {tuple(shape)}") from None
    return record("broadcast_to", y, (a,), lambda g: (unbroadcast(g, before),))


def concatenate(tensors: Sequence[Tensor], axis: int = 0) -> Tensor:
    """The tensors one after the other along `axis`.   Each gets its own stretch of dL/dy"""
    if not tensors:
        raise ValueError("concatenate: no tensors were given")
    kinds = {t.dtype for t in tensors if is_float(t.dtype)}
    if len(kinds) == 1:  # integers take the dtype of the floats beside them
        tensors = [t if is_float(t.dtype) else astype(t, *kinds) for t in tensors]
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


def split(a: Tensor, lengths: int | Sequence[int], axis: int = 0) -> list[Tensor]:
    """Cut into pieces of these lengths along `axis`; a single length: of all pieces but the last, which has the rest.

    dL/da = the pieces' gradients side by side
    """
    if a.ndim == 0:
        raise ValueError("split: a 0-d tensor has no axis to be cut along")
    along = axis_of("split", a.shape, axis)
    n = a.shape[along]
    if not isinstance(lengths, Sequence):
        if lengths < 1:
            raise ValueError(f"split: pieces must be at least 1 long, not {lengths}")
        lengths = [min(lengths, n - start) for start in range(0, n, lengths)] or [0]
    if not lengths or min(lengths) < 0 or sum(lengths) != n:
        raise ValueError(f"split: lengths {lengths} do not add up to the {n} of axis {axis} of shape {a.shape}")
    xp, dtype = a.xp, a.dtype
    pieces = xp.split(a.data, np.cumsum(lengths)[:-1].tolist(), along)
    shapes = [piece.shape for piece in pieces]

    def backward(*grads):
        return (xp.concatenate([xp.zeros(s, dtype) if g is None else g for s, g in zip(shapes, grads)], along),)

    return record_many("split", pieces, (a,), backward)


def pad(a: Tensor, widths: Sequence[tuple[int, int]], value: float = 0) -> Tensor:
    """Add `widths[axis] = (before, after)` elements of `value` around each axis.   dL/da = the middle of dL/dy"""
    if len(widths) != a.ndim:
        raise ValueError(f"pad: {len(widths)} pairs of widths for the {a.ndim} axes of shape {a.shape}")
    if any(width < 0 for pair in widths for width in pair):
        raise ValueError(f"pad: widths {list(widths)} must not be negative; to cut elements off, index")
    middle = tuple(slice(before, before + n) for (before, _), n in zip(widths, a.shape))
    x, value = with_number("pad", a, value) if widths else (a.data, value)
    y = a.xp.pad(x, widths, constant_values=value) if widths else x.copy()
    return record("pad", y, (a,), lambda g: (g[middle],))


def flip(a: Tensor, axis: int | Sequence[int]) -> Tensor:
    """In reverse order along `axis`, or along several.   dL/da = dL/dy in reverse order"""
    xp, axes = a.xp, axes_of("flip", a.shape, axis)
    return record("flip", xp.flip(a.data, axes), (a,), lambda g: (xp.flip(g, axes),))
