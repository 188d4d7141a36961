"""LayerNorm and RMSNorm: normalize each position, then scale (and shift) by learned amounts."""

from __future__ import annotations

from nn import init
from nn.dropout import Dropout
from nn.module import Module, Parameter
from tinytensor import Tensor, ops


class LayerNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axis, of length `width` (Ba, Kiros & Hinton 2016)."""

    def __init__(self, width: int, bias: bool = True, eps: float = 1e-5):
        self.weight = Parameter.make((width,), init.ones)
        self.bias = Parameter.make((width,), init.zeros) if bias else None
        self.eps = eps

    def __call__(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.weight, self.bias, self.eps)

    def add(self, x: Tensor, branch: Tensor | None, dropout: Dropout | None = None) -> tuple[Tensor, Tensor]:
        """(x + dropout(branch), its normalization), fused; the branch may be None, adding nothing."""
        if branch is None:
            return x, self(x)
        return ops.add_layer_norm(x, branch, self.weight, self.bias, self.eps, share_of(dropout))


class RMSNorm(Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, of length `width` (Zhang & Sennrich 2019)."""

    def __init__(self, width: int, eps: float = 1e-6):
        self.weight = Parameter.make((width,), init.ones)
        self.eps = eps

    def __call__(self, x: Tensor) -> Tensor:
        return ops.rms_norm(x, self.weight, self.eps)

    def add(self, x: Tensor, branch: Tensor | None, dropout: Dropout | None = None) -> tuple[Tensor, Tensor]:
        """(x + dropout(branch), its normalization), fused; the branch may be None, adding nothing."""
        if branch is None:
            return x, self(x)
        return ops.add_rms_norm(x, branch, self.weight, self.eps, share_of(dropout))


def share_of(dropout: Dropout | None) -> float:
    """What a dropout layer drops now: nothing in evaluation."""
    return dropout.p if dropout is not None and dropout.training else 0.0
