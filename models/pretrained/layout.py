"""Loading and saving, written once for all models: a record says what differs from one published kind to the next."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from models.pretrained.names import Names
from models.pretrained.weights import read_config, read_weights, write_folder
from models.tokenizers import Tokenizer
from nn import Module, shapes_only
from nn.compression import storage

Arrays = Mapping[str, np.ndarray]
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu_fast": "gelu_tanh",
               "gelu_python": "gelu", "relu": "relu", "silu": "silu", "swish": "silu"}

DEMANDS = {"quantization_config": (None, "weights that another tool has quantized are not read"),
           "pruned_heads": ({}, "a model with another number of heads in each layer is not read")}


@dataclasses.dataclass(frozen=True)
class Layout:
    """What one published model_type is like.

    names: of the parameters, given the published fields.
    fields: our config's field -> (the published one, its value where a file does not say; None: our default).
    activations: each published word for one -> ours. The first of several words for the same is written.
    activation_of: our config's activation, as `activations` has it.
    fixed: our config's fields that have one value in all models of this kind.
    always: those with which a model is written, whatever its own: the biases it then lacks are zeros.
    demands: published field -> (the value that a model of ours computes with, what to say about any other).
    constants: published fields that are the same in every file.
    by_head: patterns of parameters of ours with a column per head. Only where heads differ from outside, as by these,
        is their number a size of its own, which the config can say; elsewhere it is width / head width.
    read: is given our fields, to be changed by what no table says, the published ones, and the arrays; answers the
        arrays, to be read by the names.
    write: is given the published fields, to be changed by what no table says, and our config.
    """

    kind: str
    names: Callable[[Mapping], Names]
    fields: Mapping[str, tuple[str, object]]
    activations: Mapping[str, str] = dataclasses.field(default_factory=lambda: ACTIVATIONS)
    activation_of: Callable[[object], str] = lambda config: config.activation
    fixed: Mapping[str, object] = dataclasses.field(default_factory=dict)
    always: Mapping[str, object] = dataclasses.field(default_factory=dict)
    demands: Mapping[str, tuple[object, str]] = dataclasses.field(default_factory=dict)
    constants: Mapping[str, object] = dataclasses.field(default_factory=dict)
    by_head: Iterable[str] = ()
    read: Callable[[dict, Mapping, Arrays], Arrays] = lambda ours, fields, arrays: arrays
    write: Callable[[dict, object], None] = lambda fields, config: None

    def our_fields(self, published: Mapping, arrays: Arrays) -> tuple[dict, Arrays]:
        """(our config's fields from those of a config.json, the arrays to be read by the table of names)."""
        for name, (value, why) in (DEMANDS | self.demands).items():
            if published.get(name, value) not in (value, None):
                raise ValueError(f"the config's {name} is {published[name]!r}; {why}")
        ours = dict(self.fixed)
        for name, (theirs, default) in self.fields.items():
            value = default if published.get(theirs) is None else published[theirs]
            if name == "activation" and value not in self.activations:
                raise ValueError(f"the config's {theirs} is {value!r}; this model has {', '.join(self.activations)}")
            if value is not None:
                ours[name] = self.activations[value] if name == "activation" else value
        return ours, self.read(ours, published, arrays)

    def published_fields(self, config) -> dict:
        """A config.json for `transformers`. ValueError, if its models of this kind compute something else."""
        for name, value in self.fixed.items():
            if getattr(config, name) != value:
                raise ValueError(f"a published {self.kind} always has {name} {value}, not {getattr(config, name)}")
        fields = {theirs: getattr(config, ours) for ours, (theirs, _) in self.fields.items()} | self.constants
        words = {ours: word for word, ours in reversed(self.activations.items())}
        if (activation := self.activation_of(config)) not in words:
            known = ", ".join(dict.fromkeys(self.activations.values()))
            raise ValueError(f"a published {self.kind} has the activations {known}, not {activation}")
        fields |= {"model_type": self.kind, self.fields["activation"][0]: words[activation]}
        self.write(fields, config)
        return fields


def load(cls: type[Module], config_class: type, layouts: Mapping[str, Layout], folder: str | Path,
         changes: Mapping[str, object], optional: Iterable[str] = ()) -> tuple[Module, set[str]]:
    """(a model of a folder in Hugging Face's layout, its parameters that the folder lacks and that start at random).

    layouts: those that may be read, by model_type.   changes: of the config.   optional: patterns of the parameters
    that may be missing.
    """
    fields = read_config(folder)
    if (kind := fields.get("model_type")) not in layouts:
        raise ValueError(f"the config's model_type is {kind!r}; this model reads {' and '.join(map(repr, layouts))}")
    layout = layouts[kind]
    names = layout.names(fields)
    ours, arrays = layout.our_fields(fields, names.full(read_weights(folder)))
    config = config_class(**(ours | changes))
    with shapes_only():
        model = cls(config)
    wanted = model.state_dict().keys()
    state = names.read(arrays, wanted, optional)
    if absent := wanted - state.keys():
        state = cls(config).state_dict() | state
    model.load_state_dict(state, assign=True)
    return model.eval(), absent


def save(model: Module, layout: Layout, folder: str | Path, more: Mapping[str, object],
         tokenizer: Tokenizer | None = None) -> None:
    """Write a model, whatever made it smaller, as a folder that `transformers` reads as one that computes the same.

    Where all layers lost neurons or heads and the config can say so, the matrices are written smaller; else what is
    missing is written as zeros.   more: published fields beside those of the config.
    """
    config = model.config
    if "hidden" in layout.fields and (most := storage.most_neurons(model)) < (config.hidden or 4 * config.width):
        config = dataclasses.replace(config, hidden=most)
    kept = storage.heads_alike(model) if layout.by_head else None
    if kept is not None:
        config = dataclasses.replace(config, heads=len(kept))
    fields = layout.published_fields(config) | more
    with shapes_only():
        full = type(model)(dataclasses.replace(config, **layout.always))
    state = storage.plain_state(model, full)
    if kept is not None:
        state |= {n: a[:, kept] for n, a in state.items() if any(fnmatchcase(n, pattern) for pattern in layout.by_head)}
    full.load_state_dict(state, assign=True)  # which checks every shape
    write_folder(folder, fields, layout.names(fields).write(state))
    if tokenizer:
        tokenizer.save(folder)
