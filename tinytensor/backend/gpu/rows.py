"""How the row kernels are cut up: how many elements a thread takes at once, and how many threads a row."""

from math import prod

from tinytensor.backend import array_module

from .arrays import address

MOST_THREADS = 1024


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
