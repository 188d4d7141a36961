"""What the tests of the GPU kernels compare with: the plain versions and the CPU's kernels in float64, and how near."""

import numpy as np

# The rounding unit of each type, times a small factor: a result is rounded once to its type, and what goes into the
# tensor core (the probabilities, dS) once more before it.
TOLERANCE = {"float64": 1e-13, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}


def normal(seed, shape, dtype=np.float32, scale=1.0):
    return np.asarray(np.random.default_rng([seed, *shape]).standard_normal(shape) * scale).astype(dtype)


def wide(value):
    """Float arrays as float64; anything else as it is."""
    if isinstance(value, np.ndarray) and value.dtype.kind not in "iub":
        return value.astype(np.float64)
    return value


def assert_close(got, want, factor=1.0, dtype=None):
    """Equal shapes, and values to the tolerance of got's type (or the one given) relative to the largest wanted.

    That is taken to be at least 0.3: a gradient that is 0 (a softmax over one key) carries the inputs' rounding.
    """
    want = np.asarray(want, np.float64)
    assert got.shape == want.shape
    limit = TOLERANCE[(dtype or got.dtype).name] * factor * max(np.abs(want).max(initial=0.0), 0.3)
    worst = np.abs(wide(np.asarray(got)) - want).max(initial=0.0)
    assert worst <= limit, f"off by {worst:.3g}, more than {limit:.3g}"
