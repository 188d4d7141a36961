"""Layers that read words by their characters: convolutions of several widths, and the highways above them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nn import init
from nn.layers import Linear
from nn.module import Module, Parameter
from tinytensor import Tensor, ops


class Conv1d(Module):
    """x (N, T, inputs) -> (N, T - width + 1, outputs), a window of `width` places at a time.

    The weight is (outputs, inputs, width), as torch.nn.Conv1d's; x has its channels last.
    """

    def __init__(self, inputs: int, outputs: int, width: int, bias: bool = True, weight_init=None):
        weight_init = weight_init or init.uniform(1 / math.sqrt(inputs * width))
        self.weight = Parameter.make((outputs, inputs, width), weight_init)
        self.bias = Parameter.make((outputs,), init.zeros) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        return ops.conv1d(x, self.weight, self.bias)

    def max_over_time(self, x: Tensor) -> Tensor:
        """(N, outputs): the largest answer over all places."""
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
