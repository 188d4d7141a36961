"""Numbers as small integers and back: which scale and zero point a range of values gets, and how values are rounded.

    x ~ scale * (q - zero_point),   q = clip(round(x / scale) + zero_point, lowest, highest)

quantize.py says what shares a scale. The range of the values may be found in three ways: by the lowest and highest
(minmax: nothing is clipped), leaving out the rarest at both ends (percentile), or as that of the least squared error
(mse): what is clipped is then worth the finer steps between.
"""

import numpy as np

from tinytensor import backend

RANGES = ("minmax", "percentile", "mse")
PERCENTILE = 99.9  # of the values, which a range by percentile holds


def levels(bits: int, symmetric: bool) -> tuple[int, int]:
    """The lowest and the highest integer."""
    highest = 2 ** (bits - 1) - 1
    return (-highest if symmetric else -highest - 1), highest


def find_range(x, bits: int, symmetric: bool = True, ranges: str = "minmax"):
    """(scale, zero_point) for the values along the last axis of x: float32 and int8 of shape (..., 1)."""
    xp = backend.array_module(x)
    if ranges == "percentile":
        tail = (100 - PERCENTILE) / 2
        low, high = (xp.percentile(x, at, axis=-1, keepdims=True) for at in (tail, 100 - tail))
    else:
        low, high = x.min(axis=-1, keepdims=True), x.max(axis=-1, keepdims=True)
    scale, zero = _to_scale(low, high, bits, symmetric, xp)
    if ranges != "mse":
        return scale, zero
    least = xp.full(scale.shape, np.inf)
    for share in np.linspace(1, 0.4, 31):  # cutting off the ends makes the steps between finer
        s, z = _to_scale(low * share, high * share, bits, symmetric, xp)
        error = xp.square(decode(encode(x, s, z, bits, symmetric), s, z) - x).sum(axis=-1, keepdims=True)
        better = error < least
        least, scale, zero = xp.where(better, error, least), xp.where(better, s, scale), xp.where(better, z, zero)
    return scale, zero


def _to_scale(low, high, bits: int, symmetric: bool, xp):
    lowest, highest = levels(bits, symmetric)
    if symmetric:
        scale = xp.maximum(xp.maximum(-low, high) / highest, 1e-12)
        return scale.astype(np.float32), xp.zeros(scale.shape, np.int8)
    low, high = xp.minimum(low, 0), xp.maximum(high, 0)  # 0 must be a value: it is what padding and ReLU make
    scale = xp.maximum((high - low) / (highest - lowest), 1e-12).astype(np.float32)
    return scale, xp.clip(xp.rint(lowest - low / scale), lowest, highest).astype(np.int8)


def encode(x, scale, zero_point, bits: int, symmetric: bool):
    """Floats -> int8 integers."""
    xp = backend.array_module(x)
    q = xp.rint(x / scale)
    q += zero_point
    return xp.clip(q, *levels(bits, symmetric), out=q).astype(np.int8)


def decode(codes, scale, zero_point=None):
    """Integers -> float32."""
    x = codes.astype(np.float32)
    if zero_point is not None:
        x -= zero_point
    return x * scale
