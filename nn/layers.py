"""The basic layers: Linear and the activations that may follow it, Embedding, Dropout, LayerNorm and RMSNorm."""

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


class Embedding(Module):
    """A learned vector for each token: ids (...), or a slice, -> (..., width), row `id` of `weight` (rows, width).

    padding_idx: the row that begins as zeros and does not learn.
    """

    def __init__(self, rows: int, width: int, weight_init: init.Initializer = init.normal(0.02),
                 padding_idx: int | None = None):
        if padding_idx is not None and not -rows <= padding_idx < rows:
            raise ValueError(f"padding_idx {padding_idx} is outside the table of {rows} rows")
        self.weight, self.padding_idx = Parameter.make((rows, width), weight_init), padding_idx
        if padding_idx is not None and self.weight.data.strides[0]:  # 0 under shapes_only()
            self.weight.data[padding_idx] = 0

    def __call__(self, ids) -> Tensor:
        return self.weight[ids] if isinstance(ids, slice) else ops.embedding(self.weight, ids, self.padding_idx)


class Dropout(Module):
    """Drop each value with probability p while training, scaling the others by 1 / (1 - p) (Srivastava et al. 2014)."""

    def __init__(self, p: float):
        if not 0 <= p < 1:
            raise ValueError(f"dropout {p} is not a share in [0, 1)")
        self.p = p

    def __call__(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p) if self.training else x


class LayerNorm(Module):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last axis, of length `width` (Ba, Kiros & Hinton 2016).

    width: or the lengths of several axes, over all of which is normalized.
    """

    def __init__(self, width: int | tuple[int, ...], bias: bool = True, eps: float = 1e-5):
        self.weight = Parameter.make(width, init.ones)
        self.bias = Parameter.make(width, init.zeros) if bias else None
        self.eps = eps

    def __call__(self, x: Tensor) -> Tensor:
        return ops.layer_norm(x, self.weight, self.bias, self.eps)

    def add(self, x: Tensor, branch: Tensor, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
        """(x + dropout(branch), its normalization), fused."""
        return ops.add_layer_norm(x, branch, self.weight, self.bias, self.eps, dropout)


class RMSNorm(Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last axis, of length `width` (Zhang & Sennrich 2019), or several."""

    def __init__(self, width: int | tuple[int, ...], eps: float = 1e-6):
        self.weight = Parameter.make(width, init.ones)
        self.eps = eps

    def __call__(self, x: Tensor) -> Tensor:
        return ops.rms_norm(x, self.weight, self.eps)

    def add(self, x: Tensor, branch: Tensor, dropout: float = 0.0) -> tuple[Tensor, Tensor]:
        """(x + dropout(branch), its normalization), fused."""
        return ops.add_rms_norm(x, branch, self.weight, self.eps, dropout)
