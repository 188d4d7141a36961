"""Optimizer steps over all parameters of a model as one flat array, in one launch: cuda/optimizer.cu."""

from math import sqrt

import numpy as np

from tinytensor.backend import array_module
from tinytensor.backend.gpu.arrays import MULTIPROCESSORS
from tinytensor.backend.gpu.launch import blocks_for, c_name, launch

THREADS = 256


def adamw(params, grads, m, v, *, lr, beta1, beta2, eps, weight_decay, step, grad_scale=1.0, decayed=None, copy=None):
    """One AdamW step, in place: see backend.cpu.adamw."""
    k = sqrt(1 - beta2**step)
    launch("optimizer.cu", f"adamw<{types(params, grads, copy)}>", grid(params), THREADS,
           (params, grads, m, v, copy, params.size, params.size if decayed is None else decayed,
            float(lr * k / (1 - beta1**step)), float(beta1), float(beta2), float(k * eps),
            float(1 - lr * weight_decay), *scale_arguments(grad_scale)))


def sgd(params, grads, velocity, *, lr, momentum=0.0, nesterov=False, weight_decay=0.0, grad_scale=1.0, decayed=None,
        copy=None):
    """One step of gradient descent, in place: see backend.cpu.sgd."""
    launch("optimizer.cu", f"sgd<{types(params, grads, copy)}>", grid(params), THREADS,
           (params, grads, velocity, copy, params.size, params.size if decayed is None else decayed, float(lr),
            float(momentum), int(nesterov), float(weight_decay), *scale_arguments(grad_scale)))


def scale_arguments(grad_scale) -> tuple:
    """What gradients are multiplied by, as kernels take it: (where a Verdict stands or None, the number)."""
    return (None, float(grad_scale)) if isinstance(grad_scale, float | int) else (grad_scale.numbers, 0.0)


def squared_norm(x):
    """The sum of x^2, in float64, as a 0-d array on the device: reading it is the only wait for the GPU."""
    return sums_of_squares(x).sum()


def sums_of_squares(x):
    """The sum of x^2 of each block's elements, in float64."""
    xp = array_module(x)
    x = xp.ascontiguousarray(x)
    sums = xp.zeros(grid(x), np.float64)
    launch("optimizer.cu", f"squared_norm<{c_name(x)}>", grid(x), THREADS, (x, sums, x.size))
    return sums


def grid(x) -> tuple:
    return (min(blocks_for(x.size, THREADS), MULTIPROCESSORS * 16),)


def types(params, grads, copy) -> str:
    return f"{c_name(params)}, {c_name(grads)}, {c_name(params if copy is None else copy)}"
