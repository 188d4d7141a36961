"""Layer norm and RMS norm over the last axis, alone and fused with the residual addition before them: cuda/norm.cu."""

from tinytensor.backend import array_module
from tinytensor.backend.gpu.arrays import MULTIPROCESSORS, as_rows, part_size, threads_for, wide_dtype
from tinytensor.backend.gpu.elementwise import draw_seed, dropout_threshold, seed_arguments
from tinytensor.backend.gpu.launch import blocks_for, c_name, launch

MOST_THREADS = 512
MOST_VALUES = 16  # of a row in the registers of a thread


def normalize(x, branch, weight, bias, eps, *, centre, dropout=0.0, rng=None):
    """total, y, saved of layer norm (centre=True) or RMS norm: see backend.cpu.normalize."""
    xp, rows = array_module(x), as_rows(x)
    N, C = rows.shape
    branch = None if branch is None else as_rows(branch)
    total = rows if branch is None else xp.empty_like(rows)
    y = xp.empty_like(rows)
    means = xp.empty(N, wide_dtype(x)) if centre else None
    inverse_stds = xp.empty(N, wide_dtype(x))
    template, threads = instance(rows, centre, branch, weight, bias)
    drop = (dropout_threshold(dropout), draw_seed(rng)) if dropout else (0, 0)
    launch("norm.cu", f"norm_forward<{template}>", (N if C else 0,), threads,
           (rows, branch, None if branch is None else total, weight, bias, y, means, inverse_stds, C, float(eps),
            drop[0], *seed_arguments(drop[1])))
    saved = total, means, inverse_stds, weight, bias is not None, drop
    return total.reshape(x.shape), y.reshape(x.shape), saved


def normalize_backward(dtotal, dy, saved):
    """(dx, dbranch, dweight or None, dbias or None): see backend.cpu.normalize_backward."""
    x, means, inverse_stds, weight, has_bias, (threshold, seed) = saved
    xp, (N, C), wide = array_module(x), x.shape, wide_dtype(x)
    rows = as_rows(dy)
    dtotal = None if dtotal is None else as_rows(dtotal)
    dx = xp.empty_like(x)
    dbranch = xp.empty_like(x) if threshold else None
    template, threads = instance(x, means is not None, rows, dtotal, weight)
    # A few blocks to a multiprocessor, each with a long column of rows: fewer sums are left to be added up.
    blocks = min(N, MULTIPROCESSORS * max(1, 1024 // threads)) if C else 0
    dweights = None if weight is None else xp.empty((blocks, C), wide)
    dbiases = xp.empty((blocks, C), wide) if has_bias else None
    launch("norm.cu", f"norm_backward<{template}>", (blocks,), threads,
           (dtotal, rows, x, weight, means, inverse_stds, dx, dbranch, dweights, dbiases, N, C, threshold,
            *seed_arguments(seed)))
    add_up = lambda sums: None if sums is None else sums.sum(axis=0).astype(x.dtype)
    dx, dbranch = (None if a is None else a.reshape(dy.shape) for a in (dx, dbranch))
    return dx, dx if dbranch is None else dbranch, add_up(dweights), add_up(dbiases)


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
