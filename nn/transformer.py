"""The transformer block: attention, then a feed-forward network, each added to a residual stream and normalized.

Vaswani et al. 2017 (arXiv:1706.03762) normalize after each addition (post-norm: GPT-1, BERT); GPT-2 and nearly all
since normalize what goes into each branch (pre-norm), which trains more stably because the stream is never rescaled.
"""

from collections.abc import Callable, Iterable
from typing import Self

from nn import init
from nn.attention import Attention, KeysValues, KVCache
from nn.layers import ACTIVATIONS, Dropout, LayerNorm, Linear, RMSNorm
from nn.module import Module
from tinytensor import Tensor, ops

Norm = LayerNorm | RMSNorm


class Stream:
    """The residual stream, (B, T, C): x + dropout(branch), where the share `dropout` is dropped.

    Adding and normalizing are one fused pass over memory, so the sum is put off until a norm reads it. Nobody need
    know: a Stream means the sum, before and after, and `add` makes a new one.   loads: see nn/experts.py.
    """

    __slots__ = ("_branch", "_dropout", "_x", "loads")

    def __init__(self, x: Tensor, branch: Tensor | None = None, dropout: float = 0.0, loads: list | None = None):
        self._x, self._branch, self._dropout, self.loads = x, branch, dropout, loads

    def add(self, branch: Tensor, dropout: Dropout) -> Self:
        return Stream(self.full, branch, dropout.p if dropout.training else 0.0, self.loads)

    def normalized(self, norm: Norm) -> Tensor:
        """norm(x + dropout(branch))"""
        if self._branch is None:
            return norm(self._x)
        self._x, y = norm.add(self._x, self._branch, self._dropout)
        self._branch = None
        return y

    @property
    def full(self) -> Tensor:
        """The sum itself."""
        if self._branch is not None:
            self._x, self._branch = self._x + ops.dropout(self._branch, self._dropout), None
        return self._x


class FeedForward(Module):
    """out(activation(into(x))), or gated out(activation(gate(x)) * into(x)); position by position.

    x: (..., C) -> (..., C) through a wider (..., F).   dropout: before `out`.   Gated: Shazeer 2020, arXiv:2002.05202.
    """

    def __init__(self, width: int, hidden: int, *, activation: str = "gelu", gated: bool = False, bias: bool = True,
                 dropout: float = 0.0, weight_init: init.Initializer = init.normal(0.02),
                 output_init: init.Initializer = init.normal(0.02)):
        if activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {activation!r}; choose from {', '.join(ACTIVATIONS)}")
        self.gate = Linear(width, hidden, bias, weight_init) if gated else None
        self.into = Linear(width, hidden, bias, weight_init)
        self.activation = ACTIVATIONS[activation]
        self.dropout = Dropout(dropout)
        self.out = Linear(hidden, width, bias, output_init)

    def __call__(self, x: Tensor) -> Tensor:
        h = (self.gate or self.into).activated(x, self.activation)
        return self.out(self.dropout(h * self.into(x) if self.gate else h))


class Block(Module):
    """One layer of a transformer: attention, in a decoder that reads a source cross-attention, a feed-forward network.

    pre-norm:    x = x + attention(norm1(x));   x = x + cross(cross_norm(x));   x = x + feed_forward(norm2(x))
    post_norm:   x = norm1(x + attention(x));   x = cross_norm(x + cross(x));   x = norm2(x + feed_forward(x))

    norm: makes one of the norms.   dropout: on each branch (dropout1: attention's, dropout2: the network's).
    """

    def __init__(self, attention: Attention, feed_forward: Module, norm: Callable[[], Norm], *,
                 cross: Attention | None = None, dropout: float = 0.0, post_norm: bool = False):
        self.post_norm = post_norm
        norms = norm(), norm() if cross else None, norm()
        # In the order in which they compute: the saved state of an optimizer has its parameters in this order.
        if post_norm:
            self.attention, self.norm1 = attention, norms[0]
            self.cross, self.cross_norm = cross, norms[1]
            self.feed_forward, self.norm2 = feed_forward, norms[2]
        else:
            self.norm1, self.attention = norms[0], attention
            self.cross_norm, self.cross = norms[1], cross
            self.norm2, self.feed_forward = norms[2], feed_forward
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)

    def __call__(self, x: Stream, mask=None, bias: Tensor | None = None, cache: KVCache | None = None,
                 memory: KeysValues | None = None, memory_mask=None) -> Stream:
        """mask, bias, cache: of the attention to x itself.   memory, memory_mask: of the attention to a source."""
        y = self.attention(self._read(x, self.norm1), mask, bias, cache)
        x = self._add(x, y, self.norm1, self.dropout1)
        if self.cross is not None:
            y = self.cross(self._read(x, self.cross_norm), memory_mask, memory=memory)
            x = self._add(x, y, self.cross_norm, self.dropout1)
        return self._network(x)

    def _network(self, x: Stream) -> Stream:
        return self._add(x, self.feed_forward(self._read(x, self.norm2)), self.norm2, self.dropout2)

    def _read(self, x: Stream, norm: Norm) -> Tensor:
        return x.full if self.post_norm else x.normalized(norm)

    def _add(self, x: Stream, branch: Tensor, norm: Norm, dropout: Dropout) -> Stream:
        x = x.add(branch, dropout)
        return Stream(x.normalized(norm), loads=x.loads) if self.post_norm else x


class Blocks(list):
    """The blocks of a stack, each reading what the one before it wrote; pruning may take some out.

    counted_by: the field of the model's config that says how many they are.
    """

    def __init__(self, blocks: Iterable[Module], counted_by: str = "layers"):
        super().__init__(blocks)
        self.counted_by = counted_by
