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
LOW, FLIPPED = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x8888888888888888)  # four bits of every byte, the highest one
GROUPED = 3 * BLOCK  # weights of 4 bits in a block


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
    y = np.zeros((N, M), x.dtype)
    if N > FEW or not stored_by_columns(w):
        for rows in row_blocks(M, K):
            np.matmul(x, w[rows].astype(x.dtype).T, out=y[:, rows])
        return y
    blocks = row_blocks(K, M)
    place = np.empty((blocks[0].stop if blocks else 0, M), x.dtype)
    for some in blocks:
        block = place[: some.stop - some.start]
        np.copyto(block, w.T[some])
        y += x[:, some] @ block
    return y


def int4_matmul(x, packed, scale):
    """The sum over groups of scale * (exact integer product within the group), in float32.

    x: (N, K) int8, or floats; packed: (M, K/2), see pack_int4; scale: (M, G) float32, one for each K/G neighbouring
    columns. Returns (N, M) float32. A group is at most 2^14 long.
    """
    (N, K), (M, G) = x.shape, scale.shape
    dtype, half = np.result_type(x, np.float32), K // G // 2
    groups = np.ascontiguousarray(x.reshape(N, G, 2 * half).swapaxes(0, 1), dtype)  # (G, N, K/G)
    y = np.zeros((N, M), dtype)
    if N > FEW or half % 8 or not stored_by_columns(packed):
        for rows in row_blocks(M, K):
            w = unpack_int4(packed[rows]).astype(dtype).reshape(-1, G, 2 * half)
            for g in range(G):
                y[:, rows] += (groups[g] @ w[:, g].T) * scale[rows, g]
        return y
    columns, sides = packed.T.reshape(G, half, M), (groups[..., ::2].copy(), groups[..., 1::2].copy())
    extra = 8 * groups.sum(axis=2)  # what an 8 added to every weight adds to a group's product
    step = max(1, GROUPED // (half * M))
    bits, place = np.empty((step, half, M), np.uint8), np.empty((step, half, M), dtype)
    for start in range(0, G, step):
        some = slice(start, start + step)
        block, sums = columns[some], -extra[some, :, None]  # sums: (groups, N, M)
        for side, shift in zip(sides, (0, 4)):
            take_four(block, shift, out=bits[: len(block)])
            np.copyto(place[: len(block)], bits[: len(block)])
            sums = sums + side[some] @ place[: len(block)]
        sums *= scale.T[some, None]
        y += sums.sum(axis=0)
    return y


def take_four(packed, shift: int, out) -> None:
    """Four bits of every byte, plus 8: v in two's complement, its highest bit flipped. Eight bytes go at a time."""
    words, taken = packed.reshape(-1).view(np.uint64), out.reshape(-1).view(np.uint64)
    np.bitwise_xor(words, FLIPPED, out=taken)
    if shift:
        np.right_shift(taken, np.uint64(shift), out=taken)
    np.bitwise_and(taken, LOW, out=taken)


def stored_by_columns(w) -> bool:
    return w.T.flags.c_contiguous and not w.flags.c_contiguous


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
