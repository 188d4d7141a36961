"""Axes made one, a tensor laid out several times, and the triangles of a matrix."""

import math
from collections.abc import Sequence

from tinytensor.ops.basic import reshape
from tinytensor.ops.reduce import axis_of
from tinytensor.ops.shape import broadcast_to, split
from tinytensor.tensor import Tensor, record


def flatten(a: Tensor, first: int = 0, last: int = -1) -> Tensor:
    """The axes from `first` to `last`, both included, as one.   dL/da = dL/dy in a's shape"""
    first, last = axis_of("flatten", a.shape, first), axis_of("flatten", a.shape, last)
    if first > last:
        raise ValueError(f"flatten: axis {first} comes after axis {last} of shape {a.shape}")
    return reshape(a, (*a.shape[:first], math.prod(a.shape[first : last + 1]), *a.shape[last + 1 :]))


def chunk(a: Tensor, chunks: int, axis: int = 0) -> list[Tensor]:
    """Cut into at most `chunks` pieces along `axis`, all as long as the first but the last, which has the rest.

    dL/da = the pieces' gradients side by side
    """
    if chunks < 1:
        raise ValueError(f"chunk: there must be at least 1 piece, not {chunks}")
    return split(a, max(1, -(-a.shape[axis_of("chunk", a.shape, axis)] // chunks)), axis)


def repeat(a: Tensor, *times) -> Tensor:
    """The whole tensor `times[axis]` times along each axis, as torch.Tensor.repeat; more axes come in front.

    dL/da = dL/dy summed over the repeats
    """
    times = tuple(times[0]) if len(times) == 1 and isinstance(times[0], Sequence) else times
    if len(times) < a.ndim or min(times, default=0) < 0:
        raise ValueError(f"repeat: {times} must say how often, for each of the {a.ndim} axes of shape {a.shape}")
    shape = (*[1] * (len(times) - a.ndim), *a.shape)
    pairs = zip(times, shape)
    y = broadcast_to(reshape(a, [one for n in shape for one in (1, n)]), [one for pair in pairs for one in pair])
    return reshape(y, [n * count for n, count in zip(shape, times)])


def tril(a: Tensor, k: int = 0) -> Tensor:
    """The last two axes' lower triangle, up to the k-th diagonal above the main one; 0 elsewhere.   So has dL/da"""
    return _triangle(a.xp.tril, a, k)


def triu(a: Tensor, k: int = 0) -> Tensor:
    """The last two axes' upper triangle, from the k-th diagonal above the main one on; 0 elsewhere.   So has dL/da"""
    return _triangle(a.xp.triu, a, k)


def _triangle(cut, a: Tensor, k: int) -> Tensor:
    if a.ndim < 2:
        raise ValueError(f"{cut.__name__}: a matrix has a triangle; shape {a.shape} has fewer than two axes")
    return record(cut.__name__, cut(a.data, k), (a,), lambda g: (cut(g, k),))
