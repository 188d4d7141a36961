"""The bends between a network's matrix products, without which they would all be one product. GELU stands in layers.py.

A sigmoid squashes any number into (0, 1), a tanh into (-1, 1); the relu and its smooth kin let positive numbers pass.
"""

from tinytensor.ops.basic import floats, rounded, with_number
from tinytensor.tensor import Tensor, record


def tanh(a: Tensor) -> Tensor:
    """tanh(a).   dL/da = dL/dy * (1 - y^2)"""
    y = a.xp.tanh(floats(a))
    return record("tanh", y, (a,), lambda g: (g * (1 - y * y),))


def sigmoid(a: Tensor) -> Tensor:
    """1 / (1 + e^-a).   dL/da = dL/dy * y * (1 - y)"""
    y = logistic(floats(a), a.xp)
    return record("sigmoid", y, (a,), lambda g: (g * y * (1 - y),))


def logistic(x, xp):
    """1 / (1 + e^-x), with e^x on top where x < 0: nothing overflows, and small values keep all their digits."""
    e = xp.exp(-xp.abs(x))
    return xp.where(x < 0, e, xp.ones((), e.dtype)) / (1 + e)


def relu(a: Tensor) -> Tensor:
    """max(a, 0).   dL/da = dL/dy where a > 0, else 0"""
    y = a.xp.maximum(a.data, 0)
    return record("relu", y, (a,), lambda g: (g * (y != 0),))


def leaky_relu(a: Tensor, slope: float = 0.01) -> Tensor:
    """a where a > 0, else slope * a.   dL/da = dL/dy, and there dL/dy * slope"""
    x, slope = with_number("leaky_relu", a, slope)
    scale = lambda g: rounded(a.xp.where(x > 0, g, g * slope), x.dtype)
    return record("leaky_relu", scale(x), (a,), lambda g: (scale(g),))


def silu(a: Tensor) -> Tensor:
    """a * sigmoid(a), also called swish.   dL/da = dL/dy * (s + y * (1 - s)),   s = sigmoid(a)"""
    x = floats(a)
    s = logistic(x, a.xp)
    y = x * s
    return record("silu", y, (a,), lambda g: (g * (s + y * (1 - s)),))


def softplus(a: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + e^(beta a)) / beta, a smooth relu; a itself where beta a > threshold.

    dL/da = dL/dy * sigmoid(beta a), and dL/dy there
    """
    x, xp = floats(a), a.xp
    z = rounded(x * beta, x.dtype)
    straight = z > threshold
    y = xp.where(straight, x, rounded(xp.log1p(xp.exp(xp.where(straight, 0, z))) / beta, x.dtype))
    return record("softplus", y, (a,), lambda g: (g * xp.where(straight, 1, logistic(z, xp)),))
