"""Dropout (Srivastava et al. 2014), inverted: what is kept is scaled up, so that evaluation needs no scaling."""

from math import prod

import numpy as np

LEVELS = 1 << 16


def dropout(x, p, rng):
    """y = x * mask / (1 - p), where each element of mask is False with probability p.  Returns (y, mask).

    0 <= p <= 1. rng: np.random.Generator.
    """
    mask = keep_mask(x.shape, p, rng)
    return dropout_backward(x, mask, p), mask


def dropout_backward(dy, mask, p):
    """dx = dy * mask / (1 - p)."""
    if p >= 1:
        return np.zeros_like(dy)
    dx = dy * mask
    dx *= 1 / (1 - p)
    return dx


def keep_mask(shape, p, rng):
    """Booleans that are False with probability p, to within 1 / 65536.

    One 64-bit random word decides four elements: 16 bits each, compared with p. A float per element takes 4 times as
    long to draw.
    """
    size = prod(shape)
    words = rng.integers(0, 1 << 64, -(-size // 4), dtype=np.uint64).view(np.uint16)[:size].reshape(shape)
    threshold = round(p * LEVELS)
    return words >= threshold if threshold < LEVELS else np.zeros(shape, bool)
