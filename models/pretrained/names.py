"""From published names to ours and back: one table a family says where each of our parameters stands in a checkpoint.

    Names({
        "token_embedding": "bert.embeddings.word_embeddings",                  a module: its weight and bias
        "blocks.*.norm1.weight": "bert.encoder.layer.*.output.norm.weight",    or a single parameter
        "blocks.*.attention.qkv": ("...query", "...key", "...value"),          parts, joined along the first axis
        "blocks.*.attention.out": Transposed("h.*.attn.c_proj"),               a matrix stored as (in, out)
    }, prefix="bert.", ignored=["*.position_ids"], tied={"cls.decoder.weight": "bert...word_embeddings.weight"})

Each * stands for a layer's number, the same on both sides. One table may hold the whole family, heads and all: a model
is asked only for the parameters it has.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np

from tinytensor import backend


class Transposed(str):
    """The name of a matrix that is stored as (in, out) where ours is (out, in); a bias beside it is stored as it is."""


@dataclass(frozen=True)
class Names:
    """A family's table.

    table: our module or parameter -> the published name, Transposed(name), or a tuple of names, as
        `transformers` writes the full model, with the body's prefix ("bert.", "transformer.").
    prefix: of the body; files of a bare body leave it out, and are read all the same.
    body: our own prefix of the body in a model with heads, which the table leaves out.
    ignored: published names that say nothing (buffers of old versions), as shell patterns.
    tied: published name -> the name whose array it shares unless the model has one of its own: it may be absent.
    """

    table: Mapping[str, str | tuple[str, ...]]
    prefix: str = ""
    body: str = ""
    ignored: Iterable[str] = ()
    tied: Mapping[str, str] = field(default_factory=dict)

    def read(self, published: Mapping[str, np.ndarray], wanted: Iterable[str],
             optional: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """Our state dict. wanted: our parameters' names, such as model.state_dict().

        optional: patterns of ours that may be missing (a head that is still to be trained); they are then left out.
        Refuses a checkpoint that lacks a parameter, or has one that no model of this family knows what to do with.
        A head that this family knows and this model lacks is passed over.
        """
        files = {self._full(name): array for name, array in published.items()}
        state, used = {}, set()
        for ours in wanted:
            names, transposed = self.published(ours)
            found = [name if name in files else self.tied.get(name, name) for name in names]
            if absent := [name for name in found if name not in files]:
                if any(fnmatchcase(ours, pattern) for pattern in optional):
                    continue
                raise ValueError(f"the checkpoint has no {absent[0]}, which makes up the parameter {ours}")
            used.update(found)
            arrays = [files[name].T if transposed and files[name].ndim == 2 else files[name] for name in found]
            state[ours] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        for name in files.keys() - used:
            if any(fnmatchcase(name, pattern) for pattern in self.ignored):
                continue
            if name in self.tied:
                if self.tied[name] in used and not np.array_equal(files[name], files[self.tied[name]]):
                    raise ValueError(f"the checkpoint's {name} differs from its {self.tied[name]}, with which this "
                                     "model shares it; its config should say tie_word_embeddings: false")
            elif not self._knows(name) or re.search(r"\.\d+\.", name):
                raise ValueError(f"the checkpoint has {name}, for which this model has no place; check config.json")
        return state

    def write(self, state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Published name -> array, for `transformers` to read."""
        arrays = {}
        for ours, array in state.items():
            names, transposed = self.published(ours)
            array = backend.to_numpy(array)
            array = array.T if transposed and array.ndim == 2 else array
            arrays |= zip(names, np.split(array, len(names)) if len(names) > 1 else [array])
        return arrays

    def published(self, ours: str) -> tuple[tuple[str, ...], bool]:
        """(the published names that make up our parameter, whether they are stored transposed)."""
        numbers = re.findall(r"\.(\d+)(?=\.)", ours)
        pattern = re.sub(r"\.\d+(?=\.)", ".*", ours.removeprefix(self.body))
        module, _, leaf = pattern.rpartition(".")
        rule, ending = (self.table[pattern], "") if pattern in self.table else (self.table.get(module), f".{leaf}")
        if rule is None:
            raise ValueError(f"no published name is known for our parameter {ours}")
        filled = tuple(name.replace("*", "{}").format(*numbers) + ending for name in _parts(rule))
        return filled, isinstance(rule, Transposed)

    def _full(self, name: str) -> str:
        """A name as it stands in the file -> the full name: today's words for old ones, and the prefix."""
        name = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))  # of BERT's TensorFlow files
        if not self.prefix or name.startswith(self.prefix) or self._knows(name):
            return name
        return self.prefix + name

    def _knows(self, name: str) -> bool:
        pattern = re.sub(r"\.\d+(?=\.)", ".*", name)
        return name in self.tied or not self._patterns.isdisjoint({pattern, pattern.rpartition(".")[0]})

    @cached_property
    def _patterns(self) -> set[str]:
        """Every published name of the table."""
        return {name for rule in self.table.values() for name in _parts(rule)}


def _parts(rule: str | tuple[str, ...]) -> tuple[str, ...]:
    return (rule,) if isinstance(rule, str) else rule
