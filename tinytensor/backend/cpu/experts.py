"""The products of many experts, each of its own matrix with the rows that were sent to it."""

import numpy as np


def expert_linear(x, weight, filled):
    """y[e] = x[e] @ weight[e]^T for every expert e.

    x: (E, S, K), of which the first filled[e] of expert e's S rows hold something, the others 0.
    weight: (E * M, K), the experts' matrices one below the other.   Returns (E, S, M).

    One product after the other, as NumPy's own of several matrices; but no empty row is multiplied.
    """
    M = len(weight) // len(x)
    y = np.zeros((*x.shape[:2], M), x.dtype)
    for e, n in enumerate(filled.tolist()):
        if n:
            np.matmul(x[e, :n], weight[e * M : (e + 1) * M].T, out=y[e, :n])
    return y


def expert_linear_backward(g, x, weight, filled, out=None):
    """(dx, dweight) for g = dL/dy.   out: where to write dweight, if given."""
    M = len(weight) // len(x)
    dx, dweight = np.zeros_like(x), np.empty(weight.shape, weight.dtype) if out is None else out
    for e, n in enumerate(filled.tolist()):
        own = slice(e * M, (e + 1) * M)
        np.matmul(g[e, :n].T, x[e, :n], out=dweight[own])  # zeros for an expert that nobody came to
        if n:
            np.matmul(g[e, :n], weight[own], out=dx[e, :n])
    return dx, dweight
