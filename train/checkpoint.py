"""The run's folder: what a training run leaves behind, and how to read it.

    config.json            the model's family and shape
    model.safetensors      the weights of the last checkpoint;   best.safetensors: those of the lowest loss
    trainer.safetensors    weights and optimizer state of the last checkpoint, for going on;   trainer.json: settings
    tokenizer.json         text <-> ids
    train.bin, val.bin     the corpus as ids;   corpus.json: their sizes
    metrics.jsonl          one JSON object a line;   loss.png is drawn from it;   samples.txt: what the model wrote

Every file is replaced in one step (models/files.py).
trainer.safetensors alone holds all that a resumed run needs, so there is no moment at which a kill could leave
files of different steps behind that do not fit together.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from models import ELMo
from models.families import FAMILIES, PUBLISHED, Family
from models.files import read_json, read_safetensors, write_json, write_safetensors
from models.hub import newest_snapshot
from models.schema import checked
from models.tokenizers import ElmoCharacters, Tokenizer
from models.tokenizers import load as load_tokenizer
from nn import Module, check_finite, shapes_only
from nn.compression import storage
from tinytensor import backend

WEIGHTS = {"last": "model.safetensors", "best": "best.safetensors"}
TRAINER = "trainer.safetensors"


def save_config(run: Path, family: str, config, smaller: bool = False) -> None:
    """smaller: whether the model was pruned, shrunk or quantized, so that its files are read with nn/compression."""
    write_json(run / "config.json", {"family": family, "smaller": smaller, **dataclasses.asdict(config)})


def save_settings(run: Path, data: str | None, training, objective) -> None:
    said = {"data": data, "train": dataclasses.asdict(training), "objective": dataclasses.asdict(objective)}
    write_json(run / "trainer.json", said)


def save_weights(run: Path, model: Module, which: str = "last") -> None:
    write_safetensors(run / WEIGHTS[which], arrays_of(model))


def arrays_of(model: Module) -> dict[str, np.ndarray]:
    """What a file of weights holds: the parameters; of masked ones what is left, and where."""
    if any(parameter.mask is not None for parameter in model.parameters()):
        return storage.state(model)
    return {name: backend.to_numpy(array) for name, array in model.state_dict().items()}


def is_smaller(run: Path) -> bool:
    """Whether a run's model was made smaller; those of runs older than this field may have been."""
    fields = read_config(run) if (run / "config.json").exists() else {}
    return fields.get("smaller", "model_type" not in fields)


def save_trainer(run: Path, model: Module, parts: dict[str, dict], progress: dict) -> None:
    """Everything a resumed run starts from: weights, other arrays in named parts, and `progress`, a few numbers."""
    arrays = {f"model.{name}": array for name, array in arrays_of(model).items()}
    for part, named in parts.items():
        arrays |= {f"{part}.{name}": backend.to_numpy(array) for name, array in named.items()}
    write_safetensors(run / TRAINER, arrays, {"progress": json.dumps(progress)})


def load_config(run: Path) -> tuple[Family, object]:
    """(the record of its family, its config) from the run's config.json."""
    fields, path = read_config(run), run / "config.json"
    family = fields.get("family")
    if family == "finetuned":
        raise ValueError(f"{run} holds a model that was fine-tuned for a task; use it with: python -m train ask {run}")
    if family not in FAMILIES:
        raise ValueError(f"{path} describes a model of the family {family!r}; known are {', '.join(FAMILIES)}")
    shape = {name: value for name, value in fields.items() if name not in ("family", "smaller")}
    return FAMILIES[family], checked(FAMILIES[family].config, shape, path)


def family_in(folder: Path) -> str | None:
    """What the config.json of a run says that it holds; None if there is none of ours: published ones do not say."""
    try:
        return read_config(folder).get("family")
    except ValueError:
        return None


@dataclasses.dataclass
class Kind:
    """What a config.json says of the kind of model that it describes."""

    family: str | None = None  # of one of our runs
    smaller: bool | None = None
    model_type: str | None = None  # of a published one


def read_config(folder: Path) -> dict:
    """The fields of a folder's config.json, those of Kind among them checked."""
    path = folder / "config.json"
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give the folder of a run, such as runs/gpt-1")
    if not path.exists():
        raise ValueError(f"{folder} is not a run: it has no config.json")
    fields = read_json(path, "the settings of a model")
    checked(Kind, fields, path, others=True)
    return fields


def load_model(folder: Path, which: str = "last") -> tuple[Module, Tokenizer]:
    """A trained model, in evaluation mode, and its tokenizer.

    folder: that of a run (then `which` of its weights, last or best), or a published one in Hugging Face's layout, or
    ELMo's: options.json and one hdf5 file.
    """
    folder = newest_snapshot(folder) if (folder / "snapshots").is_dir() else folder
    if (options := folder / "options.json").exists():
        weights = sorted(folder.glob("*.hdf5"))
        if (n := len(weights)) != 1:
            raise ValueError(f"{folder} has an ELMo's options.json and {n} hdf5 files beside it; it takes one")
        return ELMo.from_pretrained(options, weights[0]), ElmoCharacters()
    kind = read_config(folder).get("model_type")
    if kind is None:
        family, config = load_config(folder)
        path = folder / WEIGHTS[which]
        model = made_for(lambda: family.model(config), read_arrays(path), path)
    elif kind in PUBLISHED:
        model = PUBLISHED[kind].model.from_pretrained(folder)
    else:
        raise ValueError(f"{folder} holds a published {kind!r}; known are {', '.join(PUBLISHED)}")
    tokenizer = load_tokenizer(folder)
    check_vocabulary(tokenizer, model.config.vocab_size)
    return model.eval(), tokenizer


def made_for(make: Callable[[], Module], arrays: dict[str, np.ndarray], path: Path) -> Module:
    """A model that has the weights of a file. No memory is taken, nor much time, for one that does not fit to them."""
    try:
        with shapes_only(most=2 * len(arrays)):
            model = make()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    load_weights(model, arrays, path, assign=True)
    return model


def load_weights(model: Module, arrays: dict[str, np.ndarray], path: Path, assign: bool = False) -> None:
    """Give a model what arrays_of wrote into a run's file; those of a smaller model change its layers first.

    assign: as in load_state_dict.
    """
    try:
        (storage.load if is_smaller(path.parent) else Module.load_state_dict)(model, arrays, assign)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    check_finite(model, path)


def check_vocabulary(tokenizer: Tokenizer, vocab_size: int) -> None:
    """Every token needs a row in the model's table."""
    if tokenizer.vocab_size > vocab_size:
        sizes = f"the tokenizer has {tokenizer.vocab_size} tokens, but the model was made for {vocab_size}"
        raise ValueError(f"{sizes}: the two do not belong together")


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """One of a run's files of arrays."""
    if path.exists():
        return read_safetensors(path)
    if (path.parent / WEIGHTS["last"]).exists():
        what = "only the last weights; leave out --best" if path.name == WEIGHTS["best"] else "so it cannot go on"
        raise ValueError(f"{path.parent} has no {path.name}, {what}")
    raise ValueError(f"{path.parent} has no {path.name}: the run was stopped before its first checkpoint")
