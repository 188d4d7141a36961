"""Rounding that can be trained."""

import math

from tinytensor.ops.basic import check_alike, floats, unbroadcast
from tinytensor.tensor import Tensor, record


def fake_quantize(x: Tensor, step: Tensor, lowest: int, highest: int) -> Tensor:
    """y = step * clip(round(x / step), lowest, highest), rounding half to even.

    step: broadcast to x; how far apart the values are, above 0. Learned: LSQ (Esser et al. 2020, arXiv:1902.08153).
    The gradient goes straight through the rounding, as if round(v) were v (Bengio et al. 2013). With v = x / step:
        dL/dx = dL/dy where lowest <= v <= highest, else 0
        dL/dstep = sum(dL/dy * (clip(round(v)) - v inside, the end it was clipped to outside)) / sqrt(n * highest)
    The sum is over the n values that share a step; the divisor lets steps and weights move at like rates (section 2.2).
    """
    check_alike("fake_quantize", x.data, step.data)
    xp, scale = x.xp, floats(step)
    s = xp.maximum(scale, xp.finfo(scale.dtype).tiny)
    v = floats(x) / s
    q = xp.clip(xp.rint(v), lowest, highest)
    inside = (lowest <= v) & (v <= highest)
    shared = x.size // max(1, step.size)

    def backward(g):
        dstep = g * xp.where(inside, q - v, q)
        return g * inside, unbroadcast(dstep, step.shape) / math.sqrt(max(1, shared * highest))

    return record("fake_quantize", q * s, (x, step), backward)
