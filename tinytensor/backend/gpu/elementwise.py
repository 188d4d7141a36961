"""GELU with its slope, and dropout without a mask in memory: cuda/elementwise.cu.

Dropout's mask is a function of a seed and the element's number (cuda/random.cuh): backward needs to know the seed only.
"""

from tinytensor.backend import array_module
from tinytensor.backend.cpu.elementwise import LEVELS
from tinytensor.backend.gpu.arrays import part_size
from tinytensor.backend.gpu.capture import capture
from tinytensor.backend.gpu.launch import blocks_for, c_name, launch


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
    dx = dy * slope
    return dx, dx.sum(axis=tuple(range(dx.ndim - 1))) if need_bias else None


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
    dx = xp.empty_like(dy)
    launch("elementwise.cu", f"dropout<{c_name(dy)}>", (blocks_for(dy.size, 256 * 8),), 256,
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
