"""The step from one token to the next on a GPU, recorded as a CUDA graph and repeated (backend/gpu/graph.py).

A repetition passes by no Python and has the same shapes and addresses at every place, so what it sees is a StaticCache.
"""

import numpy as np

from models.contract import Writer
from nn import Attention, DecoderCache, KVCache
from tinytensor import backend
from tinytensor.backend.gpu.graph import Recorded


class RecordedStep:
    """A model's `step`, which for one token is a repetition. The cache may be another one in any call."""

    def __init__(self, model: Writer, mask):
        """One sentence if this model's steps cannot be recorded in a CUDA graph."""
        if model.parameters()[0].device != "cuda":
            raise ValueError("a CUDA graph records what a GPU does; add --device cuda, or leave out --graph")
        if not model.steps_alike:
            raise ValueError(f"the steps of this {type(model).__name__} change from token to token; leave out --graph")
        if any(layer.memory for layer in model.modules() if isinstance(layer, Attention)):
            raise ValueError("a CUDA graph remembers what it reads in the model's own numbers; leave out --cache")
        if mask is not None:
            raise ValueError("prompts of unequal lengths cannot be continued by a CUDA graph; leave out --graph")
        self.model, self.keys, self.recorded = model, None, None

    def __call__(self, ids: np.ndarray, cache: DecoderCache, mask=None):
        if ids.shape[1] > 1 or not cache.length:
            return self.model.step(ids, cache)
        if cache.layers[0].keys is not self.keys:  # a recorded step knows its arrays only
            step = lambda inputs: self.model.step(inputs["ids"], StaticCache(cache, inputs["place"]))
            self.keys, self.recorded = cache.layers[0].keys, Recorded(step)
        scores = self.recorded({"ids": ids, "place": np.array([cache.length])})
        for layer in cache.layers:
            layer.length += 1
        return scores


class StaticCache:
    """A DecoderCache's memory as a step of one token sees it that is the same wherever the token stands.

    place: (1,), where the token stands; the step reads it from memory, so a repetition can stand elsewhere. The token
    looks at whole arrays, masked behind the place. The lengths stay as they are.
    """

    def __init__(self, cache: DecoderCache, place):
        self.capacity, self.memory = cache.layers[0].capacity, cache.memory
        self.place = backend.beside(cache.layers[0].keys, place)
        self.layers = [StaticKVCache(layer, self.place) for layer in cache.layers]

    def span(self, T: int) -> int:
        return self.capacity

    def look(self, T: int, mask=None) -> tuple:
        """The place, and (1, capacity): which positions are at or before it. There is no padding."""
        xp = backend.array_module(self.place)
        return self.place, (xp.arange(self.capacity) <= self.place)[None]


class StaticKVCache:
    """A KVCache that is written at one place and answers with all of itself."""

    def __init__(self, layer: KVCache, place):
        self.layer, self.place, self.capacity = layer, place, layer.capacity

    def next(self, T: int):
        return self.place

    def append(self, k, v) -> tuple:
        keys, values = self.layer.keys, self.layer.values
        keys[:, :, self.place], values[:, :, self.place] = k, v
        return keys, values
