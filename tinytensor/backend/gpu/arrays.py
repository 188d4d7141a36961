"""Small questions about arrays that several kernels ask."""

import numpy as np

from tinytensor.backend import array_module, device_of, to_device

MULTIPROCESSORS = 132  # of an H100; other GPUs run as many blocks in turns


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
