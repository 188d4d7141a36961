"""Multi-head attention as a layer: of a sequence to itself, to a memory, or of any queries to any keys and values.

And what it remembers in a decoder that writes, so that a new token costs the work of one position only. A model asks
its DecoderCache where new tokens stand and what they see (`look`, `span`), and each layer's KVCache to `append` their
keys and values behind the rest. What a CUDA graph has instead answers the same (models/generate/graph.py).
"""

from __future__ import annotations

import numpy as np

from nn import init
from nn.layers import Linear
from nn.module import Module
from nn.rotary import Rotary, group_size, grouped_attention
from tinytensor import Tensor, backend, ops
from tinytensor.ops.attention import unpack_heads

KeysValues = tuple[Tensor, Tensor]  # (B, H, S, D) each


class Attention(Module):
    """softmax(q k^T * scale + bias, where masked -inf) v, for H heads of width D side by side, then one more product.

        layer(x)                     every position of x (B, T, C) looks at x; with causal=True only at itself and
                                     earlier ones, with a window only at the last so many of those
        layer(x, cache=cache)        x follows what the cache holds, and looks at that and at itself (no gradient)
        layer(x, memory=m)           x looks at a memory m (B, S, M); or kv = layer.keys_values(m) is made once and kept
        layer.attend(q, kv)          what is common to all: queries of one stream, keys and values of another

    A layer that looks at itself makes all three by one product: `qkv.weight` is (3 H D, C), the rows of q, then k, then
    v. With a memory_width M there are two: `q.weight` (H D, C) and `kv.weight` (2 H D, M), the rows of k, then v.

    kv_heads: G, if fewer than H have keys and values of their own, each for H / G heads in a row; qkv.weight is then
    ((H + 2 G) D, C).   rotary: a Rotary, which tells q and k their positions (nn/rotary.py has both).
    head_width: D, if not C / H.   scale: 1/sqrt(D) by default.   dropout: on the probabilities, in training.
    recompute: find the probabilities again in backward instead of keeping them; memory then grows with T, not T^2.
    biased: the calls bring a bias with numbers for every head, so the heads are no longer alike: those that pruning
    leaves must know which they were (`kept_heads`).   query_init: the first weights of q, if other than weight_init.

    In a call, mask: booleans, True where attention is allowed: (B, S) for padding among the keys, (B, T, S), or any
    four axes that broadcast to (B, H, T, S).   bias: added to the scores, broadcast to (B, H, T, S); it has a gradient.
    """

    def __init__(self, width: int, heads: int, *, head_width: int | None = None, memory_width: int | None = None,
                 kv_heads: int | None = None, rotary: Rotary | None = None, causal: bool = False,
                 window: int | None = None, scale: float | None = None, bias: bool = True, biased: bool = False,
                 dropout: float = 0.0, recompute: bool = False,
                 weight_init: init.Initializer = init.normal(0.02), query_init: init.Initializer | None = None,
                 output_init: init.Initializer = init.normal(0.02)):
        if head_width is None:
            check_heads(width, heads)
        self.heads, self.head_width = heads, head_width or width // heads
        self.causal, self.window, self.scale = causal, window, scale
        self.dropout, self.recompute = dropout, recompute
        self.biased, self.kept_heads = biased, None
        self.groups = 1 if kv_heads is None else group_size(heads, kv_heads, query_init)
        self.rotary, self.memory = rotary, None  # or another class than KVCache, see nn/narrow.py
        inner, shared = heads * self.head_width, 2 * self.kv_heads * self.head_width
        self.qkv = self.q = self.kv = None
        if memory_width is None:
            first = init.stacked(query_init, weight_init, weight_init) if query_init else weight_init
            self.qkv = Linear(width, inner + shared, bias, first)
        else:
            self.q = Linear(width, inner, bias, query_init or weight_init)
            self.kv = Linear(memory_width, shared, bias, weight_init)
        self.out = Linear(inner, width, bias, output_init)

    @property
    def kv_heads(self) -> int:
        """G"""
        return self.heads // self.groups

    def __call__(self, x: Tensor, mask=None, bias: Tensor | None = None, cache: KVCache | None = None,
                 memory: KeysValues | Tensor | None = None) -> Tensor:
        """(B, T, C) -> (B, T, C)"""
        if memory is not None:
            memory = self.keys_values(memory) if isinstance(memory, Tensor) else memory
            return self.attend(self.queries(x), memory, mask, bias)
        qkv, plain = self.qkv(x), self.groups == 1 and self.rotary is None  # (B, T, 3 H D)
        if cache is None and plain:
            return self.out(ops.self_attention(qkv, self.heads, **self._how(mask, bias)))
        if plain:
            q, k, v = map(Tensor, unpack_heads(qkv.data, 3, self.heads))
        else:
            q, k, v = self._split(qkv, cache)
        if cache is not None:
            k, v = map(Tensor, cache.append(k.data, v.data))
        return self.attend(q, (k, v), mask, bias)

    def queries(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, H, T, D), at the positions 0, 1, ... where they are rotary"""
        return self._turned(split_heads(self.q(x), self.heads)) if self.q else self._split(self.qkv(x))[0]

    def keys_values(self, x: Tensor, values: Tensor | None = None) -> KeysValues:
        """(B, S, C or M) -> (B, G, S, D) each.   values: of the same shape, where v is made of others than k"""
        of = lambda x: self._split((self.kv or self.qkv)(x))[-2:]
        k, v = of(x)
        return k, v if values is None else of(values)[1]

    def attend(self, queries: Tensor, keys_values: KeysValues, mask=None, bias: Tensor | None = None) -> Tensor:
        """What queries (B, H, T, D) find at keys and values (B, G, S, D): (B, T, C)."""
        attention = ops.attention if self.groups == 1 else grouped_attention
        return self.out(merge_heads(attention(queries, *keys_values, **self._how(mask, bias, queries))))

    def _split(self, product: Tensor, cache: KVCache | None = None) -> list[Tensor]:
        """[q, k, v] of a product of `qkv`, [k, v] of one of `kv`, (B, H or G, T, D) each."""
        counts = [self.heads, self.kv_heads, self.kv_heads][0 if self.kv is None else 1 :]
        parts = product.split([count * self.head_width for count in counts], -1)
        parts = [split_heads(part, count) for part, count in zip(parts, counts)]
        return [*(self._turned(part, cache) for part in parts[:-1]), parts[-1]]

    def _turned(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        """Queries or keys as their positions, behind the cached ones, turn them."""
        if self.rotary is None:
            return x
        T = x.shape[2]
        return self.rotary(x, *((slice(T), T) if cache is None else (cache.next(T), cache.capacity)))

    def new_cache(self, batch: int, capacity: int, like) -> KVCache:
        """Empty memory for the keys and values of `capacity` positions, as an array beside `like`."""
        return (self.memory or KVCache)(batch, self.kv_heads, capacity, self.head_width, like)

    def _how(self, mask, bias: Tensor | None, queries: Tensor | None = None) -> dict:
        """The keywords of ops.attention; queries: (B, H, T, D), for a layer whose bias hangs on them."""
        if mask is not None and mask.ndim < 4:
            mask = mask[:, None, None] if mask.ndim == 2 else mask[:, None]
        if bias is not None and self.kept_heads is not None:
            bias = bias[self.kept_heads.data]
        fixed = dict(causal=self.causal, window=self.window, scale=self.scale, recompute=self.recompute)
        return dict(fixed, mask=mask, bias=bias, dropout=self.dropout if self.training else 0.0)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, H * D) -> (B, H, T, D)"""
    B, T, C = x.shape
    return x.reshape(B, T, heads, C // heads).swapaxes(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, T, D) -> (B, T, H * D)"""
    B, H, T, D = x.shape
    return x.swapaxes(1, 2).reshape(B, T, H * D)


def check_heads(width: int, heads: int) -> None:
    """Every head gets an equal part of the width."""
    if heads < 1:
        raise ValueError(f"heads must be at least 1, not {heads}")
    if width % heads:
        near = [n for n in range(max(heads, width - heads), width + heads + 1) if n % heads == 0]
        raise ValueError(f"width {width} is not divisible by heads {heads}; try {' or '.join(map(str, near[:2]))}")


class KVCache:
    """The keys and values of the positions already seen, for one attention layer: two arrays allocated once.

    keys, values: (B, H, capacity, D), of which the first `length` positions are filled.
    """

    def __init__(self, batch: int, heads: int, capacity: int, head_width: int, like):
        xp = backend.array_module(like)
        self.keys = xp.zeros((batch, heads, capacity, head_width), like.dtype)
        self.values = xp.zeros_like(self.keys)
        self.length = 0

    @property
    def capacity(self) -> int:
        return self.keys.shape[2]

    def next(self, T: int) -> slice:
        """The positions of T new tokens."""
        return slice(self.length, self.length + T)

    def append(self, k, v) -> tuple:
        """Store k and v, (B, H, T, D) each, behind the others; returns views of all keys and values so far."""
        end = self.length + k.shape[2]
        if end > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} positions and cannot take number {end}")
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def select(self, rows) -> None:
        """Go on with these rows of the batch, in this order; a row may come several times or not at all.

        In place where the batch keeps its size: a CUDA graph goes on looking there.
        """
        xp, end = backend.array_module(self.keys), self.length
        keys, values = (array[xp.asarray(rows), :, :end] for array in (self.keys, self.values))
        if len(rows) != len(self.keys):
            self.keys = xp.zeros((len(rows), *self.keys.shape[1:]), keys.dtype)
            self.values = xp.zeros_like(self.keys)
        self.keys[:, :, :end], self.values[:, :, :end] = keys, values


class DecoderCache:
    """Everything a decoder remembers of a batch of sequences.

    layers: a KVCache for each layer.   memory: what an encoder handed over, arrays by name with a row per sequence.
    Rows of unequal length are padded on the left; `seen`, (B, capacity), is then False at the padding.
    """

    place = None  # see models/generate/graph.py

    def __init__(self, layers: list[KVCache], memory: dict | None = None):
        self.layers = layers
        self.memory = memory or {}
        self.seen: np.ndarray | None = None

    @property
    def length(self) -> int:
        """How many positions have been read."""
        return self.layers[0].length

    def span(self, T: int) -> int:
        """How many keys T new positions look at, themselves included."""
        return self.length + T

    def look(self, T: int, mask=None) -> tuple:
        """Take note of T new positions, mask (B, T) False at padding (None: no padding among them).

        Returns their positions, each in its own text, a slice or (B, T), and the mask of all keys up to the last new
        one, (B, length + T), or None while there is no padding.
        """
        start, end = self.length, self.length + T
        if mask is None and self.seen is None:
            return slice(start, end), None
        if self.seen is None:
            self.seen = np.ones((len(self.layers[0].keys), self.layers[0].capacity), bool)
        self.seen[:, start:end] = True if mask is None else mask
        seen = self.seen[:, :end]
        return positions_of(seen)[:, start:], backend.beside(self.layers[0].keys, seen)

    def select(self, rows) -> DecoderCache:
        """Go on with these rows of the batch, in this order: beams that live on, or each prompt several times."""
        rows = np.asarray(rows)
        for layer in self.layers:
            layer.select(rows)
        for name, array in self.memory.items():
            chosen = array[backend.array_module(array).asarray(rows)]
            if backend.device_of(array) == "cuda" and len(rows) == len(array):
                array[...] = chosen  # where a CUDA graph goes on looking for it
            else:
                self.memory[name] = chosen
        if self.seen is not None:
            self.seen = self.seen[rows]
        return self


def positions_of(mask):
    """mask (B, T), False at padding -> each token's position in its own text, 0 for padding."""
    xp = backend.array_module(mask)
    return xp.maximum(xp.cumsum(mask, axis=1) - 1, 0)
