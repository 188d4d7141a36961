"""The transformer block: attention, then a feed-forward network, each added to a residual stream and normalized.

Vaswani et al. 2017 (arXiv:1706.03762) normalize after each addition (post-norm: GPT-1, BERT); GPT-2 and nearly all
since normalize what goes into each branch (pre-norm), which trains more stably because the stream is never rescaled.
"""

from __future__ import annotations

from collections.abc import Callable

from nn import init
from nn.attention import SelfAttention
from nn.cache import KVCache
from nn.dropout import Dropout
from nn.linear import Linear
from nn.module import Module
from nn.norm import LayerNorm
from tinytensor import Tensor, ops

Activation = Callable[[Tensor], Tensor]


def gelu_tanh(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """The tanh form of GELU, as in GPT-2's published weights (`gelu_new` in Hugging Face's configs)."""
    return ops.gelu(x, approximate=True, bias=bias)


ACTIVATIONS: dict[str, Activation] = {"gelu": ops.gelu, "gelu_tanh": gelu_tanh, "relu": ops.relu, "silu": ops.silu}
TAKES_BIAS = (ops.gelu, gelu_tanh)


class FeedForward(Module):
    """out(activation(into(x))), position by position.   x: (..., C) -> (..., C) through a wider (..., F)."""

    def __init__(
        self,
        width: int,
        hidden: int,
        *,
        activation: str = "gelu",
        bias: bool = True,
        weight_init: init.Initializer = init.normal(0.02),
        output_init: init.Initializer = init.normal(0.02),
    ):
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}; choose from {', '.join(ACTIVATIONS)}")
        self.into = Linear(width, hidden, bias, weight_init)
        self.activation = ACTIVATIONS[activation]
        self.out = Linear(hidden, width, bias, output_init)

    def __call__(self, x: Tensor) -> Tensor:
        into = self.into
        if x.device == "cuda" and type(into) is Linear and into.bias is not None and self.activation in TAKES_BIAS:
            # A pass over memory is what a GPU waits for: the bias is added on the way through the activation.
            return self.out(self.activation(ops.linear(x, into.weight), bias=into.bias))
        return self.out(self.activation(into(x)))


class PreNormBlock(Module):
    """GPT-2's block:   x = x + attention(norm1(x));   x = x + feed_forward(norm2(x)),   with dropout on each branch.

    Adding a branch to the stream and normalizing the sum are one fused step, so a block leaves its last branch for
    the next block (or the final norm) to add:   x, branch = block(x, branch);  in the end  x, y = norm.add(x, branch).
    x, branch: (B, T, C); the first branch is None.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        hidden: int | None = None,
        causal: bool = False,
        window: int | None = None,
        activation: str = "gelu",
        bias: bool = True,
        dropout: float = 0.0,
        recompute: bool = False,
        eps: float = 1e-5,
        weight_init: init.Initializer = init.normal(0.02),
        output_init: init.Initializer = init.normal(0.02),
    ):
        first = dict(bias=bias, weight_init=weight_init, output_init=output_init)
        how = dict(causal=causal, window=window, dropout=dropout, recompute=recompute)
        self.norm1 = LayerNorm(width, bias, eps)
        self.attention = SelfAttention(width, heads, **how, **first)
        self.norm2 = LayerNorm(width, bias, eps)
        self.feed_forward = FeedForward(width, hidden or 4 * width, activation=activation, **first)
        self.dropout = Dropout(dropout)

    def __call__(self, x: Tensor, branch: Tensor | None, mask=None, cache: KVCache | None = None):
        x, y = self.norm1.add(x, branch)
        x, y = self.norm2.add(x, self.attention(y, mask, cache), self.dropout)
        return x, self.dropout(self.feed_forward(y))


class PostNormBlock(Module):
    """The first transformers' block:   x = norm1(x + attention(x));   x = norm2(x + feed_forward(x)).

    x: (B, T, C) -> (B, T, C), with dropout on each branch, and on the attention probabilities (as much by default).
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        hidden: int | None = None,
        causal: bool = False,
        window: int | None = None,
        activation: str = "gelu",
        bias: bool = True,
        dropout: float = 0.0,
        attention_dropout: float | None = None,
        recompute: bool = False,
        eps: float = 1e-5,
        weight_init: init.Initializer = init.normal(0.02),
        output_init: init.Initializer = init.normal(0.02),
    ):
        first = dict(bias=bias, weight_init=weight_init, output_init=output_init)
        attention_dropout = dropout if attention_dropout is None else attention_dropout
        how = dict(causal=causal, window=window, dropout=attention_dropout, recompute=recompute)
        self.attention = SelfAttention(width, heads, **how, **first)
        self.dropout1 = Dropout(dropout)
        self.norm1 = LayerNorm(width, bias, eps)
        self.feed_forward = FeedForward(width, hidden or 4 * width, activation=activation, **first)
        self.dropout2 = Dropout(dropout)
        self.norm2 = LayerNorm(width, bias, eps)

    def __call__(self, x: Tensor, mask=None, cache: KVCache | None = None) -> Tensor:
        _, x = self.norm1.add(x, self.attention(x, mask, cache), self.dropout1)
        _, x = self.norm2.add(x, self.feed_forward(x), self.dropout2)
        return x
