"""Linear: every output is a weighted sum of all inputs."""

from __future__ import annotations

from nn import init
from nn.module import Module, Parameter
from tinytensor import Tensor, ops


class Linear(Module):
    """y = x @ weight^T + bias.   x: (..., inputs) -> (..., outputs); weight: (outputs, inputs), as in PyTorch."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True, weight_init: init.Initializer = init.normal(0.02)):
        self.weight = Parameter.make((outputs, inputs), weight_init)
        self.bias = Parameter.make((outputs,), init.zeros) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)
