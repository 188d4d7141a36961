"""Layer norm and RMS norm over the last axis, alone and fused with the residual addition before them.

LayerNorm: Ba, Kiros & Hinton 2016. RMSNorm: Zhang & Sennrich 2019. Both run over blocks of rows that stay in the cache
while they are added up, centred, squared, scaled and written. Row means and column sums are products with a constant
vector: BLAS reads a row faster than mean(axis=1) does.
"""

import numpy as np

from tinytensor.backend.cpu.arrays import as_rows, row_blocks, scale_rows
from tinytensor.backend.cpu.elementwise import keep_mask


def normalize(x, branch, weight, bias, eps, *, centre, dropout=0.0, rng=None):
    """total = x + drop(branch);  y = n * weight + bias,  n = (total - mean) / sqrt(var + eps), row by row.

    x, branch: (..., C), branch may be None; weight, bias: (C,) or None.  Returns (total, y, saved).
    centre: layer norm; without it RMS norm, whose mean is 0.  dropout: on the branch, drawn from rng as by `dropout`.
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
            kept = branch[block] if keep is None else drop(branch[block], keep[block], dropout, out=out)
            np.add(rows[block], kept, out=total[block])
        if centre:
            np.subtract(total[block], (total[block] @ averager)[:, None], out=n)
        square = np.square(n if centre else total[block], out=out)
        r = np.add(square @ averager, eps, out=inv_std[block])
        np.divide(1, np.sqrt(r, out=r), out=r)
        scale_rows(n if centre else total[block], r, out=n)
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
            drop(out, keep[block], dropout, out=dbranch[block])
    return dx.reshape(dy.shape), dbranch.reshape(dy.shape), dweight, dbias


def drop(x, keep, p, out):
    """x * keep / (1 - p)"""
    np.multiply(x, keep, out=out)
    out *= 1 / (1 - p)
    return out
