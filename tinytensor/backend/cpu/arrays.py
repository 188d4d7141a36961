"""How every kernel walks an array, multiplies matrices, and gets its memory.

NumPy makes one pass over memory per operation. Ten passes over an array that does not fit the cache cost ten trips to
memory; ten passes over a block that does, block after block, cost one. That is all "fusing" means in this folder.
"""

import ctypes
from math import prod

import numpy as np

# Elements in a block: small enough to stay in the L2 or L3 cache, large enough that NumPy's microsecond a call is lost.
BLOCK = 128 * 1024

# Up to this number of rows a product is faster row by row, as in decoding a few texts at once: BLAS would rearrange the
# whole matrix before it multiplies a few rows with it.
FEW_ROWS = 4

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8  # names of malloc.h


def as_rows(x):
    """x (..., C) as a C-contiguous (N, C): a view where possible."""
    return np.ascontiguousarray(x).reshape(prod(x.shape[:-1]), x.shape[-1])


def row_blocks(rows, width, elements=BLOCK):
    """Slices that cut `rows` rows of `width` elements into blocks of about `elements` elements; none if width is 0."""
    step = max(8, elements // max(width, 1) // 8 * 8)
    return [slice(start, min(start + step, rows)) for start in range(0, rows if width else 0, step)]


def flat_blocks(size):
    """Slices that cut `size` elements into blocks."""
    return [slice(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK)]


def scale_rows(x, factors, out=None):
    """x (N, C) times factors (N,), row by row."""
    return np.multiply(x, factors[:, None], out=out)


def matmul(a, b, out=None):
    """a @ b, in `out` if given.   a: (N, K), b: (K, M) -> (N, M)"""
    if 1 < len(a) <= FEW_ROWS and out is None and b.flags.f_contiguous:  # as the transpose of a weight is
        return (a[:, None] @ b)[:, 0]
    return np.matmul(a, b, out=out)


def tune_malloc():
    """Make glibc keep freed memory in the process: True; on any other C library False, with nothing changed.

    By default glibc maps every array over 128 KB afresh and unmaps it when it is freed, so each pass over a new array
    pays a page fault and a zeroed page per 4 KB: 119 us instead of 24 for 0.4 MB. Told to keep what it has, it makes a
    fresh array nearly as cheap as a reused one, and the kernels need no buffers of their own.
    The price is that the process holds its largest size until it ends. Call it once, before the first large array.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  only glibc has it
        mallopt = libc.mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS; Windows
        return False
    return all([
        mallopt(M_MMAP_MAX, 0),  # large arrays come from the heap, not from mmap
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1),  # the heap does not shrink
        mallopt(M_TOP_PAD, 64 << 20),  # and grows 64 MB at a time
        mallopt(M_ARENA_MAX, 1),  # threads share the heap, and so the memory it kept
    ])
