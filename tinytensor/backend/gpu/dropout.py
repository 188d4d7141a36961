"""Dropout (Srivastava et al. 2014), inverted, without a mask in memory.

The mask is a function of a seed and the element's number (cuda/random.cuh): backward needs to know the seed only.
"""

from __future__ import annotations

from tinytensor.backend import array_module
from tinytensor.backend.gpu.capture import capture
from tinytensor.backend.gpu.launch import blocks_for, c_name, launch

LEVELS = 1 << 16


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
