"""Softmax and log-softmax, and cross-entropy: from logits, and with the product that makes them: cuda/softmax.cu.

    loss = (1 - smoothing) (log Z - z_t) + smoothing (log Z - mean(z)) + z_loss (log Z)^2,   Z = sum(exp(z))

Losses of 16-bit logits are float32. Rows whose target is ignore_index have loss and gradient 0.
"""

from tinytensor.backend import array_module
from tinytensor.backend.gpu.arrays import as_rows, integers, part_size, threads_for, wide_dtype
from tinytensor.backend.gpu.cublas import matmul
from tinytensor.backend.gpu.launch import blocks_for, c_name, launch


def softmax(x):
    """y = exp(x) / sum(exp(x)) over the last axis.  x: (..., C)."""
    return forward(x, log=False)


def softmax_backward(dy, y):
    """dx = y * (dy - sum(y * dy)) over the last axis."""
    return backward(dy, y, log=False)


def log_softmax(x):
    """y = x - log(sum(exp(x))) over the last axis.  x: (..., C)."""
    return forward(x, log=True)


def log_softmax_backward(dy, y):
    """dx = dy - exp(y) * sum(dy) over the last axis."""
    return backward(dy, y, log=True)


def forward(x, log):
    rows = as_rows(x)
    (N, C), size = rows.shape, part_size(rows.shape[1], rows)
    y = array_module(x).empty_like(rows)
    launch("softmax.cu", f"softmax_forward<{c_name(rows)}, {size}, {int(log)}>", (N if C else 0,),
           threads_for(blocks_for(C, size)), (rows, y, C))
    return y.reshape(x.shape)


def backward(dy, y, log):
    dys, ys = as_rows(dy), as_rows(y)
    (N, C), size = ys.shape, part_size(ys.shape[1], dys, ys)
    dx = array_module(y).empty_like(ys)
    launch("softmax.cu", f"softmax_backward<{c_name(ys)}, {size}, {int(log)}>", (N if C else 0,),
           threads_for(blocks_for(C, size)), (dys, ys, dx, C))
    return dx.reshape(y.shape)


def cross_entropy(logits, targets, *, ignore_index, label_smoothing=0.0, z_loss=0.0):
    """losses (N,) of logits (N, V), integer targets (N,): see backend.cpu.cross_entropy.  Returns (losses, saved)."""
    xp, rows, targets = array_module(logits), as_rows(logits), integers(logits, targets)
    (N, V), size = rows.shape, part_size(rows.shape[1], rows)
    losses, log_sums = (xp.empty(N, wide_dtype(rows)) for _ in range(2))
    options = (V, ignore_index, float(label_smoothing), float(z_loss))
    launch("softmax.cu", f"cross_entropy_forward<{c_name(rows)}, {size}>", (N,), threads_for(blocks_for(V, size)),
           (rows, targets, losses, log_sums, *options))
    return losses, (rows, targets, log_sums, options)


def cross_entropy_backward(dlosses, saved):
    """dlogits (N, V): see backend.cpu.cross_entropy_backward."""
    return cross_entropy_into(array_module(dlosses).empty_like(saved[0]), dlosses, saved)


def cross_entropy_into(dlogits, dlosses, saved):
    """Write the gradient into dlogits, which may be the logits themselves."""
    rows, targets, log_sums, options = saved
    (N, V), size = rows.shape, part_size(rows.shape[1], rows, dlogits)
    dlosses = array_module(rows).ascontiguousarray(dlosses, log_sums.dtype)
    launch("softmax.cu", f"cross_entropy_backward<{c_name(rows)}, {size}>", (N,), threads_for(blocks_for(V, size)),
           (rows, targets, dlosses, log_sums, dlogits, *options))
    return dlogits


def linear_cross_entropy(x, weight, targets, *, bias=None, ignore_index, label_smoothing=0.0, z_loss=0.0):
    """losses (N,) of the logits x @ weight.T + bias: see backend.cpu.linear_cross_entropy.  Returns (losses, saved).

    The logits are the only (N, V) array there is: backward turns them into their own gradient.
    """
    x = as_rows(x)
    logits = matmul(x, weight.T)
    if bias is not None:
        logits += bias
    losses, saved = cross_entropy(logits, targets, ignore_index=ignore_index, label_smoothing=label_smoothing,
                                  z_loss=z_loss)
    return losses, (x, weight, bias is not None, saved)


def linear_cross_entropy_backward(dlosses, saved, out=None):
    """(dx, dweight, dbias or None); dweight (V, C) is written into `out` if given."""
    x, weight, biased, saved = saved
    dlogits = cross_entropy_into(saved[0], dlosses, saved)
    dweight = matmul(dlogits.T, x, out=out)
    return matmul(dlogits, weight), dweight, dlogits.sum(axis=0) if biased else None
