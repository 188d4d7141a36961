"""Layer norm and RMS norm, alone and with the residual addition (cuda/norm.cu), GELU and dropout (cuda/elementwise.cu).

Dropout's mask is a function of a seed and the element's number (cuda/random.cuh): backward needs to know the seed only.
"""

from tinytensor.backend import array_module
from tinytensor.backend.cpu.dropout import LEVELS
from tinytensor.backend.gpu.arrays import (
    MULTIPROCESSORS,
    as_rows,
    column_sums,
    part_size,
    sums_of_columns,
    threads_for,
    wide_dtype,
)
from tinytensor.backend.gpu.launch import blocks_for, c_name, capture, launch

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
    add_up = lambda sums: None if sums is None else column_sums(sums, x.dtype)
    dx, dbranch = (None if a is None else a.reshape(dy.shape) for a in (dx, dbranch))
    return dx, dx if dbranch is None else dbranch, add_up(dweights), add_up(dbiases)


def instance(rows, centre, *arrays):
    """(template arguments, threads): parts of 16 bytes where rows allow, as few to a thread as a wide block permits."""
    C = rows.shape[1]
    size = part_size(C, rows, *arrays)
    check_row_length(C)
    parts = blocks_for(C, size)
    each = 1
    while parts > each * MOST_THREADS:
        each *= 2
    return f"{c_name(rows)}, {size}, {each}, {int(centre)}", threads_for(blocks_for(parts, each))


def check_row_length(C: int) -> None:
    if C > MOST_VALUES * MOST_THREADS:
        raise ValueError(f"normalization on the GPU takes rows of at most {MOST_VALUES * MOST_THREADS}, not {C}")


def gelu(x, approximate, need_slope=True, bias=None):
    """GELU of x + bias and its slope, in one pass: see backend.cpu.gelu.  Returns (y, slope or None)."""
    xp = array_module(x)
    x = xp.ascontiguousarray(x)
    y = xp.empty_like(x)
    slope = xp.empty_like(x) if need_slope else None
    width = x.shape[-1] if x.ndim else 1
    size = part_size(width, x, bias) if x.ndim else 1
    launch("elementwise.cu", f"gelu_forward<{c_name(x)}, {size}, {int(approximate)}>",
           (blocks_for(x.size, 256 * size),), 256, (x, bias, y, slope, x.size, width))
    return y, slope


def gelu_backward(dy, slope, need_bias=False):
    """dx = dy * slope, and dbias = its sum over the rows if needed.  Returns (dx, dbias or None)."""
    xp = array_module(dy)
    dy, slope = xp.ascontiguousarray(dy), xp.ascontiguousarray(slope)
    dx, size = xp.empty_like(dy), part_size(dy.size, dy, slope)
    if need_bias:  # in one pass
        return dx, sums_of_columns(as_rows(dy), as_rows(slope), as_rows(dx), dx.dtype)
    launch("elementwise.cu", f"multiply<{c_name(dy)}, {size}>", (blocks_for(dy.size, 256 * size),), 256,
           (dy, slope, dx, dy.size))
    return dx, None


def dropout(x, p, rng):
    """y = x * mask / (1 - p), where each element of mask is False with probability p.  Returns (y, mask).

    0 <= p <= 1. rng: np.random.Generator; one number is drawn from it, the seed, and that is what `mask` is.
    """
    mask = draw_seed(rng)
    return dropout_backward(x, mask, p), mask


def dropout_backward(dy, mask, p):
    """dx = dy * mask / (1 - p)."""
    xp = array_module(dy)
    if p >= 1:
        return xp.zeros_like(dy)
    dy = xp.ascontiguousarray(dy)
    dx, size = xp.empty_like(dy), part_size(dy.size, dy)
    launch("elementwise.cu", f"dropout<{c_name(dy)}, {size}>", (blocks_for(dy.size, 256 * size),), 256,
           (dy, dx, dy.size, dropout_threshold(p), *seed_arguments(mask)))
    return dx


def dropout_threshold(p: float) -> int:
    """p as a share of 65536; below it, because something must survive to be scaled up."""
    return min(round(p * LEVELS), LEVELS - 1)


def draw_seed(rng):
    """A new seed: a number, or in a step that is being recorded the place where each repetition will find its own."""
    seed = int(rng.integers(1 << 63))
    return capture.recorder.place_of_seed(seed) if capture.recording else seed


def seed_arguments(seed) -> tuple:
    """A seed as kernels take it: (where it stands or None, the number)."""
    return (None, seed) if isinstance(seed, int) else (seed, 0)
