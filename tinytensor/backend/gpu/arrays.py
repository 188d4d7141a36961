"""Small questions about arrays that several kernels ask, how row kernels are cut up, and a table's rows by id."""

from math import prod

import numpy as np

from tinytensor.backend import array_module, beside, cpu, device_of
from tinytensor.backend.gpu.launch import blocks_for, c_name, capture, launch

MULTIPROCESSORS = 132  # of an H100; other GPUs run as many blocks in turns
MOST_THREADS = 1024
IDS_TO_A_BLOCK, CHUNK = 2048, 32  # in the sort, and in the sums, of embedding.cu


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
    x = x if rows_are_whole(x) else array_module(x).ascontiguousarray(x)
    return sums_of_columns(x, None, None, dtype or x.dtype)


def sums_of_columns(x, factors, products, dtype):
    """The sum of the rows of x, or of those of x * factors, which is written into `products`."""
    (N, C), step, size = x.shape, row_step(x), part_size(row_step(x), x, factors)
    across, down = column_grid(N, C, size)
    sums = array_module(x).empty((down, C), wide_dtype(x) if down > 1 else dtype)
    name = f"column_sums<{c_name(x)}, {c_name(sums)}, {size}, {int(products is not None)}>"
    launch("columns.cu", name, (across, down), 256, (x, factors, products, sums, N, C, step))
    return sums[0] if down == 1 else sums_of_columns(sums, None, None, dtype)


def column_grid(N: int, C: int, size: int) -> tuple[int, int]:
    """Blocks beside and above one another: four to a multiprocessor, if each has rows for its teams to go down."""
    across = blocks_for(C, 32 * size)
    return across, max(1, min(blocks_for(N, 64), blocks_for(4 * MULTIPROCESSORS, max(1, across))))


def add_bias(y, bias) -> None:
    """y += bias, in place.   y: (N, C); bias: (C,)"""
    if not rows_are_whole(y):
        y += bias
        return
    (N, C), bias = y.shape, array_module(y).ascontiguousarray(bias, y.dtype)
    size = part_size(row_step(y), y, bias)
    arguments = y, bias, N, C, row_step(y)
    launch("columns.cu", f"add_bias<{c_name(y)}, {size}>", column_grid(N, C, size), 256, arguments)


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
    (N, C), (ids, places) = dy.shape, sort_ids(ids, rows)
    size = part_size(C, dy, out)
    chunks, across = blocks_for(N, CHUNK), blocks_for(C, 32 * size)
    parts = xp.empty((chunks, 2, C), wide_dtype(dy))
    launch("embedding.cu", f"embedding_sums<{c_name(dy)}, {c_name(out)}, {size}>", (blocks_for(chunks, 4), across), 128,
           (dy, ids, places, out, parts, N, C))
    launch("embedding.cu", f"embedding_join<{c_name(parts)}, {c_name(out)}, {size}>", (chunks, across), 256,
           (ids, parts, out, N, C))
    return out


def sort_ids(ids, rows):
    """(the ids in order, where each stood) of ids (N,) in [0, rows); equal ids stay in the order they had."""
    empty, places = array_module(ids).empty, None
    blocks = blocks_for(ids.size, IDS_TO_A_BLOCK)
    counts = empty((blocks, 256), np.int32)
    for shift in range(0, max(1, (rows - 1).bit_length()), 8):
        ordered, targets = empty(ids.size, np.int64), empty(ids.size, np.int64)
        launch("embedding.cu", f"sort_count<{shift}>", (blocks,), 256, (ids, counts, ids.size))
        arguments = ids, places, counts, ordered, targets, ids.size
        launch("embedding.cu", f"sort_place<{shift}>", (blocks,), 256, arguments)
        ids, places = ordered, targets
    return ids, places


def tune_malloc():
    """Nothing to do, so False: freed arrays stay in CuPy's memory pool."""
    return False
