"""What the kernel tests share: seeded inputs, tolerances, awkward layouts, and gradients by finite differences."""

import numpy as np
from hypothesis import settings

# float32 rounds to 6e-8; sums of up to a few hundred terms of size 1 stay well inside 2e-5 of the float64 formula.
TOLERANCE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-11}
DTYPES = (np.float32, np.float64)

quick = settings(max_examples=30, deadline=None)


def normal(seed, shape, dtype=np.float64, scale=1.0):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape) * scale, dtype)


def assert_close(got, want, factor=1.0):
    """Equal shapes and values, to the tolerance of got's dtype relative to the largest value expected."""
    want = np.asarray(want)
    assert got.shape == want.shape
    limit = TOLERANCE[got.dtype] * factor * max(1.0, np.abs(want).max(initial=0.0))
    assert np.abs(got - want).max(initial=0.0) <= limit


def scattered(x):
    """The same values with every stride doubled, so nothing is contiguous."""
    wide = np.zeros(tuple(2 * n for n in x.shape), x.dtype)
    view = wide[(*(slice(None, None, 2) for _ in x.shape), ...)]
    view[...] = x
    return view


def numeric_gradient(f, x, step=1e-5):
    """d f / d x of a scalar function of a float64 array, by central differences."""
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        moved = x.copy()
        moved[index] += step
        above = f(moved)
        moved[index] -= 2 * step
        gradient[index] = (above - f(moved)) / (2 * step)
    return gradient
