"""Softmax, its logarithm, and cross-entropy: from logits, and with the product that makes them: cuda/softmax.cu.

Losses of 16-bit logits are float32. Rows whose target is ignore_index have loss and gradient 0.
"""

from tinytensor.backend import array_module
from tinytensor.backend.gpu.arrays import (
    as_rows,
    column_sums,
    integers,
    part_size,
    row_step,
    rows_are_whole,
    threads_for,
    wide_dtype,
)
from tinytensor.backend.gpu.cublas import matmul
from tinytensor.backend.gpu.launch import blocks_for, c_name, launch


def softmax(x, log=False):
    """y = exp(x) / sum(exp(x)) over the last axis, or its logarithm x - log(sum(exp(x))).  x: (..., C)."""
    rows = as_rows(x)
    y = array_module(x).empty_like(rows)
    start("softmax_forward", (rows,), (rows, y, rows.shape[1]), int(log))
    return y.reshape(x.shape)


def softmax_backward(dy, y, log=False):
    """dx = y * (dy - sum(y * dy)) over the last axis, or of the logarithm dy - exp(y) * sum(dy)."""
    dys, ys = as_rows(dy), as_rows(y)
    dx = array_module(y).empty_like(ys)
    start("softmax_backward", (ys, dys), (dys, ys, dx, ys.shape[1]), int(log))
    return dx.reshape(y.shape)


def cross_entropy(logits, targets, *, ignore_index, label_smoothing=0.0, z_loss=0.0):
    """losses (N,) of logits (N, V), integer targets (N,): see backend.cpu.cross_entropy.  Returns (losses, saved)."""
    xp, targets = array_module(logits), integers(logits, targets)
    rows = logits if logits.ndim == 2 and rows_are_whole(logits) else as_rows(logits)
    losses, log_sums = (xp.empty(len(rows), wide_dtype(rows)) for _ in range(2))
    options = (rows.shape[1], ignore_index, float(label_smoothing), float(z_loss))
    start("cross_entropy_forward", (rows,), (rows, targets, losses, log_sums, row_step(rows), *options))
    return losses, (rows, targets, log_sums, options)


def cross_entropy_backward(dlosses, saved):
    """dlogits (N, V): see backend.cpu.cross_entropy_backward."""
    return cross_entropy_into(empty_rows(saved[0], *saved[0].shape), dlosses, saved)


def cross_entropy_into(dlogits, dlosses, saved):
    """Write the gradient into dlogits, which may be the logits themselves."""
    rows, targets, log_sums, options = saved
    dlosses = array_module(rows).ascontiguousarray(dlosses, log_sums.dtype)
    start("cross_entropy_backward", (rows, dlogits),
          (rows, targets, dlosses, log_sums, dlogits, row_step(rows), row_step(dlogits), *options))
    return dlogits


def empty_rows(like, N: int, C: int):
    """An empty (N, C) whose rows begin at multiples of 16 bytes, so that kernels can read 16 at a time."""
    size = 16 // like.dtype.itemsize
    return array_module(like).empty((N, blocks_for(C, size) * size), like.dtype)[:, :C]


def linear_cross_entropy(x, weight, targets, *, bias=None, ignore_index, label_smoothing=0.0, z_loss=0.0):
    """losses (N,) of the logits x @ weight.T + bias: see backend.cpu.linear_cross_entropy.  Returns (losses, saved).

    The logits are the only (N, V) array there is: backward turns them into their own gradient.
    """
    x = as_rows(x)
    logits = matmul(x, weight.T, out=empty_rows(x, len(x), len(weight)), bias=bias)
    losses, saved = cross_entropy(logits, targets, ignore_index=ignore_index, label_smoothing=label_smoothing,
                                  z_loss=z_loss)
    return losses, (x, weight, bias is not None, saved)


def linear_cross_entropy_backward(dlosses, saved, out=None, keep=False):
    """(dx, dweight, dbias or None); dweight (V, C) is written into `out` if given.

    keep: use memory for a second (N, V) array, so that what was saved can be used again.
    """
    x, weight, biased, saved = saved
    dlogits = cross_entropy_backward(dlosses, saved) if keep else cross_entropy_into(saved[0], dlosses, saved)
    dweight = matmul(dlogits.T, x, out=out)
    return matmul(dlogits, weight), dweight, column_sums(dlogits) if biased else None


def start(kernel, matrices, arguments, *options):
    """A block to each row of the matrices (N, C), in parts of 16 bytes where all of them can be read so."""
    N, C = matrices[0].shape
    size = min(part_size(row_step(a), a) for a in matrices)
    instance = ", ".join(map(str, (c_name(matrices[0]), size, *options)))
    launch("softmax.cu", f"{kernel}<{instance}>", (N,), threads_for(blocks_for(C, size)), arguments)
