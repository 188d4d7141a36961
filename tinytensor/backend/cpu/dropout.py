"""Dropout (Srivastava et al. 2014), inverted: what is kept is scaled up, so that evaluation needs no scaling.

Here, in the normalization after a branch, and on attention's probabilities, which draw their masks a second time in
backward instead of keeping them.
"""

from math import prod

import numpy as np

LEVELS = 1 << 16  # how finely dropout's share is rounded


def dropout(x, p, rng):
    """y = x * mask / (1 - p), where each element of mask is False with probability p.  Returns (y, mask).

    0 <= p <= 1. rng: np.random.Generator.
    """
    mask = keep_mask(x.shape, p, rng)
    return drop(x, mask, p), mask


def dropout_backward(dy, mask, p):
    """dx = dy * mask / (1 - p)."""
    return drop(dy, mask, p)


def drop(x, keep, p, out=None):
    """x * keep / (1 - p), in `out` if given."""
    out = np.multiply(x, keep, out=out)
    out *= survivor_scale(p)
    return out


def survivor_scale(p):
    """1 / (1 - p); 0 where everything is dropped."""
    return 1 / (1 - p) if p < 1 else 0.0


def keep_mask(shape, p, rng):
    """Booleans that are False with probability p, to within 1 / 65536.

    One 64-bit random word decides four elements: 16 bits each, compared with p. A float per element takes 4 times as
    long to draw.
    """
    size = prod(shape)
    words = rng.integers(0, 1 << 64, -(-size // 4), dtype=np.uint64).view(np.uint16)[:size].reshape(shape)
    threshold = round(p * LEVELS)
    return words >= threshold if threshold < LEVELS else np.zeros(shape, bool)


def mask_stream(seed):
    """The stream that forward and backward both draw the dropout masks of a row of the batch from, strip by strip."""
    return np.random.Generator(np.random.SFC64(int(seed)))


def keep_masks(shape, p, draws):
    """A mask for some rows of the batch, each drawn from its own stream, whatever other rows there are."""
    return np.concatenate([keep_mask((1, *shape[1:]), p, draw) for draw in draws])
