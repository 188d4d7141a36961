"""Products of small integers, accumulated exactly: what a quantized layer computes.

NumPy has no fast integer product, and needs none. A float32 holds every integer up to 2^24, so a float32 product of
integers is exact, in whatever order BLAS adds, as long as no partial sum can exceed that: 2^10 products of two int8
values (2^7 * 2^7 each), or 2^14 products of an int8 and an int4 value. Longer sums are cut into chunks of that
length, and the chunks added up as int32.

One row times a matrix costs what it takes to read the matrix. Integers are read as integers, block by block, and
become floats in the cache, where BLAS takes them up at once: by rows or, after Module.for_inference, by columns, as the
matrix lies in memory. What each step costs tells `python -m benchmarks.compression`.
"""

import numpy as np

from tinytensor.backend.cpu.arrays import BLOCK, row_blocks

EXACT = 2**10  # products of two int8 values that add up to at most 2^24
FEW = 16  # rows that a matrix stored by columns is multiplied with block by block; for more it pays to turn it
LOW, FLIPPED = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x8888888888888888)  # of each byte the low four bits; see below


def weight_matmul(x, codes, scale):
    """x @ (scale * codes).T of floats x (N, K).

    codes: int8 (M, K), scale: (1, 1) or (M, 1); or codes: 4 bits each, packed, scale: (M, G), see int4_matmul.
    """
    if codes.dtype == np.uint8:
        return int4_matmul(x, codes, scale)
    y = float_matmul(x, codes)
    y *= scale.reshape(1, -1)
    return y


def int8_matmul(x, w):
    """x @ w.T as exact int32.   x: (N, K) int8, w: (M, K) int8 -> (N, M) int32; K below 2^17."""
    y, x = np.zeros((len(x), len(w)), np.int32), x.astype(np.float32)
    for start in range(0, x.shape[1], EXACT):
        chunk = slice(start, start + EXACT)
        y += float_matmul(x[:, chunk], w[:, chunk]).astype(np.int32)
    return y


def float_matmul(x, w):
    """x @ w.T.   x: (N, K) floats, w: (M, K) int8 -> (N, M) floats."""
    (N, K), M = x.shape, len(w)
    if N > FEW or not w.T.flags.c_contiguous:
        y, blocks = np.empty((N, M), x.dtype), row_blocks(M, K)
        part = np.empty((blocks[0].stop if blocks else 0, K), x.dtype)
        for rows in blocks:
            block = part[: rows.stop - rows.start]
            np.copyto(block, w[rows])
            np.matmul(x, block.T, out=y[:, rows])
        return y
    y, blocks = np.zeros((N, M), x.dtype), row_blocks(K, M)
    part = np.empty((blocks[0].stop if blocks else 0, M), x.dtype)
    for columns in blocks:
        block = part[: columns.stop - columns.start]
        np.copyto(block, w.T[columns])
        y += x[:, columns] @ block
    return y


def int4_matmul(x, packed, scale):
    """The sum over groups of scale * (exact integer product within the group), in float32.

    x: (N, K) int8, or float32; packed: (M, K/2), see pack_int4; scale: (M, G) float32, one for each K/G neighbouring
    columns. Returns (N, M) float32. A group is at most 2^14 long.
    """
    (N, K), (M, G) = x.shape, scale.shape
    dtype = np.result_type(x, np.float32)
    groups = np.ascontiguousarray(x.reshape(N, G, K // G).swapaxes(0, 1), dtype)  # (G, N, K/G)
    if N <= FEW and packed.T.flags.c_contiguous and M % 8 == 0:
        return _few_rows(groups, packed.T.reshape(G, K // G // 2, M), scale.T)
    y = np.zeros((N, M), dtype)
    for rows in row_blocks(M, K):
        w = unpack_int4(packed[rows]).astype(dtype).reshape(-1, G, K // G)
        for g in range(G):
            sums = groups[g] @ w[:, g].T  # integers
            sums *= scale[rows, g]
            y[:, rows] += sums
    return y


def _few_rows(x, packed, scale):
    """The same of x (G, N, K/G) float32, packed (G, K/G/2, M) and scale (G, M): one row of `packed` after another.

    Four bits are taken out of eight bytes at a time. A value v in two's complement, its highest bit flipped, is v + 8
    without a sign; what the 8 adds to a group's product is 8 times the sum of its x.
    """
    (G, half, M), N = packed.shape, x.shape[1]
    even, odd, extra = x[..., ::2].copy(), x[..., 1::2].copy(), 8 * x.sum(axis=2)  # (G, N, half) each, (G, N)
    blocks = row_blocks(G, half * M, BLOCK)
    most = blocks[0].stop if blocks else 0
    bits, floats = np.empty((most, half, M), np.uint8), np.empty((most, half, M), x.dtype)
    y = np.zeros((N, M), x.dtype)
    for some in blocks:
        count = some.stop - some.start
        words, taken, part = packed[some].view(np.uint64), bits[:count].view(np.uint64), floats[:count]
        np.bitwise_xor(words, FLIPPED, out=taken)
        np.bitwise_and(taken, LOW, out=taken)
        np.copyto(part, bits[:count])
        sums = even[some] @ part  # (count, N, M)
        np.bitwise_xor(words, FLIPPED, out=taken)
        np.right_shift(taken, np.uint64(4), out=taken)
        np.bitwise_and(taken, LOW, out=taken)
        np.copyto(part, bits[:count])
        sums += odd[some] @ part
        sums -= extra[some, :, None]
        sums *= scale[some, None]
        y += sums.sum(axis=0)
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
