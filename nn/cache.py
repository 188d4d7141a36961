"""What a decoder remembers while it writes, so that a new token costs the work of one position only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from tinytensor import backend


class KVCache:
    """The keys and values of the positions already seen, for one attention layer: two arrays allocated once.

    keys, values: (B, H, capacity, D), of which the first `length` positions are filled.
    place: None, or where the next position is written, (1,), in a step that a CUDA graph repeats: all its shapes and
    addresses must be the same wherever that is, so it works on the whole arrays. See DecoderCache.writing_at.
    """

    def __init__(self, batch: int, heads: int, capacity: int, head_width: int, like):
        xp = backend.array_module(like)
        self.keys = xp.zeros((batch, heads, capacity, head_width), like.dtype)
        self.values = xp.zeros_like(self.keys)
        self.length = 0
        self.place: np.ndarray | None = None

    @property
    def capacity(self) -> int:
        return self.keys.shape[2]

    def append(self, k, v) -> tuple:
        """Store k and v, (B, H, T, D) each, behind the others; returns views of all keys and values so far."""
        if self.place is not None:
            place = backend.beside(self.keys, self.place)
            self.keys[:, :, place], self.values[:, :, place] = k, v
            return self.keys, self.values
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

    def __init__(self, layers: list[KVCache], memory: dict | None = None):
        self.layers = layers
        self.memory = memory or {}
        self.seen: np.ndarray | None = None
        self.place: np.ndarray | None = None

    @property
    def length(self) -> int:
        """How many positions have been read."""
        return self.layers[0].length

    @property
    def capacity(self) -> int:
        return self.layers[0].capacity

    def see(self, T: int, mask=None) -> np.ndarray | None:
        """Take note of T new positions, mask (B, T) False at padding (None: no padding among them).

        Returns the mask of all positions up to the last new one, (B, length + T), or None while there is no padding.
        """
        if mask is None and self.seen is None:
            return None
        if self.seen is None:
            self.seen = np.ones((len(self.layers[0].keys), self.capacity), bool)
        end = self.length + T
        if mask is not None:
            self.seen[:, self.length : end] = mask
        return self.seen[:, :end]

    @contextlib.contextmanager
    def writing_at(self, place: np.ndarray) -> Iterator[None]:
        """Inside this block a step of one token writes at `place`, (1,), and looks at whole arrays, masked behind it.

        `length` stays as it is: a repetition of the step passes by no Python.
        """
        for part in (self, *self.layers):
            part.place = place
        try:
            yield
        finally:
            for part in (self, *self.layers):
                part.place = None

    def written(self) -> np.ndarray:
        """(1, 1, 1, capacity) on the cache's device: which positions are at or before the place."""
        keys = self.layers[0].keys
        xp = backend.array_module(keys)
        return (xp.arange(self.capacity) <= backend.beside(keys, self.place))[None, None, None]

    def advance(self) -> None:
        """A token was written by a step that was repeated."""
        for layer in self.layers:
            layer.length += 1

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


def positions_of(mask: np.ndarray) -> np.ndarray:
    """mask (B, T), False at padding -> each token's position in its own text, 0 for padding."""
    return np.maximum(np.cumsum(mask, axis=1) - 1, 0)
