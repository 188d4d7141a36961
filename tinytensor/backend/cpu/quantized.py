"""Products of small integers, accumulated exactly: what a quantized layer computes.

NumPy has no fast integer product, and needs none. A float32 holds every integer up to 2^24, so a float32 product of
integers is exact, in whatever order BLAS adds, as long as no partial sum can exceed that: 2^10 products of two int8
values (2^7 * 2^7 each), or 2^14 products of an int8 and an int4 value. Longer sums are cut into chunks of that
length, and the chunks added up as int32.
"""

import numpy as np

from tinytensor.backend.cpu.arrays import row_blocks

EXACT = 2**10  # products of two int8 values that add up to at most 2^24


def int8_matmul(x, w):
    """x @ w.T as exact int32.   x: (N, K) int8, w: (M, K) int8 -> (N, M) int32; K below 2^17."""
    (N, K), M = x.shape, len(w)
    x = x.astype(np.float32)
    y = np.zeros((N, M), np.int32)
    for rows in row_blocks(M, K):
        part = w[rows].astype(np.float32)
        if K <= EXACT:
            y[:, rows] = x @ part.T
            continue
        for start in range(0, K, EXACT):
            chunk = slice(start, start + EXACT)
            y[:, rows] += (x[:, chunk] @ part[:, chunk].T).astype(np.int32)
    return y


def int4_matmul(x, packed, scale):
    """The sum over groups of scale * (exact integer product within the group), in float32.

    x: (N, K) int8; packed: (M, K/2), see pack_int4; scale: (M, G) float32, one for each K/G neighbouring columns.
    Returns (N, M) float32. A group is at most 2^14 long.
    """
    (N, K), (M, G) = x.shape, scale.shape
    groups = np.ascontiguousarray(x.reshape(N, G, K // G).swapaxes(0, 1), np.float32)  # (G, N, K/G)
    w = unpack_int4(packed).astype(np.float32).reshape(M, G, K // G)
    y = np.zeros((N, M), np.float32)
    for rows in row_blocks(N, M):  # so that the sums stay in the cache
        for g in range(G):
            sums = groups[g, rows] @ w[:, g].T  # integers
            sums *= scale[:, g]
            y[rows] += sums
    return y


def pack_int4(codes):
    """Two values to a byte: codes (..., K) int8 in [-8, 7], K even -> (..., K/2) uint8.

    Element 2i takes the low four bits and 2i + 1 the high four, both in two's complement.
    """
    low, high = codes[..., ::2].view(np.uint8), codes[..., 1::2].view(np.uint8)
    return (low & 15) | (high << 4)


def unpack_int4(packed):
    """(..., K/2) uint8 -> (..., K) int8. Shifting a nibble up and arithmetically down again extends its sign."""
    codes = np.empty_like(packed, np.int8, shape=(*packed.shape[:-1], 2 * packed.shape[-1]))
    codes[..., ::2] = (packed << 4).view(np.int8) >> 4
    codes[..., 1::2] = packed.view(np.int8) >> 4
    return codes
