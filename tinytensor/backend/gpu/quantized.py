"""Products of small integers, accumulated exactly, on the tensor cores: cuda/quantized.cu."""

import numpy as np

from tinytensor.backend import array_module

from .launch import blocks_for, launch

TILE = 64
STEP = 64  # columns at a time; 4-bit weights come in groups of 32 n


def int8_matmul(x, w):
    """x @ w.T as exact int32.   x: (N, K) int8, w: (M, K) int8 -> (N, M) int32; K below 2^17."""
    x, w = (padded(a, -(-a.shape[1] // STEP) * STEP) for a in (x, w))
    y = array_module(x).zeros((len(x), len(w)), np.int32)
    start(8, x, w, None, y, 1)
    return y


def int4_matmul(x, packed, scale):
    """The sum over groups of scale * (exact integer product within the group), in float32.

    x: (N, K) int8; packed: (M, K/2), see pack_int4; scale: (M, G) float32, one for each K/G neighbouring columns.
    Returns (N, M) float32. A group is at most 2^14 long.
    """
    xp = array_module(x)
    (N, K), (M, G) = x.shape, scale.shape
    group = K // G
    if group % 32 or K % STEP:  # each group on its own, filled up with zeros
        whole = -(-group // STEP) * STEP
        codes = unpack_int4(packed).reshape(M * G, group)
        packed = pack_int4(padded(codes, whole)).reshape(M, G * whole // 2)
        x = padded(x.reshape(N * G, group), whole).reshape(N, G * whole)
    y = xp.zeros((N, M), np.float32)
    start(4, xp.ascontiguousarray(x), xp.ascontiguousarray(packed), xp.ascontiguousarray(scale), y, G)
    return y


def start(bits, x, w, scale, y, groups):
    (N, K), M = x.shape, len(w)
    if K:
        launch("quantized.cu", f"integer_matmul<{bits}>", (blocks_for(M, TILE), blocks_for(N, TILE)), 128,
               (x, w, scale, y, N, M, K, groups))


def padded(a, columns):
    """(rows, K) with zeros up to `columns`, contiguous."""
    xp = array_module(a)
    if a.shape[1] == columns:
        return xp.ascontiguousarray(a)
    wide = xp.zeros((len(a), columns), a.dtype)
    wide[:, :a.shape[1]] = a
    return wide


def pack_int4(codes):
    """Two values to a byte: codes (..., K) int8 in [-8, 7], K even -> (..., K/2) uint8.

    Element 2i takes the low four bits and 2i + 1 the high four, both in two's complement.
    """
    low, high = codes[..., ::2].astype(np.uint8), codes[..., 1::2].astype(np.uint8)
    return (low & 15) | (high << 4)


def unpack_int4(packed):
    """(..., K/2) uint8 -> (..., K) int8. A nibble xor 8, minus 8, has its sign extended."""
    codes = array_module(packed).empty((*packed.shape[:-1], 2 * packed.shape[-1]), np.int8)
    codes[..., ::2] = ((packed & 15) ^ 8).astype(np.int8) - 8
    codes[..., 1::2] = ((packed >> 4) ^ 8).astype(np.int8) - 8
    return codes
