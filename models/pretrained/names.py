"""From published names to ours and back: one table a family says where each of our parameters stands in a checkpoint.

    Names({
        "token_embedding": "bert.embeddings.word_embeddings",                  a module: its weight and bias
        "blocks.*.norm1.weight": "bert.encoder.layer.*.output.norm.weight",    or a single parameter
        "blocks.*.attention.qkv": ("...query", "...key", "...value"),          parts, joined along the first axis
        "blocks.*.attention.out": Transposed("h.*.attn.c_proj"),               a matrix stored as (in, out)
    }, prefix="bert.", anchor="bert.embeddings.position_embeddings.weight", ignored=["*.position_ids"],
       tied={"head.weight": "token_embedding.weight"})

Each * stands for a layer's number, the same on both sides. One table may hold the whole family, heads and all: a model
is asked only for the parameters it has. What a file has besides is refused where it could change what the model
computes, and named in a warning where it stands outside of this family's model.
"""

import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property

import numpy as np

from tinytensor import backend

# PyTorch's, around a model or a part of it that is run in some other way
WRAPPERS = re.compile(r"(?<![^.])(?:module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


class Transposed(str):
    """The name of a matrix that is stored as (in, out) where ours is (out, in); a bias beside it is stored as it is."""


@dataclass(frozen=True)
class Names:
    """A family's table.

    table: our module or parameter -> the published name, Transposed(name), or a tuple of names, as
        `transformers` writes the full model, with the body's prefix ("bert.", "transformer.").
    prefix: of the body; files of a bare body leave it out, and are read all the same.
    anchor: a published name that every file has: where it stands, there is the model, also inside a larger one.
    body: our own prefix of the body in a model with heads, which the table leaves out.
    ignored: published names that say nothing (buffers of old versions), as shell patterns.
    tied: parameter of ours -> the one whose array it shares, unless the model has one of its own. A file may hold the
        array under both their published names or under either.
    """

    table: Mapping[str, str | tuple[str, ...]]
    prefix: str = ""
    anchor: str = ""
    body: str = ""
    ignored: Iterable[str] = ()
    tied: Mapping[str, str] = field(default_factory=dict)

    def full(self, published: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A file's arrays by their full names: without wrappers and old words, and what a body or a larger model's
        part is called by itself. What stands outside of the part is left out, and named in a warning."""
        files = {_modern(name): array for name, array in published.items()}
        if len(files) < len(published):
            raise ValueError("the checkpoint has a parameter twice, with and without the names of PyTorch's wrappers")
        anchor = "." + self.anchor.removeprefix(self.prefix)
        places = [name[: len(name) + 1 - len(anchor)] for name in files if f".{name}".endswith(anchor)]
        if len(places) > 1:
            raise ValueError(f"the checkpoint holds {len(places)} models of this kind, at {' and '.join(places)}; "
                             "write one of them into a folder of its own")
        place = places[0] if places else ""
        prefixed = self.prefix != "" and f".{place}".endswith(f".{self.prefix}")
        outer = place.removesuffix(self.prefix) if prefixed else place
        found, outside = {}, []
        for name, array in files.items():
            inner = name.removeprefix(outer)
            if self._ours(inner) is None and not prefixed:
                inner = self.prefix + inner
            ours = inner.startswith(self.prefix) or self._ours(inner) is not None or self._ignores(inner)
            if name.startswith(outer) and ours:
                found[inner] = array
            else:
                outside.append(name)
        if outside:
            warnings.warn(f"in the checkpoint, but no part of the model, and passed over: {', '.join(sorted(outside))}",
                          stacklevel=2)
        return found

    def read(self, published: Mapping[str, np.ndarray], wanted: Iterable[str],
             optional: Iterable[str] = ()) -> dict[str, np.ndarray]:
        """Our state dict. wanted: our parameters' names, such as model.state_dict().

        optional: patterns of ours for heads that may be missing, as a whole (they are still to be trained), and are
        then left out; so is a head whose output table is not the embedding that the model would share with it.
        Refuses a checkpoint that lacks a parameter, or has one in the body or in a head of the model that it does not
        know. A head that this family knows and this model lacks is passed over.
        """
        files, wanted = self.full(published), list(wanted)
        shared = self._shared({name.removeprefix(self.body) for name in wanted})
        state, used, missing, lost = {}, set(), {}, set()
        for copy, (name, original) in shared.items():
            if (heads := [one for one in optional if fnmatchcase(copy, one)]) and _differ(files, name, original):
                warnings.warn(f"the checkpoint's {name} differs from its {original}, with which this model shares it; "
                              f"its head is passed over", stacklevel=2)
                lost |= {*heads}
        for ours in wanted:
            names, transposed = self.published(ours)
            found = [_kept(name, files, shared.values()) for name in names]
            if absent := [name for name in found if name not in files]:
                missing[ours] = absent[0]
                continue
            used.update(found)
            if strange := [name for name in found if files[name].dtype.kind != "f"]:
                raise ValueError(f"the checkpoint's {strange[0]} holds {files[strange[0]].dtype} numbers, as quantized "
                                 "weights do, which are not read; take the model's files in 16 or 32 bits")
            arrays = [files[name].T if transposed and files[name].ndim == 2 else files[name] for name in found]
            state[ours] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        lost |= {one for one in optional if not any(fnmatchcase(ours, one) for ours in state)}
        for ours, name in missing.items():
            if not any(fnmatchcase(ours, one) for one in lost):
                raise ValueError(f"the checkpoint has no {name}, which makes up the parameter {ours}")
        self._check_rest(files, used, shared, lost, {_top(name.removeprefix(self.body)) for name in wanted})
        return {ours: array for ours, array in state.items() if not any(fnmatchcase(ours, one) for one in lost)}

    def _check_rest(self, files: Mapping, used: set, shared: Mapping, lost: set, parts: set[str]) -> None:
        """Refuses what a file has besides. parts: the model's; those that are but shared arrays it always has."""
        always = {_top(copy) for copy in shared} - {_top(ours) for ours in self.table if f"{ours}.weight" not in shared}
        copies = {names[0]: (ours, names[1]) for ours, names in shared.items()}
        for name in sorted(files.keys() - used):
            ours = self._ours(name)
            lacks = ours is not None and _top(ours) not in parts | always
            if lacks or self._ignores(name) or any(fnmatchcase(ours or "", one) for one in lost):
                continue
            if name not in copies:
                raise ValueError(f"the checkpoint has {name}, for which this model has no place; check config.json")
            if _differ(files, name, copies[name][1]):
                raise ValueError(f"the checkpoint's {name} differs from its {copies[name][1]}, with which this "
                                 "model shares it; its config should say tie_word_embeddings: false")

    def _shared(self, wanted: set[str]) -> dict[str, tuple[str, str]]:
        """Of the tied parameters that a model has not of its own: (their published name, that of the original)."""
        names = lambda ours: self.published(ours)[0][0]
        return {copy: (names(copy), names(original)) for copy, original in self.tied.items() if copy not in wanted}

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

    def _ours(self, name: str) -> str | None:
        """Our name, with * for numbers, for a full published one."""
        module, _, leaf = re.sub(r"\.\d+(?=\.)", ".*", name).rpartition(".")
        ours = self._patterns.get(module)
        return self._patterns.get(f"{module}.{leaf}", ours and f"{ours}.{leaf}")

    def _ignores(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.ignored)

    @cached_property
    def _patterns(self) -> dict[str, str]:
        """Our module or parameter by every published name of the table."""
        return {name: ours for ours, rule in self.table.items() for name in _parts(rule)}


def _parts(rule: str | tuple[str, ...]) -> tuple[str, ...]:
    return (rule,) if isinstance(rule, str) else rule


def _top(name: str) -> str:
    """The part of a model that a parameter is in: "mlm" of "mlm.norm.weight"."""
    return name.partition(".")[0]


def _modern(name: str) -> str:
    """A name without wrappers, and with today's words for those of BERT's TensorFlow files."""
    return re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", WRAPPERS.sub("", name)))


def _kept(name: str, files: Mapping, shared: Iterable[tuple[str, str]]) -> str:
    """The name under which a file keeps an array: its own, or another of those that share it."""
    others = [other for names in shared if name in names for other in names if other in files]
    return others[0] if name not in files and others else name


def _differ(files: Mapping, a: str, b: str) -> bool:
    return a in files and b in files and not np.array_equal(files[a], files[b])
