"""Softmax and log-softmax over the last axis, in blocks of rows. The row maximum is subtracted before exp."""

import numpy as np

from tinytensor.backend.cpu.arrays import as_rows, row_blocks, scale_rows


def softmax(x):
    """y = exp(x) / sum(exp(x)) over the last axis.  x: (..., C)."""
    rows = as_rows(x)
    N, C = rows.shape
    y, ones = np.empty_like(rows), np.ones(C, rows.dtype)
    for block in row_blocks(N, C):
        e = np.subtract(rows[block], row_max(rows[block])[:, None], out=y[block])
        np.exp(e, out=e)
        scale_rows(e, 1 / (e @ ones), out=e)
    return y.reshape(x.shape)


def softmax_backward(dy, y):
    """dx = y * (dy - sum(y * dy)) over the last axis."""
    dys, ys = as_rows(dy), as_rows(y)
    N, C = ys.shape
    dx = np.empty_like(ys)
    for block in row_blocks(N, C):
        out = np.subtract(dys[block], np.vecdot(dys[block], ys[block])[:, None], out=dx[block])
        out *= ys[block]
    return dx.reshape(y.shape)


def log_softmax(x):
    """y = x - log(sum(exp(x))) over the last axis.  x: (..., C)."""
    rows = as_rows(x)
    N, C = rows.shape
    y, ones = np.empty_like(rows), np.ones(C, rows.dtype)
    for block in row_blocks(N, C):
        out = np.subtract(rows[block], row_max(rows[block])[:, None], out=y[block])
        out -= np.log(np.exp(out) @ ones)[:, None]
    return y.reshape(x.shape)


def log_softmax_backward(dy, y):
    """dx = dy - exp(y) * sum(dy) over the last axis."""
    dys, ys = as_rows(dy), as_rows(y)
    N, C = ys.shape
    dx, ones = np.empty_like(ys), np.ones(C, ys.dtype)
    for block in row_blocks(N, C):
        out = np.exp(ys[block], out=dx[block])
        scale_rows(out, dys[block] @ ones, out=out)
        np.subtract(dys[block], out, out=out)
    return dx.reshape(y.shape)


def row_max(rows):
    """The largest element of each row of (N, C); -inf where C is 0."""
    return rows.max(axis=1, initial=-np.inf)
