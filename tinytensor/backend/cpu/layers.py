"""What stands between the matrix products: layer norm and RMS norm, and GELU with its slope.

LayerNorm (Ba, Kiros & Hinton 2016) and RMSNorm (Zhang & Sennrich 2019), alone and fused with the residual addition
before them, run over blocks of rows that stay in the cache while they are added up, centred, squared, scaled and
written. Row means and column sums are products with a constant vector: BLAS reads a row faster than mean(axis=1) does;
and a row's variance is its product with itself, so that no squares are written.
GELU (Hendrycks & Gimpel 2016), exact (normal.py) and in its tanh form: the slope needs the exponential of the value, so
forward computes both while a block is in the cache, and backward is a single multiplication.
"""

from math import pi, sqrt

import numpy as np

from tinytensor.backend.cpu.arrays import BLOCK, as_rows, row_blocks, scale_rows
from tinytensor.backend.cpu.dropout import drop, keep_mask
from tinytensor.backend.cpu.normal import normal_gate

TANH_A, TANH_B = sqrt(2 / pi), sqrt(2 / pi) * 0.044715


def normalize(x, branch, weight, bias, eps, *, centre, dropout=0.0, rng=None):
    """total = x + drop(branch);  y = n * weight + bias,  n = (total - mean) / sqrt(var + eps), row by row.

    x, branch: (..., C), branch may be None; weight, bias: (C,) or None.  Returns (total, y, saved).
    centre: layer norm; without it RMS norm, whose mean is 0.  dropout: on the branch, drawn from rng (dropout.py).
    """
    rows = as_rows(x)
    N, C = rows.shape
    total = rows if branch is None else np.empty_like(rows)
    branch = None if branch is None else as_rows(branch)
    keep = keep_mask(rows.shape, dropout, rng) if dropout else None
    normed, y, inv_std = np.empty_like(rows), np.empty_like(rows), np.empty(N, rows.dtype)
    averager = np.full(C, 1 / max(C, 1), rows.dtype)
    for block in row_blocks(N, C):
        n, out = normed[block], y[block]
        if branch is not None:
            kept = branch[block] if keep is None else drop(branch[block], keep[block], dropout, out)
            np.add(rows[block], kept, out=total[block])
        part = np.subtract(total[block], (total[block] @ averager)[:, None], out=n) if centre else total[block]
        r = np.divide(np.vecdot(part, part), max(C, 1), out=inv_std[block])
        np.divide(1, np.sqrt(r + eps), out=r)
        scale_rows(part, r, out=n)
        if weight is None:
            np.copyto(out, n)
        else:
            np.multiply(n, weight, out=out)
        if bias is not None:
            out += bias
    saved = normed, inv_std, weight, bias is not None, centre, keep, dropout
    return total.reshape(x.shape), y.reshape(x.shape), saved


def normalize_backward(dtotal, dy, saved):
    """With h = dy * weight:  dx = (h - mean(h) - n * mean(h * n)) / std + dtotal  (mean(h) is 0 without centre).

    Returns (dx, dbranch, dweight or None, dbias or None); dbranch is dx, with the dropout if there was any.
    """
    normed, inv_std, weight, has_bias, centre, keep, dropout = saved
    N, C = normed.shape
    rows = as_rows(dy)
    dtotal = None if dtotal is None else as_rows(dtotal)
    dx = np.empty_like(normed)
    dbranch = dx if keep is None else np.empty_like(normed)
    dweight = None if weight is None else np.zeros(C, normed.dtype)
    dbias = np.zeros(C, normed.dtype) if has_bias else None
    gain = np.ones(C, normed.dtype) if weight is None else weight
    averager = gain / max(C, 1)  # mean(h) = dy @ (weight / C)
    ones = np.ones(N, normed.dtype)
    for block in row_blocks(N, C):
        d, n, out, r = rows[block], normed[block], dx[block], inv_std[block]
        t = d * n
        if dweight is not None:
            dweight += ones[block] @ t
        if has_bias:
            dbias += ones[block] @ d
        scale_rows(n, t @ averager, out=t)  # n * mean(h * n)
        if centre:
            t += (d @ averager)[:, None]  # + mean(h)
        np.multiply(d, gain, out=out)
        out -= t
        scale_rows(out, r, out=out)
        if dtotal is not None:
            out += dtotal[block]
        if keep is not None:
            drop(out, keep[block], dropout, dbranch[block])
    return dx.reshape(dy.shape), dbranch.reshape(dy.shape), dweight, dbias


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
