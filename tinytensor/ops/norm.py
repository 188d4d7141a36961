"""Normalization: give every row mean 0 and variance 1 (or RMS 1), then scale and shift it.

Without it the scale of activations drifts from layer to layer and deep models do not train.
LayerNorm: Ba, Kiros & Hinton 2016 (arXiv:1607.06450). RMSNorm: Zhang & Sennrich 2019 (arXiv:1910.07467), used by T5.

The `add_` forms take the residual sum along: a block's output is added to the stream and the sum is normalized in one
pass over memory, forward and backward.
"""

from __future__ import annotations

from tinytensor.backend import backend_of
from tinytensor.ops.elementwise import check_alike
from tinytensor.tensor import Tensor, record, record_many


def layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Layer normalization over the last axis.

    y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias,      var is the biased variance

    x: (..., C); weight, bias: (C,) or None.  Returns (..., C).
    Gradient, with n = (x - mean) / std and h = dy * weight:
        dx = (h - mean(h) - n * mean(h * n)) / std,   dweight = sum(dy * n),   dbias = sum(dy)
    """
    _check("layer_norm", x, weight, bias)
    kernels = backend_of(x.data)
    y, saved = kernels.layer_norm(x.data, _data(weight), _data(bias), eps)
    return record(y, (x, weight, bias), lambda dy: kernels.layer_norm_backward(dy, saved))


def add_layer_norm(
    x: Tensor, branch: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> tuple[Tensor, Tensor]:
    """total = x + branch and layer_norm(total), fused.

    x, branch: (..., C), one shape.  Returns (total, normed), both (..., C).
    The gradient of x and of branch is dtotal + what comes back through the normalization.
    """
    _check("add_layer_norm", x, weight, bias, branch)
    kernels = backend_of(x.data)
    total, y, saved = kernels.add_layer_norm(x.data, branch.data, _data(weight), _data(bias), eps)

    def backward(dtotal, dy):
        if dy is None:
            return dtotal, dtotal, None, None
        dx, dweight, dbias = kernels.add_layer_norm_backward(dtotal, dy, saved)
        return dx, dx, dweight, dbias

    total, normed = record_many([total, y], (x, branch, weight, bias), backward)
    return total, normed


def rms_norm(x: Tensor, weight: Tensor | None = None, eps: float = 1e-6) -> Tensor:
    """Root-mean-square normalization over the last axis.

    y = x / sqrt(mean(x^2) + eps) * weight

    x: (..., C); weight: (C,) or None.  Returns (..., C).
    Gradient, with n = x / rms and h = dy * weight:   dx = (h - n * mean(h * n)) / rms,   dweight = sum(dy * n)
    """
    _check("rms_norm", x, weight)
    kernels = backend_of(x.data)
    y, saved = kernels.rms_norm(x.data, _data(weight), eps)
    return record(y, (x, weight), lambda dy: kernels.rms_norm_backward(dy, saved))


def add_rms_norm(x: Tensor, branch: Tensor, weight: Tensor | None = None, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """total = x + branch and rms_norm(total), fused: see add_layer_norm."""
    _check("add_rms_norm", x, weight, branch=branch)
    kernels = backend_of(x.data)
    total, y, saved = kernels.add_rms_norm(x.data, branch.data, _data(weight), eps)

    def backward(dtotal, dy):
        if dy is None:
            return dtotal, dtotal, None
        dx, dweight = kernels.add_rms_norm_backward(dtotal, dy, saved)
        return dx, dx, dweight

    total, normed = record_many([total, y], (x, branch, weight), backward)
    return total, normed


def _data(tensor: Tensor | None):
    return None if tensor is None else tensor.data


def _check(
    name: str, x: Tensor, weight: Tensor | None, bias: Tensor | None = None, branch: Tensor | None = None
) -> None:
    if x.ndim == 0:
        raise ValueError(f"{name}: a 0-d tensor has no last axis to normalize over")
    for label, parameter in (("weight", weight), ("bias", bias)):
        if parameter is not None:
            if parameter.shape != x.shape[-1:]:
                raise ValueError(
                    f"{name}: {label} has shape {parameter.shape}, expected {x.shape[-1:]} to match x {x.shape}"
                )
            check_alike(name, x.data, parameter.data)
    if branch is not None:
        if branch.shape != x.shape:
            raise ValueError(f"{name}: the branch has shape {branch.shape}, expected {x.shape} to match x")
        check_alike(name, x.data, branch.data)
