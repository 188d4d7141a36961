"""Multi-head attention as a layer: of a sequence to itself, to a memory, or of any queries to any keys and values."""

from __future__ import annotations

import numpy as np

from nn import init
from nn.cache import KVCache
from nn.layers import Linear
from nn.module import Module, Parameter
from tinytensor import Tensor, backend, ops
from tinytensor.ops.attention import unpack_heads

KeysValues = tuple[Tensor, Tensor]  # (B, H, S, D) each


class Attention(Module):
    """softmax(q k^T * scale + bias, where masked -inf) v, for H heads of width D side by side, then one more product.

        layer(x)                     every position of x (B, T, C) looks at x; with causal=True only at itself and
                                     earlier ones, with a window only at the last so many of those
        layer(x, cache=cache)        x follows what the cache holds, and looks at that and at itself (no gradient)
        layer(x, memory=kv)          x looks at a memory; kv = layer.keys_values(memory) is made once and can be kept
        layer.attend(q, kv)          what is common to all: queries of one stream, keys and values of another

    A layer that looks at itself makes all three by one product: `qkv.weight` is (3 H D, C), the rows of q, then k, then
    v. With a memory_width M there are two: `q.weight` (H D, C) and `kv.weight` (2 H D, M), the rows of k, then v.

    head_width: D, if not C / H.   scale: 1/sqrt(D) by default.   dropout: on the probabilities, in training.
    recompute: find the probabilities again in backward instead of keeping them; memory then grows with T, not T^2.
    biased: the calls bring a bias with numbers for every head, so the heads are no longer alike: those that pruning
    leaves must know which they were (`kept_heads`).   query_init: the first weights of q, if other than weight_init.

    In a call, mask: booleans, True where attention is allowed: (B, S) for padding among the keys, (B, T, S), or any
    four axes that broadcast to (B, H, T, S).   bias: added to the scores, broadcast to (B, H, T, S); it has a gradient.
    """

    def __init__(
        self, width: int, heads: int, *, head_width: int | None = None, memory_width: int | None = None,
        causal: bool = False, window: int | None = None, scale: float | None = None, bias: bool = True,
        biased: bool = False, dropout: float = 0.0, recompute: bool = False,
        weight_init: init.Initializer = init.normal(0.02), query_init: init.Initializer | None = None,
        output_init: init.Initializer = init.normal(0.02),
    ):  # fmt: skip
        if head_width is None:
            check_heads(width, heads)
        self.heads, self.head_width = heads, head_width or width // heads
        self.causal, self.window, self.scale = causal, window, scale
        self.dropout, self.recompute = dropout, recompute
        self.biased, self.kept_heads = biased, None
        inner = heads * self.head_width
        self.qkv = self.q = self.kv = None
        if memory_width is None:
            first = init.stacked(query_init, weight_init, weight_init) if query_init else weight_init
            self.qkv = Linear(width, 3 * inner, bias, first)
        else:
            self.q = Linear(width, inner, bias, query_init or weight_init)
            self.kv = Linear(memory_width, 2 * inner, bias, weight_init)
        self.out = Linear(inner, width, bias, output_init)

    def __call__(
        self, x: Tensor, mask=None, bias: Tensor | None = None, cache: KVCache | None = None,
        memory: KeysValues | None = None,
    ) -> Tensor:  # fmt: skip
        """(B, T, C) -> (B, T, C)"""
        if memory is not None:
            return self.attend(self.queries(x), memory, mask, bias)
        qkv = self.qkv(x)  # (B, T, 3 H D)
        if cache is None:
            return self.out(ops.self_attention(qkv, self.heads, **self._how(mask, bias)))
        q, k, v = unpack_heads(qkv.data, 3, self.heads)
        keys, values = cache.append(k, v)
        return self.attend(Tensor(q), (Tensor(keys), Tensor(values)), mask, bias)

    def queries(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, H, T, D)"""
        return split_heads(self.qkv(x).split(3)[0] if self.q is None else self.q(x), self.heads)

    def keys_values(self, x: Tensor) -> KeysValues:
        """(B, S, C or M) -> (B, H, S, D) each"""
        k, v = self.qkv(x).split(3)[1:] if self.kv is None else self.kv(x).split(2)
        return split_heads(k, self.heads), split_heads(v, self.heads)

    def attend(self, queries: Tensor, keys_values: KeysValues, mask=None, bias: Tensor | None = None) -> Tensor:
        """What queries (B, H, T, D) find at keys and values (B, H, S, D): (B, T, C)."""
        return self.out(merge_heads(ops.attention(queries, *keys_values, **self._how(mask, bias))))

    def _how(self, mask, bias: Tensor | None) -> dict:
        """The keywords of ops.attention."""
        if mask is not None and mask.ndim < 4:
            mask = mask[:, None, None] if mask.ndim == 2 else mask[:, None]
        if bias is not None and self.kept_heads is not None:
            bias = bias[self.kept_heads.data]
        drop = self.dropout if self.training else 0.0
        return dict(
            causal=self.causal, window=self.window, mask=mask, bias=bias,
            scale=self.scale, dropout=drop, recompute=self.recompute,
        )  # fmt: skip

    def keep_heads(self, kept: np.ndarray) -> None:
        """Note that only the heads numbered `kept` are left; surgery.py cuts the matrices."""
        if self.biased:
            xp = self.out.weight.xp
            before = xp.arange(self.heads) if self.kept_heads is None else self.kept_heads.data
            self.kept_heads = Parameter(before[xp.asarray(kept)].astype(np.int32), requires_grad=False)
        self.heads = len(kept)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, H * D) -> (B, H, T, D)"""
    B, T, C = x.shape
    return x.reshape(B, T, heads, C // heads).swapaxes(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, T, D) -> (B, T, H * D)"""
    B, H, T, D = x.shape
    return x.swapaxes(1, 2).reshape(B, T, H * D)


def attention_mask(mask, shape: tuple[int, int], like):
    """(B, T), true on tokens -> the same as booleans beside `like`; None if nothing is padding, which saves a pass.

    shape: that of the ids, which the mask must have.   like: an array of the model; the mask goes to its device here,
    once, and not in every block. What lies on a GPU already is not looked at: that would be to wait for it.
    """
    if mask is None:
        return None
    mask = mask if backend.is_array(mask) else np.asarray(mask)
    if mask.shape != shape:
        raise ValueError(f"the mask has shape {mask.shape}, expected {shape} to match the ids")
    mask = mask.astype(bool, copy=False)
    return None if backend.device_of(mask) == "cpu" and mask.all() else backend.beside(like, mask)


def check_heads(width: int, heads: int) -> None:
    """Every head gets an equal part of the width."""
    if heads < 1:
        raise ValueError(f"heads must be at least 1, not {heads}")
    if width % heads:
        near = [n for n in range(max(heads, width - heads), width + heads + 1) if n % heads == 0]
        raise ValueError(f"width {width} is not divisible by heads {heads}; try {' or '.join(map(str, near[:2]))}")
