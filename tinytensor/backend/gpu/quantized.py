"""Products of small integers, accumulated exactly, on the tensor cores: cuda/quantized.cu."""

import numpy as np

from tinytensor.backend import array_module
from tinytensor.backend.cpu.quantized import pack_int4, unpack_int4
from tinytensor.backend.gpu.launch import blocks_for, launch

TILE = 64
STEP = 64  # columns at a time; 4-bit weights come in groups of 32 n


def weight_matmul(x, codes, scale):
    """x @ (scale * codes).T of floats x (N, K): see backend.cpu.weight_matmul."""
    codes = unpack_int4(codes) if codes.dtype == np.uint8 else codes
    w = codes.reshape(len(codes), scale.shape[1], -1) * scale[..., None]
    return x @ w.reshape(codes.shape).T


def int8_matmul(x, w):
    """x @ w.T as exact int32.   x: (N, K) int8, w: (M, K) int8 -> (N, M) int32; K below 2^17."""
    x, w = (padded(a, -(-a.shape[1] // STEP) * STEP) for a in (x, w))
    y = array_module(x).zeros((len(x), len(w)), np.int32)
    start(8, x, w, None, y, 1)
    return y


def int4_matmul(x, packed, scale):
    """The sum over groups of scale * (exact integer product within the group): see backend.cpu.int4_matmul."""
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
