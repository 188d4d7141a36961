"""Softmax and log-softmax, and cross-entropy: from logits, and fused with the matrix product that makes the logits.

The loss of one row of logits z with target t, over V classes and with Z = sum(exp(z)):

    loss = (1 - smoothing) (log Z - z_t) + smoothing (log Z - mean(z)) + z_loss (log Z)^2

The last term keeps Z near 1 (Chowdhery et al. 2022, section 5). Rows whose target is ignore_index count for nothing:
they are left out before any work is done, as they are most of the rows in masked language modelling.
"""

import numpy as np

from tinytensor.backend.cpu.arrays import add_rows, as_rows, row_blocks, scale_rows

SMALL_HEAD = 4  # classes per input channel, see linear_cross_entropy


def softmax(x, log=False):
    """y = exp(x) / sum(exp(x)) over the last axis, or its logarithm x - log(sum(exp(x))).  x: (..., C)."""
    rows = as_rows(x)
    N, C = rows.shape
    y, ones = np.empty_like(rows), np.ones(C, rows.dtype)
    for block in row_blocks(N, C):
        out = np.subtract(rows[block], row_max(rows[block])[:, None], out=y[block])
        if log:
            out -= np.log(np.exp(out) @ ones)[:, None]
        else:
            np.exp(out, out=out)
            scale_rows(out, 1 / (out @ ones), out=out)
    return y.reshape(x.shape)


def softmax_backward(dy, y, log=False):
    """dx = y * (dy - sum(y * dy)) over the last axis, or of the logarithm dy - exp(y) * sum(dy)."""
    dys, ys = as_rows(dy), as_rows(y)
    N, C = ys.shape
    dx, ones = np.empty_like(ys), np.ones(C, ys.dtype)
    for block in row_blocks(N, C):
        d, out = dys[block], dx[block]
        if log:
            np.exp(ys[block], out=out)
            scale_rows(out, d @ ones, out=out)
            np.subtract(d, out, out=out)
        else:
            np.subtract(d, np.vecdot(d, ys[block])[:, None], out=out)
            out *= ys[block]
    return dx.reshape(y.shape)


def row_max(rows):
    """The largest element of each row of (N, C); -inf where C is 0."""
    return rows.max(axis=1, initial=-np.inf)


def cross_entropy(logits, targets, *, ignore_index, label_smoothing=0.0, z_loss=0.0):
    """losses (N,) of logits (N, V), integer targets (N,); 0 where the target is ignored.  Returns (losses, saved)."""
    z, targets, kept = drop_ignored(as_rows(logits), targets, ignore_index)
    N, V = z.shape
    e = np.empty_like(z)
    picked = z[np.arange(N), targets]
    shift, total = exponentials(z, picked, lambda rows: z[rows], e)
    log_total = np.log(total)
    # Differences of logits first: next to logits of 1e4 a loss of 0.7 has lost half of its float32 digits.
    losses = log_total + (1 - label_smoothing) * (shift - picked)
    if label_smoothing:
        losses += label_smoothing * (shift - z @ np.full(V, 1 / V, z.dtype))
    log_z = shift + log_total
    if z_loss:
        losses += z_loss * np.square(log_z)
    saved = e, 1 / total, log_z, targets, kept, len(logits), label_smoothing, z_loss
    return restore_ignored(losses, kept, len(logits)), saved


def cross_entropy_backward(dlosses, saved):
    """dlogits (N, V) = dloss ((1 + 2 z_loss log Z) exp(z) / Z - (1 - smoothing) onehot(target) - smoothing / V)."""
    e, inv_z, log_z, targets, kept, rows, label_smoothing, z_loss = saved
    d = dlosses if kept is None else dlosses[kept]
    N, V = e.shape
    factor = d * inv_z
    if z_loss:
        factor *= 1 + 2 * z_loss * log_z
    dz = np.empty_like(e)
    for block in row_blocks(N, V):
        scale_rows(e[block], factor[block], out=dz[block])
        if label_smoothing:
            dz[block] -= (d[block] * (label_smoothing / V))[:, None]
    dz[np.arange(N), targets] -= d * (1 - label_smoothing)
    return restore_ignored(dz, kept, rows)


def linear_cross_entropy(x, weight, targets, *, bias=None, ignore_index, label_smoothing=0.0, z_loss=0.0):
    """losses (N,) of the logits x @ weight.T + bias, without ever normalizing the logits.  Returns (losses, saved).

    x: (N, C), weight: (V, C), targets: (N,), bias: (V,) or None.

    exp(z) fills the only (N, V) array there is. Its row sums Z stay outside: backward divides the (N, C) matrices by
    them instead. Where V is at most SMALL_HEAD C that saves nothing, and the logits take the plain way, as they do with
    smoothing or z_loss.
    """
    rows = len(x)
    x, targets, kept = drop_ignored(as_rows(x), targets, ignore_index)
    if label_smoothing or z_loss or len(weight) <= SMALL_HEAD * weight.shape[1]:
        z = x @ weight.T
        losses, saved = cross_entropy(z if bias is None else np.add(z, bias, out=z), targets,
                                      ignore_index=ignore_index, label_smoothing=label_smoothing, z_loss=z_loss)
        return restore_ignored(losses, kept, rows), (x, weight, bias is not None, saved, kept, rows)
    logits = lambda x: x @ weight.T if bias is None else x @ weight.T + bias
    e = x @ weight.T
    picked = e[np.arange(len(x)), targets]
    if bias is not None:
        picked += bias[targets]
    shift, total = exponentials(e, picked, lambda rows: logits(x[rows]), e, bias)
    losses = np.log(total) + (shift - picked)
    return restore_ignored(losses, kept, rows), (x, weight, bias is not None, e, 1 / total, targets, kept, rows)


def linear_cross_entropy_backward(dlosses, saved, out=None, keep=False):
    """dx = dlogits @ weight, dweight = dlogits.T @ x with dlogits = dloss (exp(z) / Z - onehot(target)).

    exp(z) is used as it stands: 1 / Z scales the rows of (N, C) matrices, and the one-hot part is taken off as rows.
    Returns (dx, dweight, dbias); dweight (V, C) is written into `out` if given; dbias is None without a bias.
    keep: leave what was saved as it is; here it always is.
    """
    if len(saved) == 6:
        x, weight, biased, saved, kept, rows = saved
        dz = cross_entropy_backward(dlosses if kept is None else dlosses[kept], saved)
        dbias = dz.sum(axis=0) if biased else None
        return restore_ignored(dz @ weight, kept, rows), np.matmul(dz.T, x, out=out), dbias
    x, weight, biased, e, inv_z, targets, kept, rows = saved
    d = dlosses if kept is None else dlosses[kept]
    factor = d * inv_z
    dx = e @ weight
    scale_rows(dx, factor, out=dx)
    dx -= scale_rows(weight[targets], d)
    dweight = np.matmul(e.T, scale_rows(x, factor), out=out)
    add_rows(dweight, targets, scale_rows(x, -d))
    dbias = None
    if biased:
        dbias = factor @ e
        np.subtract.at(dbias, targets, d)
    return restore_ignored(dx, kept, rows), dweight, dbias


def exponentials(z, picked, logits_again, e, bias=None):
    """Fill e with exp(z + bias - shift), row by row; e may be z itself.  Returns (shift, row sums of e).

    The shift is the target's logit, picked, which costs no pass over the row as its maximum would, and makes the row
    sum exp(loss). The few rows whose loss is too large for that get their maximum: logits_again(rows) are their logits.
    """
    shift, total, ones = picked.copy(), np.empty(len(z), z.dtype), np.ones(z.shape[1], z.dtype)
    with np.errstate(over="ignore"):
        for block in row_blocks(*z.shape):
            np.subtract(z[block], shift[block, None], out=e[block])
            if bias is not None:
                e[block] += bias
            np.exp(e[block], out=e[block])
            np.matmul(e[block], ones, out=total[block])
    bad = np.flatnonzero(~(total < np.finfo(z.dtype).eps ** -2))
    if bad.size:
        redone = logits_again(bad)
        shift[bad] = row_max(redone)
        e[bad] = np.exp(redone - shift[bad, None])
        total[bad] = e[bad] @ ones
    return shift, total


def drop_ignored(rows, targets, ignore_index):
    """The rows and targets that count, and which those are: None if all of them."""
    targets = np.asarray(targets).reshape(-1)
    kept = np.flatnonzero(targets != ignore_index)
    if kept.size == targets.size:
        return rows, targets, None
    return rows[kept], targets[kept], kept


def restore_ignored(values, kept, rows):
    """values (len(kept), ...) back in their places among `rows` rows, with zeros elsewhere."""
    if kept is None:
        return values
    whole = np.zeros((rows, *values.shape[1:]), values.dtype)
    whole[kept] = values
    return whole
