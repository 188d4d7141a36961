"""What differs from one published kind of model to the next, as a record: its fields, names and demands."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import numpy as np

from models.pretrained.names import Names
from models.schema import check, fields_of, shown

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
    others: published fields beside those and the demanded ones that are looked at -> their annotation.
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
    others: Mapping[str, object] = dataclasses.field(default_factory=dict)
    demands: Mapping[str, tuple[object, str]] = dataclasses.field(default_factory=dict)
    constants: Mapping[str, object] = dataclasses.field(default_factory=dict)
    by_head: Iterable[str] = ()
    read: Callable[[dict, Mapping, Arrays], Arrays] = lambda ours, fields, arrays: arrays
    write: Callable[[dict, object], None] = lambda fields, config: None

    def check(self, published: Mapping, config_class: type, where: object) -> None:
        """Hold the published fields against the types that ours have: of the config's fields they become."""
        kinds = {theirs: fields_of(config_class)[ours] for ours, (theirs, _) in self.fields.items()} | self.others
        kinds |= {self.fields["activation"][0]: Literal[*self.activations]}
        for name, kind in kinds.items():
            if published.get(name) is not None:
                check(published[name], kind, f"{where}: {name}")

    def our_fields(self, published: Mapping, arrays: Arrays) -> tuple[dict, Arrays]:
        """(our config's fields from those of a config.json, the arrays to be read by the table of names)."""
        for name, (value, why) in (DEMANDS | self.demands).items():
            if published.get(name, value) not in (value, None):
                raise ValueError(f"the config's {name} is {shown(published[name])}; {why}")
        ours = dict(self.fixed)
        for name, (theirs, default) in self.fields.items():
            value = default if published.get(theirs) is None else published[theirs]
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
