"""What a decoder remembers, in half or a quarter of the room: keys and values in float16, or in int8 with scales.

At 32,768 positions a GPT-2 of 12 layers remembers 2 * 12 * 768 * 32,768 numbers: 2.4 GB in float32, 1.2 GB in float16
(three digits), 0.6 GB in int8. They become float32 again layer by layer, when they are looked at.

int8: the D numbers of a position and head are stored as round(x / s), s = max |x| / 127, so each is wrong by s / 2 at
most. (Rows have scales of their own because a few positions, the first above all, have far longer keys than the rest.)
"""

from nn.attention import Attention, KVCache
from nn.module import Module
from tinytensor import backend


class HalfCache(KVCache):
    """Keys and values in float16."""

    def __init__(self, batch: int, heads: int, capacity: int, head_width: int, like):
        super().__init__(batch, heads, capacity, head_width, like[:0].astype("float16"))
        self.dtype = like.dtype

    def append(self, k, v) -> tuple:
        return tuple(array.astype(self.dtype) for array in super().append(k, v))


class ByteCache(KVCache):
    """Keys and values in int8; scales: (2, B, H, capacity, 1), of the keys and of the values, in float32."""

    def __init__(self, batch: int, heads: int, capacity: int, head_width: int, like):
        super().__init__(batch, heads, capacity, head_width, like[:0].astype("int8"))
        xp = backend.array_module(like)
        self.scales = xp.zeros((2, batch, heads, capacity, 1), "float32")
        self.dtype = like.dtype

    def append(self, k, v) -> tuple:
        xp, at = backend.array_module(k), self.next(k.shape[2])
        scales = [abs(array).max(axis=-1, keepdims=True) / 127 for array in (k, v)]
        rounded = [xp.rint(array / xp.maximum(s, 1e-30)).astype("int8") for array, s in zip((k, v), scales)]
        stored = super().append(*rounded)
        for all_scales, new in zip(self.scales, scales):
            all_scales[:, :, at] = new
        return tuple(array * s[:, :, : at.stop].astype(self.dtype) for array, s in zip(stored, self.scales))

    def select(self, rows) -> None:
        super().select(rows)
        self.scales = self.scales[:, backend.array_module(self.scales).asarray(rows)]


KINDS = {"float32": KVCache, "float16": HalfCache, "int8": ByteCache}


def remember_in(model: Module, kind: str) -> Module:
    """The same model; whatever it writes from now on, it remembers keys and values in this kind of number."""
    if kind not in KINDS:
        raise ValueError(f"a cache of {kind} is not known; choose from {', '.join(KINDS)}")
    layers = [module for module in model.modules() if isinstance(module, Attention)]
    if not layers:
        raise ValueError(f"a {type(model).__name__} has no attention, so no keys and values to keep in {kind}")
    for layer in layers:
        layer.memory = KINDS[kind]
    return model
