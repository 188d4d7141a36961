"""GELU (Hendrycks & Gimpel 2016), exact and in its tanh form, with its slope taken on the way.

The slope needs the same exponential as the value, so forward computes both while a block is in the cache, and backward
is a single multiplication.
"""

from math import erfc, pi, sqrt

import numpy as np

from .blocks import BLOCK, flat_blocks

# Phi(x), the normal distribution function, is sigmoid(2 x q(x^2)) with this q (ascending): a fit on [-12, 12] with an
# error of 1.2e-7 in Phi and 3.3e-7 in x Phi(x), i.e. float32 rounding. Beyond it q stays positive, so Phi is 0 or 1.
PHI_FIT = (0.797884493, 0.0363339113, -3.2954728e-5, -5.5277952e-5, 3.97311466e-6, -1.3364696e-7, 1.80936537e-9)

TANH_A, TANH_B = sqrt(2 / pi), sqrt(2 / pi) * 0.044715


def gelu(x, approximate, need_slope=True):
    """GELU and its slope dy/dx, elementwise.  Returns (y, slope); slope is None if not needed.

    exact:        y = x Phi(x),                            slope = Phi(x) + x exp(-x^2 / 2) / sqrt(2 pi)
    approximate:  y = x s,  s = sigmoid(2 (a x + b x^3)),  slope = s + x s (1 - s) (2 a + 6 b x^2)
    with a = sqrt(2 / pi), b = 0.044715 a: the usual x/2 (1 + tanh(a x + b x^3)), as 1/2 + tanh(u)/2 = sigmoid(2 u).
    """
    flat = np.ascontiguousarray(x).reshape(-1)
    y = np.empty_like(flat)
    slope = np.empty_like(flat) if need_slope else None
    gate = tanh_gate if approximate else normal_gate
    scratch = np.empty(min(BLOCK, flat.size), flat.dtype)
    # exp(-u) overflows to infinity where the gate is 0, which is what 1 / (1 + exp(-u)) needs there.
    with np.errstate(over="ignore"):
        for block in flat_blocks(flat.size):
            part = flat[block]
            gate(part, y[block], slope[block] if need_slope else None, scratch[:part.size])
    return y.reshape(x.shape), None if slope is None else slope.reshape(x.shape)


def gelu_backward(dy, slope):
    """dx = dy * slope."""
    return dy * slope


def tanh_gate(x, y, slope, scratch):
    """One block of the tanh form, written into y and slope."""
    square = np.multiply(x, x, out=scratch)
    s = np.multiply(square, -2 * TANH_B, out=y)
    s -= 2 * TANH_A
    s *= x                                                 # -2 (a x + b x^3)
    sigmoid_of_negated(s)
    if slope is not None:
        square *= 6 * TANH_B
        square += 2 * TANH_A
        square *= x                                        # x (2 a + 6 b x^2)
        np.subtract(1, s, out=slope)
        slope *= square
        slope += 1
        slope *= s
    y *= x


def normal_gate(x, y, slope, scratch):
    """One block of the exact form, written into y and slope."""
    square = np.multiply(x, x, out=scratch)
    if x.dtype == np.float32:
        phi = normal_cdf_fit(x, square, out=y)
    else:
        # float64 serves gradient checks: one call of the C library's erfc per element is exact and quick enough.
        y[...] = [erfc(-v * sqrt(0.5)) / 2 for v in x.tolist()]
        phi = y
    if slope is not None:
        square *= -0.5
        np.exp(square, out=slope)
        slope *= 1 / sqrt(2 * pi)
        slope *= x
        slope += phi
    y *= x


def normal_cdf_fit(x, square, out):
    """Phi(x) in float32, from x and x^2."""
    u = np.multiply(square, -2 * PHI_FIT[-1], out=out)
    for coefficient in PHI_FIT[-2:0:-1]:
        u -= 2 * coefficient
        u *= square
    u -= 2 * PHI_FIT[0]
    u *= x                                                 # -2 x q(x^2)
    return sigmoid_of_negated(u)


def sigmoid_of_negated(u):
    """1 / (1 + exp(u)), in place. exp has vector code on every CPU; tanh takes twice as long with AVX2."""
    np.exp(u, out=u)
    u += 1
    return np.divide(1, u, out=u)
