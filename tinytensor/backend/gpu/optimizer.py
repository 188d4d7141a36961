"""Optimizer steps over all parameters of a model as one flat array, in one launch: cuda/optimizer.cu."""

from math import sqrt

import numpy as np

from tinytensor.backend import array_module

from .arrays import MULTIPROCESSORS
from .launch import blocks_for, c_name, launch

THREADS = 256


def adamw(params, grads, m, v, *, lr, beta1, beta2, eps, weight_decay, step, grad_scale=1.0, decayed=None, copy=None):
    """One AdamW step, in place on params, m and v; step counts from 1.

    g = grad_scale * grads
    m = beta1 m + (1 - beta1) g,         v = beta2 v + (1 - beta2) g^2
    params = (1 - lr weight_decay) params - lr m_hat / (sqrt(v_hat) + eps)
    with m_hat = m / (1 - beta1^step),   v_hat = v / (1 - beta2^step).
    decayed: only so many elements at the start are decayed (all if None).
    copy: an array in another precision that gets the new params too, or None.
    """
    k = sqrt(1 - beta2**step)
    launch("optimizer.cu", f"adamw<{types(params, grads, copy)}>", grid(params), THREADS,
           (params, grads, m, v, copy, params.size, params.size if decayed is None else decayed,
            float(lr * k / (1 - beta1**step)), float(beta1), float(beta2), float(k * eps),
            float(1 - lr * weight_decay), float(grad_scale)))


def sgd(params, grads, velocity, *, lr, momentum=0.0, nesterov=False, weight_decay=0.0, grad_scale=1.0, decayed=None,
        copy=None):
    """One step of gradient descent, in place on params and velocity (None where momentum is 0).

    g = grad_scale * grads + weight_decay * params
    velocity = momentum velocity + g
    params = params - lr (g + momentum velocity  if nesterov else  velocity)
    decayed, copy: as in adamw.
    """
    launch("optimizer.cu", f"sgd<{types(params, grads, copy)}>", grid(params), THREADS,
           (params, grads, velocity, copy, params.size, params.size if decayed is None else decayed, float(lr),
            float(momentum), int(nesterov), float(weight_decay), float(grad_scale)))


def squared_norm(x):
    """The sum of x^2, in float64, as a 0-d array on the device: reading it is the only wait for the GPU."""
    xp = array_module(x)
    x = xp.ascontiguousarray(x)
    blocks = grid(x)
    sums = xp.zeros(blocks, np.float64)
    launch("optimizer.cu", f"squared_norm<{c_name(x)}>", blocks, THREADS, (x, sums, x.size))
    return sums.sum()


def grid(x) -> tuple:
    return (min(blocks_for(x.size, THREADS), MULTIPROCESSORS * 16),)


def types(params, grads, copy) -> str:
    return f"{c_name(params)}, {c_name(grads)}, {c_name(params if copy is None else copy)}"
