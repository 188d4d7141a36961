"""Small questions about arrays that several kernels ask, how row kernels are cut up, and a table's rows by id."""

from math import prod

import numpy as np

from tinytensor.backend import array_module, beside, cpu, device_of
from tinytensor.backend.gpu.launch import blocks_for, c_name, capture, launch

MULTIPROCESSORS = 132  # of an H100; other GPUs run as many blocks in turns
MOST_THREADS = 1024
SORTED_BY_RANK = 1 << 17  # up to so many ids


def address(a) -> int:
    """Where the array's first element is."""
    return a.ctypes.data if isinstance(a, np.ndarray) else a.data.ptr


def wide_dtype(a) -> np.dtype:
    """What sums over `a` are kept in."""
    return np.dtype(np.float64 if a.dtype == np.float64 else np.float32)


def integers(like, ids):
    """The ids as a flat array of int64 beside `like`."""
    xp = array_module(like)
    return xp.ascontiguousarray(beside(like, ids).reshape(-1), np.int64)


def as_rows(x):
    """x (..., C) as a C-contiguous (N, C): a view where possible."""
    return array_module(x).ascontiguousarray(x).reshape(prod(x.shape[:-1]), x.shape[-1])


def rows_are_whole(a) -> bool:
    """Whether each row of a matrix is contiguous and behind the one before."""
    (rows, columns), size = a.shape, a.dtype.itemsize
    return (columns == 1 or a.strides[1] == size) and (rows == 1 or a.strides[0] >= columns * size)


def row_step(a) -> int:
    """Elements from row to row of a matrix whose rows are whole."""
    return max(a.shape[1], a.strides[0] // a.dtype.itemsize if len(a) > 1 else 0)


def column_sums(x, dtype=None):
    """The sum of the rows of x (N, C), added up in float32 or float64.  Returns (C,), of x's dtype if none is said."""
    xp, x = array_module(x), x if rows_are_whole(x) else array_module(x).ascontiguousarray(x)
    (N, C), step = x.shape, row_step(x)
    size = part_size(step, x)
    across = blocks_for(C, 32 * size)
    # Four blocks to a multiprocessor, if each has rows for its teams to go down.
    down = max(1, min(blocks_for(N, 64), blocks_for(4 * MULTIPROCESSORS, max(1, across))))
    sums = xp.empty((down, C), wide_dtype(x) if down > 1 else dtype or x.dtype)
    name = f"column_sums<{c_name(x)}, {c_name(sums)}, {size}>"
    launch("columns.cu", name, (across, down), 256, (x, sums, N, C, step))
    return sums[0] if down == 1 else column_sums(sums, dtype or x.dtype)


def part_size(width: int, *arrays) -> int:
    """How many neighbouring elements fill 16 bytes, if all rows can be read in such parts; else 1."""
    size = 16 // arrays[0].dtype.itemsize
    return size if width % size == 0 and all(a is None or address(a) % 16 == 0 for a in arrays) else 1


def threads_for(parts: int) -> int:
    """Whole warps, enough for a part each, at most a full block."""
    return min(MOST_THREADS, max(1, -(-parts // 32)) * 32)


def embedding(weight, ids):
    """y = weight[ids].  weight: (V, C); ids: integers of any shape.  Returns (*ids.shape, C)."""
    return array_module(weight).take(weight, beside(weight, ids), axis=0)


def id_outside(ids, count, ignored=None):
    """One of the ids that are neither in [0, count) nor `ignored`; None if there is none.

    Those on the GPU of a step that is to be repeated are not looked at: that would be to wait for the GPU.
    """
    unseen = capture.recorder and device_of(ids) == "cuda"
    return None if unseen else cpu.id_outside(ids, count, ignored)


def embedding_backward(dy, ids, rows, out=None):
    """dweight[i] = the sum of dy where ids == i, in one order, without atomics: see backend.cpu.embedding_backward."""
    xp, dy, ids = array_module(dy), as_rows(dy), integers(dy, ids)
    if out is None:
        out = xp.empty((rows, dy.shape[1]), dy.dtype)
    out[...] = 0
    ids, places = sort_ids(ids, xp)
    launch("embedding.cu", f"embedding_backward<{c_name(dy)}, {c_name(out)}>", (ids.size,),
           min(256, threads_for(dy.shape[1])), (dy, ids, places, out, ids.size, dy.shape[1]))
    return out


def sort_ids(ids, xp):
    """(the ids in order, where each stood); equal ids stay in the order they had."""
    if ids.size > SORTED_BY_RANK:
        places = xp.argsort(ids, kind="stable")
        return ids[places], places
    ordered, places = xp.empty_like(ids), xp.empty_like(ids)
    launch("embedding.cu", "sort_ids<256>", (blocks_for(ids.size, 256),), 256, (ids, ordered, places, ids.size))
    return ordered, places


def tune_malloc():
    """Nothing to do, so False: freed arrays stay in CuPy's memory pool."""
    return False
