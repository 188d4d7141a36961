"""Reading and writing folders in Hugging Face's layout, once for all models; the records say what differs."""

import dataclasses
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Self

from models.hub import newest_snapshot
from models.pretrained import bert, gpt, run, switch, t5, xlnet
from models.pretrained.layout import Layout
from models.pretrained.weights import read_config, read_weights, write_folder
from models.schema import shown
from models.tokenizers import Tokenizer
from nn import Module, check_finite, shapes_only
from nn.compression import storage

LAYOUTS: dict[str, Layout] = bert.LAYOUTS | gpt.LAYOUTS | t5.LAYOUTS | switch.LAYOUTS | xlnet.LAYOUTS  # by model_type


class Published:
    """A model that is read from such folders. A class says of which kinds, and inherits how.

    kinds: each model_type that it reads.   needs: fields of the config that it has, whatever a file says.
    inside: where it stands in the model of a run, if that has more.
    heads: patterns of its parameters that a file may lack, a head as a whole; they then start at random.
    untrained: the heads that the file did lack.
    """

    config_class: ClassVar[type]
    kinds: ClassVar[tuple[str, ...]]
    needs: ClassVar[Mapping[str, object]] = {}
    inside: ClassVar[str] = ""
    heads: ClassVar[tuple[str, ...]] = ()
    untrained: tuple[str, ...] = ()

    @classmethod
    def from_pretrained(cls, folder: str | Path, **changes) -> Self:
        """The model of a folder with config.json and weights, in evaluation mode; changes: config fields, as dropout.

        The folder may be a run's, of which the last weights are read, or one of the hub's cache: its newest snapshot.
        """
        if run.family_in(Path(folder)):
            return run.opened(cls, cls.config_class, Path(folder), inside=cls.inside, **changes)
        names, ours, arrays = opened(folder, cls.kinds, cls.config_class)
        config = cls.config_class(**(ours | cls.needs | changes))
        with shapes_only(most=2 * len(arrays) + 16):  # of the heads, which may be missing
            model = cls(config)
        own = model.state_dict()
        state = names.read(arrays, own.keys(), cls.heads)
        model.load_state_dict(own | state, assign=True)
        if absent := own.keys() - state.keys():
            model.load_state_dict(cls(config).state_dict() | state, assign=True)
            model.untrained = tuple(sorted({name.removeprefix(names.body).partition(".")[0] for name in absent}))
        check_finite(model, folder)
        return model.eval()


def opened(folder: str | Path, kinds: Iterable[str], config_class: type,
           more: Mapping[str, str] = MappingProxyType({})):  # fmt: skip
    """(table of names, fields of our config, arrays to be read by the table) of a folder with one of these kinds.

    config_class: of our config.   more: what the table shall have besides, such as the layers of a head.
    """
    folder = newest_snapshot(folder)
    fields = read_config(folder)
    if (kind := fields.get("model_type")) not in kinds:
        raise ValueError(f"the config's model_type is {shown(kind)}; this model reads {' and '.join(map(repr, kinds))}")
    LAYOUTS[kind].check(fields, config_class, folder / "config.json")
    names = LAYOUTS[kind].names(fields)
    names = dataclasses.replace(names, table=names.table | more)
    return names, *LAYOUTS[kind].our_fields(fields, names.full(read_weights(folder)))


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
