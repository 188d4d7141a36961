"""How every kernel walks an array: as rows, a cache-sized block at a time.

NumPy makes one pass over memory per operation. Ten passes over an array that does not fit the cache cost ten trips to
memory; ten passes over a block that does, block after block, cost one. That is all "fusing" means in this folder.
"""

from math import prod

import numpy as np

# Elements in a block: small enough to stay in the L2 or L3 cache, large enough that NumPy's microsecond a call is lost.
BLOCK = 128 * 1024


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
