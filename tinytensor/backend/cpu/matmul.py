"""The product of two matrices."""

import numpy as np


def matmul(a, b, out=None):
    """a @ b, in `out` if given.   a: (N, K), b: (K, M) -> (N, M)"""
    return np.matmul(a, b, out=out)
