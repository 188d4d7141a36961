"""Surgery on models: put other layers in the place of some, make layers smaller.

Pruning, quantization and distillation all change a model that exists. They know its layers by their classes.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np

from nn.attention import Attention
from nn.layers import Embedding, Linear
from nn.module import Module, Parameter
from nn.transformer import Blocks, FeedForward
from tinytensor import Tensor, ops


def projections(attention: Attention) -> list[Module]:
    """The layers that make queries, keys and values."""
    return [layer for layer in (attention.qkv, attention.q, attention.kv) if layer is not None]


def first_layers(feed_forward: FeedForward) -> list[Module]:
    """The layers that make the neurons' values."""
    return [layer for layer in (feed_forward.into, feed_forward.gate) if layer is not None]


def stacks(model: Module) -> list[Blocks]:
    """The model's stacks of transformer blocks."""
    return [value for module in model.modules() for value in vars(module).values() if isinstance(value, Blocks)]


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


# Smaller layers


def part_of(parameter: Parameter, kept: np.ndarray, axis: int = 0) -> Parameter:
    """A new parameter with the slices `kept` of another, and with their mask if it still masks anything."""
    if 0 in parameter.data.strides:  # built under shapes_only(), and so it stays
        shape = (*parameter.shape[:axis], len(kept), *parameter.shape[axis + 1 :])
        return Parameter(np.broadcast_to(parameter.dtype.type(0), shape), parameter.requires_grad)
    kept = parameter.xp.asarray(kept)
    part = Parameter(parameter.xp.ascontiguousarray(parameter.data.take(kept, axis)), parameter.requires_grad)
    if parameter.mask is not None and not (mask := parameter.mask.take(kept, axis)).all():
        part.mask = mask
    return part


def keep_outputs(layer: Linear, kept: np.ndarray) -> None:
    layer.weight = part_of(layer.weight, kept)
    if layer.bias is not None:
        layer.bias = part_of(layer.bias, kept)


def keep_heads(attention: Attention, kept: np.ndarray) -> None:
    """Only the heads numbered `kept`."""
    H, D = attention.heads, attention.head_width
    if attention.groups > 1:
        raise ValueError("heads that share keys and values are not taken out one by one")
    for layer in projections(attention):
        copies = len(layer.weight) // (H * D)  # 3 in qkv, 2 in kv
        keep_outputs(layer, np.concatenate([stretches(kept, D) + copy * H * D for copy in range(copies)]))
    attention.out.weight = part_of(attention.out.weight, stretches(kept, D), axis=1)
    if attention.biased:
        xp = attention.out.weight.xp
        before = xp.arange(H) if attention.kept_heads is None else attention.kept_heads.data
        attention.kept_heads = Parameter(before[xp.asarray(kept)].astype(np.int32), requires_grad=False)
    attention.heads = len(kept)


def keep_neurons(feed_forward: FeedForward, kept: np.ndarray) -> None:
    """Only the neurons numbered `kept`."""
    for layer in first_layers(feed_forward):
        keep_outputs(layer, kept)
    feed_forward.out.weight = part_of(feed_forward.out.weight, kept, axis=1)


def keep_layers(model: Module, choices: Sequence[tuple[Blocks, Sequence[int]]]) -> None:
    """Only the blocks with these numbers of each stack; the configs of the model and of its parts follow.

    They say by numbers which blocks have a mixture of experts: ValueError if those that stay are of other kinds.
    """
    for blocks, kept in choices:
        if [type(blocks[number]) for number in kept] != [type(block) for block in blocks[: len(kept)]]:
            raise ValueError(f"this {type(model).__name__} has no layers {', '.join(map(str, kept))} that go alone: by "
                             "its config its mixtures of experts would be in others of them")
    for blocks, kept in choices:
        blocks[:] = [blocks[number] for number in kept]
        for module in model.modules():
            config = vars(module).get("config")
            if config is not None and blocks.counted_by in {field.name for field in dataclasses.fields(config)}:
                module.config = dataclasses.replace(config, **{blocks.counted_by: len(blocks)})


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
    def of(cls, embedding: Embedding) -> Self:
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
        if not isinstance(ids, slice):
            ids = ids.data if isinstance(ids, Tensor) else self.place.xp.asarray(ids)
        return ops.embedding(self.rows, self.place.data[ids])


def stretches(numbers: np.ndarray, length: int) -> np.ndarray:
    """The places of the blocks of `length` with these numbers."""
    return (np.asarray(numbers)[:, None] * length + np.arange(length)).reshape(-1)
