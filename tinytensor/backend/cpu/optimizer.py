"""Optimizer steps over flat arrays: all parameters of a model as one vector, in place, a cache-sized block at a time.

A loop over a model's tensors would pay NumPy's call overhead a dozen times per tensor; over one flat vector it is paid
a dozen times per block. AdamW: Loshchilov & Hutter 2019.
"""

from math import sqrt

import numpy as np

from tinytensor.backend.cpu.arrays import BLOCK, flat_blocks


def adamw(params, grads, m, v, *, lr, beta1, beta2, eps, weight_decay, step, grad_scale=1.0, decayed=None, copy=None):
    """One AdamW step, in place on params, m and v; step counts from 1.

    g = grad_scale * grads
    m = beta1 m + (1 - beta1) g,         v = beta2 v + (1 - beta2) g^2
    params = (1 - lr weight_decay) params - lr m_hat / (sqrt(v_hat) + eps)
    with m_hat = m / (1 - beta1^step),   v_hat = v / (1 - beta2^step).
    decayed: only so many elements at the start are decayed (all if None).
    copy: an array in another precision that gets the new params too, or None.
    """
    # m_hat / (sqrt(v_hat) + eps) = (k / c) m / (sqrt(v) + k eps), k = sqrt(1 - beta2^step), c = 1 - beta1^step:
    # the corrections become two numbers instead of two passes.
    k = sqrt(1 - beta2**step)
    rate = lr * k / (1 - beta1**step)
    work = np.empty(min(BLOCK, params.size), params.dtype)
    for block, decays in blocks_with_decay(params.size, decayed):
        p, g, m_, v_ = params[block], grads[block], m[block], v[block]
        t = work[:p.size]
        np.multiply(g, grad_scale * (1 - beta1), out=t)
        m_ *= beta1
        m_ += t
        np.multiply(g, grad_scale * sqrt(1 - beta2), out=t)
        t *= t
        v_ *= beta2
        v_ += t
        np.sqrt(v_, out=t)
        t += k * eps
        np.divide(m_, t, out=t)
        t *= rate
        if decays and weight_decay:
            p *= 1 - lr * weight_decay
        p -= t
        if copy is not None:
            copy[block] = p


def squared_norm(x):
    """The sum of x^2, as a float: each block in x's own dtype, the blocks added up in float64."""
    x = x.reshape(-1)
    return sum((float(np.dot(x[block], x[block])) for block in flat_blocks(x.size)), 0.0)


def blocks_with_decay(size, decayed):
    """Blocks of the elements that are decayed, then of the others, each with whether it is."""
    decayed = size if decayed is None else min(max(decayed, 0), size)
    yield from ((block, True) for block in flat_blocks(decayed))
    yield from ((slice(block.start + decayed, block.stop + decayed), False) for block in flat_blocks(size - decayed))
