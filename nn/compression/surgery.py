"""Surgery on models: put other layers in the place of some, watch what flows through them, make them smaller.

Pruning, quantization and distillation all change a model that exists. They know its layers by their parts: Linear and
Embedding by type, attention by its `heads` and its projections (qkv, or q and kv) before `out`, a feed-forward network
by `into` (and `gate`) before `out`, a stack of transformer blocks by the name `blocks`.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from nn.embedding import Embedding
from nn.linear import Linear
from nn.module import Module, Parameter
from tinytensor import Tensor, ops


def is_attention(module: Module) -> bool:
    """Heads side by side, and `out` that reads them: self-attention (qkv), or attention to a memory (q and kv)."""
    return hasattr(module, "heads") and hasattr(module, "out") and (hasattr(module, "qkv") or hasattr(module, "kv"))


def is_feed_forward(module: Module) -> bool:
    """`into` (and `gate`, if it has one), then `out`."""
    return isinstance(getattr(module, "into", None), Module) and isinstance(getattr(module, "out", None), Module)


def projections(attention: Module) -> list[Module]:
    """The layers that make queries, keys and values."""
    return [layer for name in ("qkv", "q", "kv") if (layer := getattr(attention, name, None)) is not None]


def first_layers(feed_forward: Module) -> list[Module]:
    """The layers that make the neurons' values."""
    return [layer for name in ("into", "gate") if (layer := getattr(feed_forward, name, None)) is not None]


def head_width(attention: Module) -> int:
    return attention.out.weight.shape[1] // attention.heads


def stacks(model: Module) -> list[Module]:
    """The modules that hold a list of transformer blocks."""
    return [module for module in model.modules() if isinstance(getattr(module, "blocks", None), list) and module.blocks]


# Other layers in the place of some


def replace_modules(model: Module, change: Callable[[Module], Module]) -> None:
    """Put change(part) in the place of every part of the model, the innermost first; a part shared stays shared."""
    done: dict[int, tuple[Module, Module]] = {}  # holds on to the old part, so that its id is not used again

    def changed(value):
        if isinstance(value, Module):
            if id(value) not in done:
                inside(value)
                done[id(value)] = value, change(value)
            return done[id(value)][1]
        if isinstance(value, list):
            value[:] = [changed(item) for item in value]  # in place: whoever else holds the list sees the change
        elif isinstance(value, dict):
            value.update({key: changed(item) for key, item in value.items()})
        elif type(value) is tuple:
            return tuple(changed(item) for item in value)
        return value

    def inside(module: Module) -> None:
        for name, value in list(vars(module).items()):
            if isinstance(value, (Module, list, dict, tuple)) and (new := changed(value)) is not value:
                setattr(module, name, new)

    inside(model)


@contextlib.contextmanager
def watch(model: Module, layers: Sequence[Module], see: Callable[[Module, tuple, object], None]) -> Iterator[None]:
    """Inside this block see(layer, arguments, result) is told every call of these layers of the model."""
    watched = {id(layer) for layer in layers}
    replace_modules(model, lambda module: Watcher(module, see) if id(module) in watched else module)
    try:
        yield
    finally:
        replace_modules(model, lambda module: module.watched if isinstance(module, Watcher) else module)


class Watcher(Module):
    """Stands in a layer's place, passes everything on to it, and tells what it was given and what it answered."""

    def __init__(self, watched: Module, see: Callable[[Module, tuple, object], None]):
        self.watched, self.see = watched, see

    def __call__(self, *args, **kwargs):
        result = self.watched(*args, **kwargs)
        self.see(self.watched, args, result)
        return result

    def __getattr__(self, name: str):
        if name == "watched":  # not there yet: this object is just being made or copied
            raise AttributeError(name)
        return getattr(self.watched, name)


# Smaller layers


def part_of(parameter: Parameter, kept: np.ndarray, axis: int = 0) -> Parameter:
    """A new parameter with the slices `kept` of another, and with their mask if it still masks anything."""
    kept = parameter.xp.asarray(kept)
    part = Parameter(parameter.xp.ascontiguousarray(parameter.data.take(kept, axis)), parameter.requires_grad)
    if parameter.mask is not None and not (mask := parameter.mask.take(kept, axis)).all():
        part.mask = mask
    return part


def keep_outputs(layer: Linear, kept: np.ndarray) -> None:
    layer.weight = part_of(layer.weight, kept)
    if layer.bias is not None:
        layer.bias = part_of(layer.bias, kept)


def keep_inputs(layer: Linear, kept: np.ndarray) -> None:
    layer.weight = part_of(layer.weight, kept, axis=1)


def keep_heads(attention: Module, kept: np.ndarray) -> None:
    """Only the heads numbered `kept`."""
    H, D = attention.heads, head_width(attention)
    for layer in projections(attention):
        copies = len(layer.weight) // (H * D)  # 3 in qkv, 2 in kv
        keep_outputs(layer, np.concatenate([stretches(kept, D) + copy * H * D for copy in range(copies)]))
    keep_inputs(attention.out, stretches(kept, D))
    attention.heads = len(kept)
    if hasattr(attention, "kept_heads"):  # heads that differ from outside too, as by T5's relative positions
        xp = attention.out.weight.xp
        before = xp.arange(H) if attention.kept_heads is None else attention.kept_heads.data
        attention.kept_heads = Parameter(before[xp.asarray(kept)].astype(np.int32), requires_grad=False)


def keep_neurons(feed_forward: Module, kept: np.ndarray) -> None:
    """Only the neurons numbered `kept`."""
    for layer in first_layers(feed_forward):
        keep_outputs(layer, kept)
    keep_inputs(feed_forward.out, kept)


def keep_layers(model: Module, stack: Module, kept: Sequence[int]) -> None:
    """Only the blocks numbered `kept`; the configs of the model and of its parts follow."""
    if len(kept) == len(stack.blocks):
        return  # perhaps one block used many times, whose number the config does not say
    stack.blocks[:] = [stack.blocks[number] for number in kept]
    name = "decoder_layers" if stack is getattr(model, "decoder", None) else "layers"
    for module in model.modules():
        config = vars(module).get("config")
        if dataclasses.is_dataclass(config) and hasattr(config, name):
            module.config = dataclasses.replace(config, **{name: len(stack.blocks)})


class ShrunkEmbedding(Module):
    """An embedding table without its masked rows, all of which are one row of zeros at the end of `rows`.

    rows: (kept + 1, width);   place: (V,), the row of each id.
    """

    def __init__(self, rows: Parameter, place: np.ndarray):
        self.rows = rows
        self.rows.mask = rows.xp.ones(rows.shape, bool)
        self.rows.mask[-1] = False
        self.place = Parameter(rows.xp.asarray(place, np.int32), requires_grad=False)

    @classmethod
    def of(cls, embedding: Embedding) -> ShrunkEmbedding:
        weight, xp = embedding.weight, embedding.weight.xp
        kept = weight.mask.any(axis=1)
        rows = xp.concatenate([weight.data[kept], xp.zeros_like(weight.data[:1])])
        return cls(Parameter(rows), xp.where(kept, kept.cumsum() - 1, kept.sum()))

    def whole(self) -> Embedding:
        """The embedding that it was made of, with its masked rows."""
        kept = self.rows.mask[:, :1][self.place.data]
        embedding = Embedding(0, self.rows.shape[1])
        embedding.weight = Parameter(self.weight.data, self.rows.requires_grad)
        embedding.weight.mask = self.rows.xp.repeat(kept, self.rows.shape[1], axis=1)
        return embedding

    @property
    def weight(self) -> Tensor:
        """The whole table (V, width), for a model that compares a vector with every row."""
        return ops.embedding(self.rows, self.place)

    def __call__(self, ids) -> Tensor:
        ids = ids.data if isinstance(ids, Tensor) else self.place.xp.asarray(ids)
        return ops.embedding(self.rows, self.place.data[ids])


def stretches(numbers: np.ndarray, length: int) -> np.ndarray:
    """The places of the blocks of `length` with these numbers."""
    return (np.asarray(numbers)[:, None] * length + np.arange(length)).reshape(-1)
