"""What a decoder remembers while it writes, so that a new token costs the work of one position only.

A model asks it where new tokens stand and what they see (`look`, `span`), and of each layer to `append` their keys and
values behind the rest. What a CUDA graph has in its place answers the same (StaticCache, models/generate/graph.py).
"""

from __future__ import annotations

import numpy as np

from tinytensor import backend


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
        """Go on with these rows of the batch, in this order; a row may come several times or not at all."""
        self.keys, self.values = (_rows(array, rows, self.length) for array in (self.keys, self.values))


def _rows(array, rows, length: int):
    """array[rows], of which only the first `length` positions matter; in place where the batch keeps its size."""
    xp = backend.array_module(array)
    chosen = array[xp.asarray(rows), :, :length]
    if len(rows) != len(array):
        array = xp.zeros((len(rows), *array.shape[1:]), array.dtype)
    array[:, :, :length] = chosen
    return array


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

    @property
    def capacity(self) -> int:
        return self.layers[0].capacity

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
            self.seen = np.ones((len(self.layers[0].keys), self.capacity), bool)
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
