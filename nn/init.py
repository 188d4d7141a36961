"""First values of parameters. Too large and activations explode with depth, too small and they vanish.

Each function returns an initializer: a function from a shape to a float32 array. Numbers are drawn from this thread's
stream (tinytensor.random).
"""

import math
from collections.abc import Callable

import numpy as np

from tinytensor import random

Initializer = Callable[[tuple[int, ...]], np.ndarray]


def zeros(shape: tuple[int, ...]) -> np.ndarray:
    return np.zeros(shape, np.float32)


def ones(shape: tuple[int, ...]) -> np.ndarray:
    return np.ones(shape, np.float32)


def normal(std: float = 0.02) -> Initializer:
    """Normal with mean 0; 0.02 is the choice of GPT and BERT."""
    return lambda shape: random.generator().standard_normal(shape, dtype=np.float32) * np.float32(std)


def truncated_normal(std: float = 0.02) -> Initializer:
    """Normal, drawn again where it is beyond two standard deviations (BERT's published code)."""

    def fill(shape: tuple[int, ...]) -> np.ndarray:
        draw = random.generator()
        x = draw.standard_normal(shape, dtype=np.float32)
        while (beyond := np.abs(x) > 2).any():
            x[beyond] = draw.standard_normal(int(beyond.sum()), dtype=np.float32)
        return x * np.float32(std)

    return fill


def uniform(limit: float) -> Initializer:
    """Uniform in [-limit, limit)."""
    return lambda shape: (random.generator().random(shape, dtype=np.float32) * 2 - 1) * np.float32(limit)


def kaiming_uniform(shape: tuple[int, ...]) -> np.ndarray:
    """PyTorch's choice for its linear layers: limit 1 / sqrt(in) (He et al. 2015, with a = sqrt(5))."""
    return uniform(1 / math.sqrt(shape[1]))(shape)


def stacked(*parts: Initializer) -> Initializer:
    """An equal share of the rows by each of these, one below the other."""
    return lambda shape: np.concatenate([fill((shape[0] // len(parts), *shape[1:])) for fill in parts])
