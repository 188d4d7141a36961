"""The scalar mix: several layers' vectors for the same words, weighed by a task (Peters et al. 2018, section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

from nn import init
from nn.layers import Dropout
from nn.module import Module, Parameter
from tinytensor import Tensor, ops


class ScalarMix(Module):
    """y = gamma * sum over k of softmax(weights)_k * layers[k],   then dropout.

    layer_norm: first bring each layer to mean 0 and variance 1 over all elements of the batch that are not padding.
    l2: `penalty()` is l2 * sum(weights^2), to be added to a task's loss; a large l2 (1) keeps the mix near the plain
    average, a small one (0.001) lets the task choose.
    """

    def __init__(self, layers: int, *, layer_norm: bool = False, dropout: float = 0.0, l2: float = 0.0):
        self.weights = Parameter.make((layers,), init.zeros)
        self.gamma = Parameter.make((1,), init.ones)
        self.layer_norm, self.l2 = layer_norm, l2
        self.dropout = Dropout(dropout)

    def __call__(self, layers: Sequence[Tensor], mask=None) -> Tensor:
        """layers: each (B, T, C); mask: (B, T) booleans, False on padding.  Returns (B, T, C), 0 on padding."""
        if len(layers) != len(self.weights):
            raise ValueError(f"ScalarMix: {len(layers)} layers were given, expected {len(self.weights)}")
        shares = self.weights.softmax()
        layers = [masked_norm(layer, mask) for layer in layers] if self.layer_norm else layers
        mixed = layers[0] * shares[0]
        for k, layer in enumerate(layers[1:], start=1):
            mixed = mixed + layer * shares[k]
        mixed = mixed * self.gamma
        if mask is not None:
            mixed = mixed * mask[:, :, None].astype(mixed.dtype)
        return self.dropout(mixed)

    def penalty(self) -> Tensor:
        return (self.weights * self.weights).sum() * self.l2


def masked_norm(x: Tensor, mask=None, eps: float = 1e-12) -> Tensor:
    """(x - mean) / sqrt(var + eps), with one mean and variance over all of x (B, T, C) where mask (B, T) is True.

    ELMo's layer norm differs from the usual one, whose mean is each position's own.
    """
    if mask is None:
        mask = x.xp.ones(x.shape[:2], bool)
    weights = mask[:, :, None].astype(x.dtype)
    count = max(1, int(mask.sum()) * x.shape[2])
    centred = (x - (x * weights).sum() / count) * weights
    variance = (centred * centred).sum() / count
    return centred / ops.sqrt(variance + eps)
