"""Layer norm and RMS norm over the last axis, alone and fused with the residual addition before them: cuda/norm.cu."""

from tinytensor.backend import array_module

from .arrays import MULTIPROCESSORS, wide_dtype
from .launch import blocks_for, c_name, launch
from .rows import as_rows, part_size, threads_for

MOST_THREADS = 512
MOST_VALUES = 16                                           # of a row in the registers of a thread


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
    xp, rows = array_module(x), as_rows(x)
    N, C = rows.shape
    branch = None if residual is None else as_rows(residual)
    total = rows if branch is None else xp.empty_like(rows)
    y = xp.empty_like(rows)
    means = xp.empty(N, wide_dtype(x)) if centre else None
    inverse_stds = xp.empty(N, wide_dtype(x))
    template, threads = instance(rows, centre, branch, weight, bias)
    launch("norm.cu", f"norm_forward<{template}>", (N if C else 0,), threads,
           (rows, branch, None if branch is None else total, weight, bias, y, means, inverse_stds, C, float(eps)))
    saved = total, means, inverse_stds, weight, bias is not None
    return total.reshape(x.shape), y.reshape(x.shape), saved


def normalize_backward(dtotal, dy, saved, centre):
    """The backward pass of all four: (dx, dweight or None, dbias or None)."""
    x, means, inverse_stds, weight, has_bias = saved
    xp, (N, C), wide = array_module(x), x.shape, wide_dtype(x)
    rows = as_rows(dy)
    dtotal = None if dtotal is None else as_rows(dtotal)
    dx = xp.empty_like(x)
    template, threads = instance(x, centre, rows, dtotal, weight)
    # A few blocks to a multiprocessor, each with a long column of rows: fewer sums are left to be added up.
    blocks = min(N, MULTIPROCESSORS * max(1, 1024 // threads)) if C else 0
    dweights = None if weight is None else xp.empty((blocks, C), wide)
    dbiases = xp.empty((blocks, C), wide) if has_bias else None
    launch("norm.cu", f"norm_backward<{template}>", (blocks,), threads,
           (dtotal, rows, x, weight, means, inverse_stds, dx, dweights, dbiases, N, C))
    add_up = lambda sums: None if sums is None else sums.sum(axis=0).astype(x.dtype)
    return dx.reshape(dy.shape), add_up(dweights), add_up(dbiases)


def instance(rows, centre, *arrays):
    """(template arguments, threads): parts of 16 bytes where rows allow, as few to a thread as a wide block permits."""
    C = rows.shape[1]
    size = part_size(C, rows, *arrays)
    if C > MOST_VALUES * MOST_THREADS:
        raise ValueError(f"normalization on the GPU takes rows of at most {MOST_VALUES * MOST_THREADS}, not {C}")
    parts = blocks_for(C, size)
    each = 1
    while parts > each * MOST_THREADS:
        each *= 2
    return f"{c_name(rows)}, {size}, {each}, {int(centre)}", threads_for(blocks_for(parts, each))
