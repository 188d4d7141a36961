"""Layer norm and RMS norm over the last axis, alone and fused with the residual addition before them.

LayerNorm: Ba, Kiros & Hinton 2016. RMSNorm: Zhang & Sennrich 2019. Every function runs over blocks of rows that stay in
the cache while they are centred, squared, scaled and written. Row means and column sums are products with a constant
vector: BLAS reads a row faster than mean(axis=1) does.
"""

import numpy as np

from .blocks import as_rows, row_blocks, scale_rows


def layer_norm(x, weight, bias, eps):
    """y = n * weight + bias with n = (x - mean(x)) / sqrt(var(x) + eps), row by row.  Returns (y, saved).

    x: (..., C); weight, bias: (C,) or None.
    """
    _, y, saved = normalize(x, None, weight, bias, eps, centre=True)
    return y, saved


def add_layer_norm(x, residual, weight, bias, eps):
    """total = x + residual; y = layer_norm(total).  Returns (total, y, saved)."""
    return normalize(x, residual, weight, bias, eps, centre=True)


def rms_norm(x, weight, eps):
    """y = n * weight with n = x / sqrt(mean(x^2) + eps), row by row.  Returns (y, saved)."""
    _, y, saved = normalize(x, None, weight, None, eps, centre=False)
    return y, saved


def add_rms_norm(x, residual, weight, eps):
    """total = x + residual; y = rms_norm(total).  Returns (total, y, saved)."""
    return normalize(x, residual, weight, None, eps, centre=False)


def layer_norm_backward(dy, saved):
    """With h = dy * weight:  dx = (h - mean(h) - n * mean(h * n)) / std.  Returns (dx, dweight, dbias)."""
    return normalize_backward(None, dy, saved, centre=True)


def add_layer_norm_backward(dtotal, dy, saved):
    """dx = dtotal + the gradient through the norm, for both x and residual.  Returns (dx, dweight, dbias)."""
    return normalize_backward(dtotal, dy, saved, centre=True)


def rms_norm_backward(dy, saved):
    """With h = dy * weight:  dx = (h - n * mean(h * n)) / rms.  Returns (dx, dweight)."""
    return normalize_backward(None, dy, saved, centre=False)[:2]


def add_rms_norm_backward(dtotal, dy, saved):
    """dx = dtotal + the gradient through the norm, for both x and residual.  Returns (dx, dweight)."""
    return normalize_backward(dtotal, dy, saved, centre=False)[:2]


def normalize(x, residual, weight, bias, eps, centre):
    """The forward pass of all four: (total, y, saved), where total is x itself if there is no residual."""
    rows = as_rows(x)
    N, C = rows.shape
    total = rows if residual is None else np.empty_like(rows)
    residual = None if residual is None else as_rows(residual)
    normed, y, inv_std = np.empty_like(rows), np.empty_like(rows), np.empty(N, rows.dtype)
    averager = np.full(C, 1 / max(C, 1), rows.dtype)
    for block in row_blocks(N, C):
        n, out = normed[block], y[block]
        if residual is not None:
            np.add(rows[block], residual[block], out=total[block])
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
    return total.reshape(x.shape), y.reshape(x.shape), (normed, inv_std, weight, bias is not None)


def normalize_backward(dtotal, dy, saved, centre):
    """The backward pass of all four: (dx, dweight or None, dbias or None)."""
    normed, inv_std, weight, has_bias = saved
    N, C = normed.shape
    rows = as_rows(dy)
    dtotal = None if dtotal is None else as_rows(dtotal)
    dx = np.empty_like(normed)
    dweight = None if weight is None else np.zeros(C, normed.dtype)
    dbias = np.zeros(C, normed.dtype) if has_bias else None
    gain = np.ones(C, normed.dtype) if weight is None else weight
    averager = gain / max(C, 1)                            # mean(h) = dy @ (weight / C)
    ones = np.ones(N, normed.dtype)
    for block in row_blocks(N, C):
        d, n, out, r = rows[block], normed[block], dx[block], inv_std[block]
        t = d * n
        if dweight is not None:
            dweight += ones[block] @ t
        if has_bias:
            dbias += ones[block] @ d
        scale_rows(n, t @ averager, out=t)                 # n * mean(h * n)
        if centre:
            t += (d @ averager)[:, None]                   # + mean(h)
        np.multiply(d, gain, out=out)
        out -= t
        scale_rows(out, r, out=out)
        if dtotal is not None:
            out += dtotal[block]
    return dx.reshape(dy.shape), dweight, dbias
