"""Linear: every output is a weighted sum of all inputs. And the activations that may follow."""

from __future__ import annotations

from collections.abc import Callable

from nn import init
from nn.module import Module, Parameter
from tinytensor import Tensor, ops

Activation = Callable[[Tensor], Tensor]


def gelu_tanh(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """The tanh form of GELU, as in GPT-2's published weights (`gelu_new` in Hugging Face's configs)."""
    return ops.gelu(x, approximate=True, bias=bias)


ACTIVATIONS: dict[str, Activation] = {"gelu": ops.gelu, "gelu_tanh": gelu_tanh, "relu": ops.relu, "silu": ops.silu}
TAKES_BIAS = (ops.gelu, gelu_tanh)


class Linear(Module):
    """y = x @ weight^T + bias.   x: (..., inputs) -> (..., outputs); weight: (outputs, inputs), as in PyTorch."""

    def __init__(self, inputs: int, outputs: int, bias: bool = True, weight_init: init.Initializer = init.normal(0.02)):
        self.weight = Parameter.make((outputs, inputs), weight_init)
        self.bias = Parameter.make((outputs,), init.zeros) if bias else None

    def __call__(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.weight, self.bias)

    def activated(self, x: Tensor, activation: Activation) -> Tensor:
        """activation(self(x)), the bias being added on the way through the activation, if that can."""
        if self.bias is None or activation not in TAKES_BIAS:
            return super().activated(x, activation)
        return activation(ops.linear(x, self.weight), bias=self.bias)
