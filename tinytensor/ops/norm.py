"""Normalization: give every row mean 0 and variance 1 (or RMS 1), then scale and shift it.

Without it the scale of activations drifts from layer to layer and deep models do not train.
LayerNorm: Ba, Kiros & Hinton 2016 (arXiv:1607.06450). RMSNorm: Zhang & Sennrich 2019 (arXiv:1910.07467), used by T5.

The `add_` forms take the residual sum along: a block's output loses a share to dropout, is added to the stream, and the
sum is normalized, all in one pass over memory, forward and backward.
"""

from __future__ import annotations

from tinytensor import random
from tinytensor.backend import array_module, backend_of
from tinytensor.ops.elementwise import check_alike, check_share
from tinytensor.tensor import Tensor, raw, record, record_many


def layer_norm(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5) -> Tensor:
    """Layer normalization over the last axis.

    y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias,      var is the biased variance

    x: (..., C); weight, bias: (C,) or None.  Returns (..., C).
    Gradient, with n = (x - mean) / std and h = dy * weight:
        dx = (h - mean(h) - n * mean(h * n)) / std,   dweight = sum(dy * n),   dbias = sum(dy)
    """
    _check("layer_norm", x, weight, bias)
    return _alone("layer_norm", x, weight, bias, eps, centre=True)


def add_layer_norm(
    x: Tensor,
    branch: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    dropout: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """total = x + dropout(branch) and layer_norm(total), fused.

    x, branch: (..., C), one shape.   dropout: the share of the branch to drop, see ops.dropout.
    Returns (total, normed), both (..., C). The gradient of x is dtotal + what comes back through the normalization, and
    that of the branch the same through the dropout.
    """
    _check("add_layer_norm", x, weight, bias, branch)
    return _added("add_layer_norm", x, branch, weight, bias, eps, dropout, centre=True)


def rms_norm(x: Tensor, weight: Tensor | None = None, eps: float = 1e-6) -> Tensor:
    """Root-mean-square normalization over the last axis.

    y = x / sqrt(mean(x^2) + eps) * weight

    x: (..., C); weight: (C,) or None.  Returns (..., C).
    Gradient, with n = x / rms and h = dy * weight:   dx = (h - n * mean(h * n)) / rms,   dweight = sum(dy * n)
    """
    _check("rms_norm", x, weight)
    return _alone("rms_norm", x, weight, None, eps, centre=False)


def add_rms_norm(
    x: Tensor, branch: Tensor, weight: Tensor | None = None, eps: float = 1e-6, dropout: float = 0.0
) -> tuple[Tensor, Tensor]:
    """total = x + dropout(branch) and rms_norm(total), fused: see add_layer_norm."""
    _check("add_rms_norm", x, weight, branch=branch)
    return _added("add_rms_norm", x, branch, weight, None, eps, dropout, centre=False)


def _alone(name: str, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, centre: bool) -> Tensor:
    kernels = backend_of(x.data)
    _, y, saved = kernels.normalize(x.data, None, raw(weight), raw(bias), eps, centre=centre)

    def backward(dy):
        dx, _, dweight, dbias = kernels.normalize_backward(None, dy, saved)
        return dx, dweight, dbias

    return record(name, y, (x, weight, bias), backward)


def _added(
    name: str, x: Tensor, branch: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, p: float, centre: bool
) -> tuple[Tensor, Tensor]:
    check_share(name, p)
    kernels = backend_of(x.data)
    arrays = x.data, branch.data, raw(weight), raw(bias)
    rng = random.generator() if p else None
    total, y, saved = kernels.normalize(*arrays, eps, centre=centre, dropout=p, rng=rng)

    def backward(dtotal, dy):
        if dy is None and not p:
            return dtotal, dtotal, None, None
        dy = array_module(total).zeros_like(total) if dy is None else dy
        return kernels.normalize_backward(dtotal, dy, saved)

    both = record_many(name, [total, y], (x, branch, weight, bias), backward)
    return both[0], both[1]


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
