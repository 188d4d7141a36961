"""Cross-entropy from logits, and fused with the matrix product that makes the logits.

The loss of one row of logits z with target t, over V classes and with Z = sum(exp(z)):

    loss = (1 - smoothing) (log Z - z_t) + smoothing (log Z - mean(z)) + z_loss (log Z)^2

The last term keeps Z near 1 (Chowdhery et al. 2022, section 5). Rows whose target is ignore_index count for nothing:
they are left out before any work is done, as they are most of the rows in masked language modelling.
"""

import numpy as np

from .blocks import as_rows, row_blocks, scale_rows
from .embedding import add_rows
from .softmax import row_max


def cross_entropy(logits, targets, *, ignore_index=-100, label_smoothing=0.0, z_loss=0.0):
    """losses (N,) of logits (N, V), integer targets (N,); 0 where the target is ignored.  Returns (losses, saved)."""
    z, targets, kept = drop_ignored(as_rows(logits), targets, ignore_index)
    N, V = z.shape
    e, ones = np.empty_like(z), np.ones(V, z.dtype)
    m, total = np.empty(N, z.dtype), np.empty(N, z.dtype)
    for block in row_blocks(N, V):
        m[block] = row_max(z[block])
        np.subtract(z[block], m[block, None], out=e[block])
        np.exp(e[block], out=e[block])
        np.matmul(e[block], ones, out=total[block])
    log_total = np.log(total)
    log_z = m + log_total
    # Differences of logits first: next to logits of 1e4 a loss of 0.7 has lost half of its float32 digits.
    losses = log_total + (1 - label_smoothing) * (m - z[np.arange(N), targets])
    if label_smoothing:
        losses += label_smoothing * (m - z.mean(axis=1))
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


def linear_cross_entropy(x, weight, targets, *, ignore_index=-100, label_smoothing=0.0, z_loss=0.0):
    """losses (N,) of the logits x @ weight.T, without ever normalizing the logits.  Returns (losses, saved).

    x: (N, C), weight: (V, C), targets: (N,).

    exp(z) fills the only (N, V) array there is. Its row sums Z stay outside: backward divides the (N, C) matrices by
    them instead. To keep exp in range each row is shifted by its target's logit, which is known before the product and
    makes Z = exp(loss); the few rows whose loss is too large for that are redone with their maximum subtracted.
    """
    if label_smoothing or z_loss:
        x = as_rows(x)
        losses, saved = cross_entropy(x @ weight.T, targets, ignore_index=ignore_index,
                                      label_smoothing=label_smoothing, z_loss=z_loss)
        return losses, (x, weight, saved)
    rows = len(x)
    x, targets, kept = drop_ignored(as_rows(x), targets, ignore_index)
    N, V = len(x), len(weight)
    e = np.matmul(x, weight.T)
    ones = np.ones(V, x.dtype)
    total = np.empty(N, x.dtype)
    shift = e[np.arange(N), targets]
    with np.errstate(over="ignore", invalid="ignore"):
        for block in row_blocks(N, V):
            e[block] -= shift[block, None]
            np.exp(e[block], out=e[block])
            np.matmul(e[block], ones, out=total[block])
        losses = np.log(total)
    bad = np.flatnonzero(~(total < np.finfo(x.dtype).eps ** -2))
    if bad.size:
        z = x[bad] @ weight.T
        m = row_max(z)
        e[bad] = np.exp(z - m[:, None])
        total[bad] = e[bad] @ ones
        losses[bad] = np.log(total[bad]) + (m - z[np.arange(bad.size), targets[bad]])
    return restore_ignored(losses, kept, rows), (x, weight, e, 1 / total, targets, kept, rows)


def linear_cross_entropy_backward(dlosses, saved, out=None):
    """dx = dlogits @ weight, dweight = dlogits.T @ x with dlogits = dloss (exp(z) / Z - onehot(target)).

    exp(z) is used as it stands: 1 / Z scales the rows of (N, C) matrices, and the one-hot part is taken off as rows.
    Returns (dx, dweight); dweight (V, C) is written into `out` if given.
    """
    if len(saved) == 3:
        x, weight, saved = saved
        dz = cross_entropy_backward(dlosses, saved)
        return dz @ weight, np.matmul(dz.T, x, out=out)
    x, weight, e, inv_z, targets, kept, rows = saved
    d = dlosses if kept is None else dlosses[kept]
    factor = d * inv_z
    dx = e @ weight
    scale_rows(dx, factor, out=dx)
    dx -= scale_rows(weight[targets], d)
    dweight = np.matmul(e.T, scale_rows(x, factor), out=out)
    add_rows(dweight, targets, scale_rows(x, -d))
    return restore_ignored(dx, kept, rows), dweight


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
