"""Softmax and log-softmax over the last axis: cuda/softmax.cu."""

from tinytensor.backend import array_module
from tinytensor.backend.gpu.arrays import as_rows, part_size, threads_for
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
