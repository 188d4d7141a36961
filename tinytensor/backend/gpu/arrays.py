"""Small questions about arrays that several kernels ask, and how the row kernels are cut up."""

from math import prod

import numpy as np

from tinytensor.backend import array_module, device_of, to_device

MULTIPROCESSORS = 132  # of an H100; other GPUs run as many blocks in turns
MOST_THREADS = 1024


def address(a) -> int:
    """Where the array's first element is."""
    return a.ctypes.data if isinstance(a, np.ndarray) else a.data.ptr


def to_device_of(like, a):
    """`a`, wherever it was made, where `like` is: masks, ids and targets often come from the CPU."""
    return to_device(a, device_of(like))


def wide_dtype(a) -> np.dtype:
    """What sums over `a` are kept in."""
    return np.dtype(np.float64 if a.dtype == np.float64 else np.float32)


def integers(like, ids):
    """The ids as a flat array of int64 beside `like`."""
    xp = array_module(like)
    return xp.ascontiguousarray(to_device_of(like, ids).reshape(-1), np.int64)


def as_rows(x):
    """x (..., C) as a C-contiguous (N, C): a view where possible."""
    return array_module(x).ascontiguousarray(x).reshape(prod(x.shape[:-1]), x.shape[-1])


def part_size(width: int, *arrays) -> int:
    """How many neighbouring elements fill 16 bytes, if all rows can be read in such parts; else 1."""
    size = 16 // arrays[0].dtype.itemsize
    return size if width % size == 0 and all(a is None or address(a) % 16 == 0 for a in arrays) else 1


def threads_for(parts: int) -> int:
    """Whole warps, enough for a part each, at most a full block."""
    return min(MOST_THREADS, max(1, -(-parts // 32)) * 32)


def tune_malloc():
    """Nothing to do, so False: freed arrays stay in CuPy's memory pool."""
    return False
