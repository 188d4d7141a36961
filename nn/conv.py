"""ELMo's layers: convolutions that read words by their characters, highways above them, and the mix a task learns."""

import math
from collections.abc import Sequence

from nn import init
from nn.layers import Dropout, Linear
from nn.module import Module, Parameter
from tinytensor import Tensor, ops

PLAIN = dict(stride=1, padding=0, dilation=1, groups=1)  # what ops.conv1d_max does in one go


class Conv1d(Module):
    """x (N, T, inputs) -> (N, T - width + 1, outputs), a window of `width` places at a time.

    The weight is (outputs, inputs / groups, width), as torch.nn.Conv1d's; x has its channels last.
    stride, padding, dilation, groups: see ops.conv1d.
    """

    def __init__(self, inputs: int, outputs: int, width: int, bias: bool = True, weight_init=None, *, stride: int = 1,
                 padding: int | str = 0, dilation: int = 1, groups: int = 1):
        if groups < 1 or inputs % groups or outputs % groups:
            raise ValueError(f"{inputs} inputs and {outputs} outputs do not divide into {groups} groups")
        weight_init = weight_init or init.uniform(1 / math.sqrt(inputs // groups * width))
        self.weight = Parameter.make((outputs, inputs // groups, width), weight_init)
        self.bias = Parameter.make((outputs,), init.zeros) if bias else None
        self.how = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)

    def __call__(self, x: Tensor) -> Tensor:
        return ops.conv1d(x, self.weight, self.bias, **self.how)

    def max_over_time(self, x: Tensor) -> Tensor:
        """(N, outputs): the largest answer over all places."""
        if self.how != PLAIN:
            return self(x).max(axis=1)
        return ops.conv1d_max(x, self.weight, self.bias)


class CharacterConvolutions(Module):
    """Words as (N, characters, inputs) -> (N, sum of all counts): which pieces of 1, 2, 3, ... characters they hold.

    filters: (width, count) pairs. Each width's convolution is followed by the maximum over all places and then the
    activation, "relu" or "tanh", which leaves the order of values alone and so may come last.
    The weights start as in ELMo's published code.
    """

    def __init__(self, inputs: int, filters: Sequence[tuple[int, int]], activation: str = "relu"):
        known = {"relu": ops.relu, "tanh": ops.tanh}
        if activation not in known:
            raise ValueError(f"unknown activation {activation!r}; choose relu or tanh")
        first = lambda width: init.uniform(0.05) if activation == "relu" else init.normal(1 / math.sqrt(inputs * width))
        self.convolutions = [Conv1d(inputs, count, width, weight_init=first(width)) for width, count in filters]
        self.activation = known[activation]

    def __call__(self, x: Tensor) -> Tensor:
        return self.activation(ops.concatenate([conv.max_over_time(x) for conv in self.convolutions], axis=-1))


class Highway(Module):
    """y = gate * relu(transform(x)) + (1 - gate) * x,   gate = sigmoid(carry(x))   (Srivastava et al. 2015)

    x: (..., width) -> (..., width). The gate's bias starts at -2: at first the layer lets nearly everything pass.
    """

    def __init__(self, width: int):
        weights = init.normal(1 / math.sqrt(width))
        self.carry = Linear(width, width, weight_init=weights)
        self.transform = Linear(width, width, weight_init=weights)
        self.carry.bias = Parameter.make((width,), lambda shape: init.ones(shape) * -2)

    def __call__(self, x: Tensor) -> Tensor:
        gate = self.carry(x).sigmoid()
        return x + gate * (self.transform(x).relu() - x)


class ScalarMix(Module):
    """y = gamma * sum over k of softmax(weights)_k * layers[k],   then dropout (Peters et al. 2018, section 3.2).

    Several layers' vectors for the same words, weighed by a task.

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
