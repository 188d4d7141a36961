"""GELU with its slope taken on the way, and dropout.

GELU (Hendrycks & Gimpel 2016), exact and in its tanh form: the slope needs the exponential of the value, so forward
computes both while a block is in the cache, and backward is a single multiplication.
Dropout (Srivastava et al. 2014), inverted: what is kept is scaled up, so that evaluation needs no scaling.
"""

from math import erfc, pi, prod, sqrt

import numpy as np

from tinytensor.backend.cpu.arrays import BLOCK, as_rows, row_blocks

# 1 - Phi(z) = exp(-z^2 / 2) / (2 p(z)) for z >= 0, with Phi the normal distribution function and this p (ascending):
# a minimax fit with an error of 5e-8 in Phi and 8e-8 in z Phi(z), less than float32 rounding adds. Beyond its end at
# 6.5 p keeps growing and the quotient vanishes. It shares its exponential with the slope, and exp costs a dozen
# multiplications.
TAIL_FIT = (1.00000009, 0.797877995, 0.136692667, -0.0242600558, 2.79178169e-4, 1.14668634e-3, -2.87024170e-4,
            2.46064097e-5)

LEVELS = 1 << 16  # how finely dropout's share is rounded

TANH_A, TANH_B = sqrt(2 / pi), sqrt(2 / pi) * 0.044715


def gelu(x, approximate, need_slope=True, bias=None):
    """GELU of x + bias and its slope, elementwise.  Returns (y, slope); slope is None if not needed.

    exact:        y = x Phi(x),                            slope = Phi(x) + x exp(-x^2 / 2) / sqrt(2 pi)
    approximate:  y = x s,  s = sigmoid(2 (a x + b x^3)),  slope = s + x s (1 - s) (2 a + 6 b x^2)
    with a = sqrt(2 / pi), b = 0.044715 a: the usual x/2 (1 + tanh(a x + b x^3)), as 1/2 + tanh(u)/2 = sigmoid(2 u).
    bias: (C,), added to the last axis of x first; or None.
    """
    width = 1 if bias is None else bias.size
    rows = np.ascontiguousarray(x).reshape(x.size // max(width, 1), width)
    y = np.empty_like(rows)
    slope = np.empty_like(rows) if need_slope else None
    gate = tanh_gate if approximate else normal_gate
    blocks = row_blocks(*rows.shape, BLOCK // 2)  # up to five arrays are in work at once
    scratch, moved = (np.empty_like(rows[blocks[0]] if blocks else rows) for _ in range(2))
    # exp(-u) overflows to infinity where the gate is 0, which is what 1 / (1 + exp(-u)) needs there.
    with np.errstate(over="ignore"):
        for block in blocks:
            part = rows[block]
            if bias is not None:
                part = np.add(part, bias, out=moved[: len(part)])
            gate(part, y[block], slope[block] if need_slope else None, scratch[: len(part)])
    return y.reshape(x.shape), None if slope is None else slope.reshape(x.shape)


def gelu_backward(dy, slope, need_bias=False):
    """dx = dy * slope, and dbias = its sum over the rows; None if not needed.  Returns (dx, dbias)."""
    if not need_bias:
        return dy * slope, None
    rows, slopes = as_rows(dy), as_rows(slope)
    dx, dbias, ones = np.empty_like(rows), np.zeros(rows.shape[1], rows.dtype), np.ones(len(rows), rows.dtype)
    for block in row_blocks(*rows.shape):
        dbias += ones[block] @ np.multiply(rows[block], slopes[block], out=dx[block])
    return dx.reshape(dy.shape), dbias


def tanh_gate(x, y, slope, scratch):
    """One block of the tanh form, written into y and slope."""
    square = np.multiply(x, x, out=scratch)
    s = np.multiply(square, -2 * TANH_B, out=y)
    s -= 2 * TANH_A
    s *= x  # -2 (a x + b x^3)
    np.exp(s, out=s)  # exp has vector code on every CPU; tanh is slow with AVX2
    s += 1
    np.divide(1, s, out=s)
    if slope is not None:
        square *= 6 * TANH_B
        square += 2 * TANH_A
        np.subtract(1, s, out=slope)
        slope *= s
        slope *= x  # 0 for large x, before it meets the square
        slope *= square
        slope += s
    y *= x


def normal_gate(x, y, slope, scratch):
    """One block of the exact form, written into y and slope."""
    density = np.multiply(x, x, out=scratch)
    density *= -0.5
    np.exp(density, out=density)
    if x.dtype == np.float32:
        phi = normal_cdf_fit(x, density, y, slope)
    else:
        # float64 serves gradient checks: one call of the C library's erfc per element is exact and quick enough.
        y[...] = np.reshape([erfc(-v * sqrt(0.5)) / 2 for v in x.ravel().tolist()], x.shape)
        phi = y
    if slope is not None:
        density *= 1 / sqrt(2 * pi)
        density *= x
        np.add(density, phi, out=slope)
    y *= x


def normal_cdf_fit(x, density, out, scratch):
    """Phi(x) in float32, from x and exp(-x^2 / 2): 1/2 + sign(x) (1/2 - tail(|x|))."""
    z = np.abs(x, out=out)
    p = np.multiply(z, TAIL_FIT[-1], out=scratch)
    for coefficient in TAIL_FIT[-2:0:-1]:
        p += coefficient
        p *= z
    p += TAIL_FIT[0]
    phi = np.divide(density, p, out=out)
    np.subtract(1, phi, out=phi)
    # np.copysign takes as long as five multiplications; as integers the sign bit moves in two.
    sign = np.bitwise_and(x.view(np.uint32), 0x80000000, out=p.view(np.uint32))
    np.bitwise_or(phi.view(np.uint32), sign, out=phi.view(np.uint32))
    phi += 1
    phi *= 0.5
    return phi


def dropout(x, p, rng):
    """y = x * mask / (1 - p), where each element of mask is False with probability p.  Returns (y, mask).

    0 <= p <= 1. rng: np.random.Generator.
    """
    mask = keep_mask(x.shape, p, rng)
    return dropout_backward(x, mask, p), mask


def dropout_backward(dy, mask, p):
    """dx = dy * mask / (1 - p)."""
    if p >= 1:
        return np.zeros_like(dy)
    dx = dy * mask
    dx *= 1 / (1 - p)
    return dx


def keep_mask(shape, p, rng):
    """Booleans that are False with probability p, to within 1 / 65536.

    One 64-bit random word decides four elements: 16 bits each, compared with p. A float per element takes 4 times as
    long to draw.
    """
    size = prod(shape)
    words = rng.integers(0, 1 << 64, -(-size // 4), dtype=np.uint64).view(np.uint16)[:size].reshape(shape)
    threshold = round(p * LEVELS)
    return words >= threshold if threshold < LEVELS else np.zeros(shape, bool)
