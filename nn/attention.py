"""Multi-head attention as a layer."""

from __future__ import annotations

import numpy as np

from nn import init
from nn.cache import KVCache
from nn.linear import Linear
from nn.module import Module
from tinytensor import Tensor, backend, ops
from tinytensor.ops.attention import unpack_heads


class SelfAttention(Module):
    """Every position attends to positions of the same sequence (causal=True: only to itself and earlier ones; with
    a window: only to the last so many of those).

    x: (B, T, C) -> (B, T, C). Queries, keys and values come from one product: `qkv.weight` is (3C, C), the rows of q,
    then k, then v.   mask: boolean, broadcast to (B, H, T, S), True where attention is allowed: (B, 1, 1, T) for
    padding. With a cache, x holds the new positions only, and they attend to all cached ones too (no gradient).
    recompute: find the probabilities again in backward instead of keeping them; memory then grows with T, not T^2.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        causal: bool = False,
        window: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        recompute: bool = False,
        weight_init: init.Initializer = init.normal(0.02),
        output_init: init.Initializer = init.normal(0.02),
    ):
        check_heads(width, heads)
        self.heads = heads
        self.causal = causal
        self.window = window
        self.dropout = dropout
        self.recompute = recompute
        self.qkv = Linear(width, 3 * width, bias, weight_init)
        self.out = Linear(width, width, bias, output_init)

    def __call__(self, x: Tensor, mask=None, cache: KVCache | None = None) -> Tensor:
        qkv = self.qkv(x)  # (B, T, 3C)
        if cache is not None:
            return self.out(self._step(qkv, mask, cache))
        dropout = self.dropout if self.training else 0.0
        how = dict(causal=self.causal, window=self.window, mask=mask)
        y = ops.self_attention(qkv, self.heads, dropout=dropout, recompute=self.recompute, **how)
        return self.out(y)

    def _step(self, qkv: Tensor, mask, cache: KVCache) -> Tensor:
        q, k, v = unpack_heads(qkv.data, 3, self.heads)  # (B, H, T, D) each
        keys, values = cache.append(k, v)
        how = dict(causal=self.causal, window=self.window, mask=mask)
        y = ops.attention(Tensor(q), Tensor(keys), Tensor(values), **how)
        return merge_heads(y)


class CrossAttention(Module):
    """Every position of one sequence attends to all positions of another, the memory.

    x: (B, T, C), memory: (B, S, M) -> (B, T, C). `kv.weight` is (2C, M), the rows of k, then v.
    mask: boolean, broadcast to (B, H, T, S): (B, 1, 1, S) for a padded memory.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        memory_width: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
        output_init: init.Initializer = init.normal(0.02),
    ):
        check_heads(width, heads)
        self.heads = heads
        self.dropout = dropout
        self.q = Linear(width, width, bias)
        self.kv = Linear(memory_width or width, 2 * width, bias)
        self.out = Linear(width, width, bias, output_init)

    def __call__(self, x: Tensor, memory: Tensor, mask=None) -> Tensor:
        q = split_heads(self.q(x), self.heads)
        k, v = (split_heads(part, self.heads) for part in self.kv(memory).split(2))
        dropout = self.dropout if self.training else 0.0
        return self.out(merge_heads(ops.attention(q, k, v, mask=mask, dropout=dropout)))


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, H * D) -> (B, H, T, D)"""
    B, T, C = x.shape
    return x.reshape(B, T, heads, C // heads).swapaxes(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, T, D) -> (B, T, H * D)"""
    B, H, T, D = x.shape
    return x.swapaxes(1, 2).reshape(B, T, H * D)


def padding_mask(lengths, T: int) -> np.ndarray:
    """(B,) lengths -> (B, 1, 1, T), True at the positions before each row's length."""
    return (np.arange(T) < np.asarray(lengths)[:, None])[:, None, None, :]


def attention_mask(mask, shape: tuple[int, int], like):
    """(B, T), true on tokens -> (B, 1, 1, T) for attention; None if nothing is padding, which saves a pass.

    shape: that of the ids, which the mask must have.   like: an array of the model; the mask goes to its device here,
    once, and not in every block.
    """
    if mask is None:
        return None
    mask = mask if hasattr(mask, "dtype") else np.asarray(mask)
    if mask.shape != shape:
        raise ValueError(f"the mask has shape {mask.shape}, expected {shape} to match the ids")
    mask = mask.astype(bool, copy=False)
    return None if not backend.repeated() and mask.all() else backend.beside(like, mask[:, None, None, :])


def check_heads(width: int, heads: int) -> None:
    """Every head gets an equal part of the width."""
    if heads < 1:
        raise ValueError(f"heads must be at least 1, not {heads}")
    if width % heads:
        near = [n for n in range(max(heads, width - heads), width + heads + 1) if n % heads == 0]
        raise ValueError(f"width {width} is not divisible by heads {heads}; try {' or '.join(map(str, near[:2]))}")
