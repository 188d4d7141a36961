"""Elements in order, the largest of them, and elements picked by their places: what ranks and chooses.

The order itself has no gradient. The values have: what flows into each goes back to the place it came from.
"""

import numpy as np

from tinytensor.backend import as_array, backend_of
from tinytensor.ops.basic import added_at, as_index, reshape
from tinytensor.ops.reduce import axes_of, axis_of
from tinytensor.tensor import Tensor, raw, record


def take_along_axis(a: Tensor, indices, axis: int) -> Tensor:
    """y[..., i, ...] = a[..., indices[..., i, ...], ...] along `axis`; the shapes match on every other axis.

    dL/da adds dL/dy at the places taken.
    """
    indices, shape, xp = as_index(indices, a.data), a.shape, a.xp
    axis = axis_of("take_along_axis", shape, axis)
    if not shape:
        return reshape(take_along_axis(reshape(a, 1), indices.reshape(1), 0), ())

    def backward(g):
        places = [xp.asarray(place) for place in np.ogrid[tuple(slice(n) for n in shape)]]
        places[axis] = indices
        return (added_at(tuple(places), g, shape, xp),)

    return record("take_along_axis", xp.take_along_axis(a.data, indices, axis), (a,), backward)


def argmax(a: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The place of the largest element along `axis`, in the flattened tensor by default; of the first among equals."""
    return _place(a.xp.argmax, a, axis, keepdims)


def argmin(a: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The place of the smallest element along `axis`, in the flattened tensor by default; of the first among equals."""
    return _place(a.xp.argmin, a, axis, keepdims)


def _place(find, a: Tensor, axis: int | None, keepdims: bool) -> Tensor:
    if 0 in [a.shape[one] for one in axes_of(find.__name__, a.shape, axis)]:
        raise ValueError(f"{find.__name__}: there is nothing to choose from over axis {axis} of shape {a.shape}")
    return Tensor(a.xp.asarray(find(a.data, axis=axis, keepdims=keepdims)))


def argsort(a: Tensor, axis: int = -1, descending: bool = False) -> Tensor:
    """The places of the elements from the smallest to the largest along `axis`, or the other way round."""
    axis = axis_of("argsort", a.shape, axis)
    x, xp = (a.data if a.ndim else a.data.reshape(1)), a.xp
    if not descending:
        return Tensor(xp.argsort(x, axis=axis, kind="stable").reshape(a.shape))
    # Sorted from its end and turned around, so that equal elements keep their order here too.
    order = xp.flip(xp.argsort(xp.flip(x, axis), axis=axis, kind="stable"), axis)
    return Tensor((x.shape[axis] - 1 - order).reshape(a.shape))


def sort(a: Tensor, axis: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    """(the elements in order along `axis`, the places they come from).   dL/da = dL/dy, back in those places"""
    places = argsort(a, axis, descending)
    return take_along_axis(a, places, axis), places


def topk(a: Tensor, k: int, axis: int = -1, largest: bool = True) -> tuple[Tensor, Tensor]:
    """(the k largest elements along `axis`, the largest first; their places), or the k smallest, the smallest first.

    dL/da = dL/dy, back in those places
    """
    places = argsort(a, axis, descending=largest)
    n = a.shape[axis] if a.ndim else 1
    if not 0 <= k <= n:
        raise ValueError(f"topk: there are no {k} among the {n} elements along axis {axis} of shape {a.shape}")
    if a.ndim:
        places = Tensor(places.data.swapaxes(axis, -1)[..., :k].swapaxes(axis, -1))
    return take_along_axis(a, places, axis), places


def gather(a: Tensor, axis: int, indices) -> Tensor:
    """y[..., i, ...] = a[..., indices[..., i, ...], ...] along `axis`, as torch.gather.

    indices: integers in [0, length of the axis), of as many axes as a; along the others they may be shorter than a.
    dL/da adds dL/dy at the places taken.
    """
    ids, axis = as_index(as_array(raw(indices)), a.data), axis_of("gather", a.shape, axis)
    fits = len(ids.shape) == a.ndim and all(i <= n or one == axis for one, (i, n) in enumerate(zip(ids.shape, a.shape)))
    if ids.dtype.kind not in "iu" or not fits:
        raise ValueError(f"gather: indices must be integers, not {ids.dtype}, with axes as those of a {a.shape}, "
                         f"longer along axis {axis} only; not of shape {ids.shape}")
    n = a.shape[axis] if a.ndim else 1
    if (wrong := backend_of(a.data).id_outside(ids, n)) is not None:
        raise ValueError(f"gather: index {wrong} is outside the {n} elements along axis {axis} of shape {a.shape}")
    part = tuple(slice(None if one == axis else i) for one, i in enumerate(ids.shape))
    return take_along_axis(a[part], ids, axis)
