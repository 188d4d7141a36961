"""The losses of single numbers: the squared error, and cross-entropy where there are two answers."""

from __future__ import annotations

from tinytensor.backend import array_module
from tinytensor.ops.basic import operands
from tinytensor.tensor import Tensor, record


def mse_loss(prediction: Tensor, target) -> Tensor:
    """mean((prediction - target)^2).   dL/dprediction = 2 (prediction - target) / n, the opposite for the target"""
    x, y = operands("mse_loss", prediction, target)
    if x.shape != y.shape:
        raise ValueError(f"mse_loss: prediction {x.shape} and target {y.shape} must have the same shape")
    difference = x - y

    def backward(g):
        dx = difference * (2 * g / difference.size)
        return dx, -dx

    return record("mse_loss", (difference * difference).mean(), (prediction, target), backward)


def binary_cross_entropy(logits: Tensor, targets) -> Tensor:
    """mean(log(1 + e^x) - x * target), for scores x and targets in [0, 1].   dL/dx = (sigmoid(x) - target) / n

    Written as max(x, 0) - x * target + log(1 + e^-|x|), in which nothing overflows.
    """
    x, y = operands("binary_cross_entropy", logits, targets)
    if x.shape != y.shape:
        raise ValueError(f"binary_cross_entropy: logits {x.shape} and targets {y.shape} must have the same shape")
    xp = array_module(x)
    losses = xp.maximum(x, 0) - x * y + xp.log1p(xp.exp(-xp.abs(x)))
    n = x.size
    backward = lambda g: ((0.5 * xp.tanh(0.5 * x) + 0.5 - y) * (g / n), -x * (g / n))
    return record("binary_cross_entropy", losses.mean(), (logits, targets), backward)
