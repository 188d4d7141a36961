"""What stands between a model's matrix products: normalization, GELU, dropout.

Normalization gives every row mean 0 and variance 1 (or RMS 1), then scales and shifts it. Without it the scale of
activations drifts from layer to layer and deep models do not train.
LayerNorm: Ba, Kiros & Hinton 2016 (arXiv:1607.06450). RMSNorm: Zhang & Sennrich 2019 (arXiv:1910.07467), used by T5.

The `add_` forms take the residual sum along: a block's output loses a share to dropout, is added to the stream, and the
sum is normalized, all in one pass over memory, forward and backward.
"""

from tinytensor import random
from tinytensor.backend import array_module, backend_of
from tinytensor.ops.basic import check_fits, floats, reshape
from tinytensor.tensor import Tensor, raw, record, record_many, recording


def layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Layer normalization over the last axis.

    y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias,      var is the biased variance

    x: (..., C); weight, bias: (C,) or None, or of several axes, the last ones of x.  Returns (..., C).
    Gradient, with n = (x - mean) / std and h = dy * weight:
        dx = (h - mean(h) - n * mean(h * n)) / std,   dweight = sum(dy * n),   dbias = sum(dy)
    """
    return _alone("layer_norm", x, weight, bias, eps, centre=True)


def add_layer_norm(x: Tensor, branch: Tensor, weight: Tensor | None = None, bias: Tensor | None = None,
                   eps: float = 1e-5, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
    """total = x + dropout(branch) and layer_norm(total), fused.

    x, branch: (..., C), one shape.   dropout: the share of the branch to drop, see ops.dropout.
    Returns (total, normed), both (..., C). The gradient of x is dtotal + what comes back through the normalization, and
    that of the branch the same through the dropout.
    """
    return _added("add_layer_norm", x, branch, weight, bias, eps, dropout, centre=True)


def rms_norm(x: Tensor, weight: Tensor | None = None, eps: float = 1e-6) -> Tensor:
    """Root-mean-square normalization over the last axis.

    y = x / sqrt(mean(x^2) + eps) * weight

    x: (..., C); weight: (C,) or None, or of several axes, the last ones of x.  Returns (..., C).
    Gradient, with n = x / rms and h = dy * weight:   dx = (h - n * mean(h * n)) / rms,   dweight = sum(dy * n)
    """
    return _alone("rms_norm", x, weight, None, eps, centre=False)


def add_rms_norm(x: Tensor, branch: Tensor, weight: Tensor | None = None, eps: float = 1e-6,
                 dropout: float = 0.0) -> tuple[Tensor, Tensor]:
    """total = x + dropout(branch) and rms_norm(total), fused: see add_layer_norm."""
    return _added("add_rms_norm", x, branch, weight, None, eps, dropout, centre=False)


def _alone(name: str, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, centre: bool) -> Tensor:
    if weight is not None and (several := weight.ndim) > 1:
        check_fits(name, "weight", weight, x.shape[-several:], "x", x)
        check_fits(name, "bias", bias, weight.shape, "weight", weight)
        flat = reshape(x, *x.shape[:-several], -1)
        parts = [part if part is None else reshape(part, -1) for part in (weight, bias)]
        return reshape(_alone(name, flat, *parts, eps, centre), x.shape)
    _check(name, x, None, weight, bias)
    kernels = backend_of(x.data)
    _, y, saved = kernels.normalize(floats(x), None, raw(weight), raw(bias), eps, centre=centre)

    def backward(dy):
        dx, _, dweight, dbias = kernels.normalize_backward(None, dy, saved)
        return dx, dweight, dbias

    return record(name, y, (x, weight, bias), backward)


def _added(name: str, x: Tensor, branch: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, p: float,
           centre: bool) -> tuple[Tensor, Tensor]:
    _check(name, x, branch, weight, bias)
    _check_share(name, p)
    kernels = backend_of(x.data)
    arrays = floats(x), floats(branch), raw(weight), raw(bias)
    rng = random.generator() if p else None
    total, y, saved = kernels.normalize(*arrays, eps, centre=centre, dropout=p, rng=rng)

    def backward(dtotal, dy):
        if dy is None and not p:
            return dtotal, dtotal, None, None
        dy = array_module(total).zeros_like(total) if dy is None else dy
        return kernels.normalize_backward(dtotal, dy, saved)

    summed, normed = record_many(name, [total, y], (x, branch, weight, bias), backward)
    return summed, normed


def _check(name: str, x: Tensor, branch: Tensor | None, weight: Tensor | None, bias: Tensor | None) -> None:
    if x.ndim == 0:
        raise ValueError(f"{name}: a 0-d tensor has no last axis to normalize over")
    check_fits(name, "weight", weight, x.shape[-1:], "x", x)
    check_fits(name, "bias", bias, x.shape[-1:], "x", x)
    check_fits(name, "the branch", branch, x.shape, "x", x)


def gelu(a: Tensor, approximate: bool | str = False, bias: Tensor | None = None) -> Tensor:
    """a * Phi(a), Phi the normal distribution function (Hendrycks & Gimpel 2016, arXiv:1606.08415).

    approximate=True is the tanh form of GPT-2 and T5 v1.1:   y = a/2 * (1 + tanh(sqrt(2/pi) * (a + 0.044715 a^3)))
    (or "tanh", and "none" for False: PyTorch's words)
    bias: (C,), added to the last axis of a first, in the same pass over memory.
    dL/da = dL/dy * slope, where the kernel finds the slope together with the value;   dL/dbias = its sum over the rows.
    """
    check_fits("gelu", "bias", bias, a.shape[-1:], "x", a)
    if approximate not in (False, True, "none", "tanh"):
        raise ValueError(f"gelu: approximate={approximate!r}; choose from False or 'none', True or 'tanh'")
    kernels, approximate = backend_of(a.data), approximate in (True, "tanh")
    needed = recording() and (a.requires_grad or (bias is not None and bias.requires_grad))
    y, slope = kernels.gelu(floats(a), approximate, need_slope=needed, bias=raw(bias))
    return record("gelu", y, (a, bias), lambda g: kernels.gelu_backward(g, slope, need_bias=bias is not None))


def dropout(x: Tensor, p: float) -> Tensor:
    """y = x * keep / (1 - p), each element of keep 1 with probability 1 - p, else 0.   dL/dx = dL/dy * keep / (1 - p)

    So that no element is relied on alone (Srivastava et al. 2014); the survivors are scaled up, for training only.
    p: the share to drop, 0 <= p < 1. Draws from this thread's stream (tinytensor.random).
    """
    _check_share("dropout", p)
    if p == 0:
        return x
    kernels = backend_of(x.data)
    y, mask = kernels.dropout(floats(x), p, random.generator())
    return record("dropout", y, (x,), lambda g: (kernels.dropout_backward(g, mask, p),))


def _check_share(name: str, p: float) -> None:
    if not 0 <= p < 1:
        raise ValueError(f"{name}: p={p} is not a share in [0, 1)")
