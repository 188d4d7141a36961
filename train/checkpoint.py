"""The run's folder: what a training run leaves behind, and how to read it.

    config.json            the model's family and shape
    model.safetensors      the weights of the last checkpoint;   best.safetensors: those of the lowest loss
    trainer.safetensors    weights and optimizer state of the last checkpoint, for going on;   trainer.json: settings
    tokenizer.json         text <-> ids
    train.bin, val.bin     the corpus as ids;   corpus.json: their sizes
    metrics.jsonl          one JSON object a line;   loss.png is drawn from it;   samples.txt: what the model wrote
    checksums.list        what the files above hold, but for those of the last line, which are for people

A checkpoint replaces its files in one step, so a kill never leaves files behind that do not fit together; what it
interrupted is completed by whoever opens the run next.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Self

import numpy as np

from models import files, opening
from models.families import FAMILIES, Family
from models.files import in_json, in_safetensors, read_json, read_safetensors
from models.schema import checked
from models.tokenizers import Tokenizer
from models.tokenizers import load as load_tokenizer
from nn import Module, check_finite, shapes_only
from nn.compression import storage
from tinytensor import backend
from train import repair

WEIGHTS = {"last": "model.safetensors", "best": "best.safetensors"}
TRAINER = "trainer.safetensors"


class Folder:
    """A run's folder while a process writes in it. Others are kept out until it is let go, or the process has ended.

    replaces: the run whose place this one takes when its first checkpoint stands; until then it lies beside it.
    """

    held, replaces = -1, None

    def __init__(self, path: Path, replaces: Self | None = None):
        self.path, self.replaces = path, replaces
        self.goal = replaces.path if replaces else path  # where the folder will be
        self.held = os.open(path, os.O_RDONLY)
        for _ in range(20):  # the workers of a trainer that was killed end a moment after it
            try:
                fcntl.flock(self.held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return self.check()
            except BlockingIOError:
                time.sleep(0.1)
            except OSError:  # a file system that knows no locks
                return
        self.close()
        raise ValueError(f"{path} is in use: another process trains it, or overwrites it; wait for its end, or stop it")

    def check(self) -> None:
        """Whoever removed the folder, or put another one in its place, shall hear of it."""
        if not (self.path.exists() and os.path.samestat(os.stat(self.path), os.fstat(self.held))):
            what = "was removed or replaced while it was trained"
            raise ValueError(f"{self.path} {what}; what was learned since its last checkpoint is lost")

    def appear(self) -> Path:
        """Take the place of the run to be replaced, if there is one. Returns where the folder is from now on."""
        if self.replaces:
            self.replaces.check()
            repair.exchange(self.path, self.goal)
            self.path, aside = self.goal, self.path
            shutil.rmtree(aside, ignore_errors=True)
            self.replaces = None
        return self.path

    def close(self) -> None:
        self.replaces = None
        if self.held >= 0:
            os.close(self.held)
        self.held = -1

    __del__ = close


def replace_files(run: Path, writes: Mapping[str, Callable[[Path], object]], gone: Iterable[str] = ()) -> None:
    """Replace several files of a run and take others away, in one step if it has checksums.

    The new files are made beside the old ones. They count from the moment at which checksums.list is replaced; then
    they take their places, or train/repair.py sees to it, if this process is killed before.
    """
    try:
        for name, write in writes.items():
            files.write_beside(run / name, write)
        if (sums := files.checksums(run)) is not None:
            sums = {name: crc for name, crc in sums.items() if crc != files.GONE} | dict.fromkeys(gone, files.GONE)
            files.write_checksums(run, sums | {name: files.checksum(files.beside(run / name)) for name in writes})
        for name in gone:
            (run / name).unlink(missing_ok=True)
        for name in writes:
            with files.naming(run / name):
                os.replace(files.beside(run / name), run / name)
        files.sync_folder(run)
    except BaseException:
        with contextlib.suppress(OSError, ValueError):
            repair.settle(run)
        raise


def save_settings(run: Path, data: str | None, training, objective) -> None:
    """trainer.json: where the text came from, and the configs of training and objective."""
    said = {"data": data, "train": dataclasses.asdict(training), "objective": dataclasses.asdict(objective)}
    replace_files(run, {"trainer.json": in_json(said)})


def seal(run: Path) -> None:
    """Note what all files of a run hold."""
    kept = sorted(file for file in run.iterdir() if file.suffix in (".json", ".bin", ".safetensors"))
    files.write_checksums(run, {file.name: files.checksum(file) for file in kept})


def about(family: str, config, smaller: bool = False) -> dict:
    """What config.json says.

    smaller: whether the model was pruned, shrunk or quantized, so that its files are read with nn/compression.
    """
    return {"family": family, "smaller": smaller, **dataclasses.asdict(config)}


def save_config(run: Path, family: str, config, smaller: bool = False) -> None:
    replace_files(run, {"config.json": in_json(about(family, config, smaller))})


def save_weights(run: Path, model: Module, which: str = "last") -> None:
    replace_files(run, {WEIGHTS[which]: in_safetensors(arrays_of(model))})


def arrays_of(model: Module) -> dict[str, np.ndarray]:
    """What a file of weights holds: the parameters; of masked ones what is left, and where."""
    if any(parameter.mask is not None for parameter in model.parameters()):
        return storage.state(model)
    return {name: backend.to_numpy(array) for name, array in model.state_dict().items()}


def is_smaller(run: Path) -> bool:
    """Whether a run's model was made smaller; those of runs older than this field may have been."""
    fields = read_config(run) if (run / "config.json").exists() else {}
    return fields.get("smaller", "model_type" not in fields)


def save(run: Path, model: Module, parts: dict[str, dict], progress: dict, usable: bool = True) -> None:
    """Everything a resumed run starts from: weights, other arrays in named parts, and `progress`, a few numbers.

    usable: whether the weights are also to be had alone, as those of a model that can be used.
    """
    weights = arrays_of(model)
    arrays = {f"model.{name}": array for name, array in weights.items()}
    for part, named in parts.items():
        arrays |= {f"{part}.{name}": backend.to_numpy(array) for name, array in named.items()}
    said = {TRAINER: in_safetensors(arrays, {"progress": json.dumps(progress)})}
    replace_files(run, said | ({WEIGHTS["last"]: in_safetensors(weights)} if usable else {}))


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
        raise ValueError(repair.why_no_run(folder))
    if any(folder.glob(f".*{files.UNFINISHED}")) or files.beside(Path(os.path.abspath(folder))).exists():
        repair.tidy(folder)
    fields = read_json(path, "the settings of a model")
    checked(Kind, fields, path, others=True)
    return fields


def load_model(folder: Path, which: str = "last") -> tuple[Module, Tokenizer]:
    """A trained model, in evaluation mode, and its tokenizer.

    folder: that of a run (then `which` of its weights, last or best), or a published one in Hugging Face's layout, or
    ELMo's: options.json and one hdf5 file.
    """
    others = any((folder / name).exists() for name in ("snapshots", "options.json"))
    if others or "model_type" in read_config(folder):
        model, tokenizer = opening.load(folder)
    else:
        family, config = load_config(folder)
        path = folder / WEIGHTS[which]
        model = made_for(lambda: family.model(config), read_arrays(path), path)
        tokenizer = load_tokenizer(folder)
    if model.config.vocab_size:  # a published ELMo predicts no words
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
    listed = files.checksums(path.parent)
    if path.exists() and (listed is None or path.name in listed):
        return read_safetensors(path)
    raise ValueError(repair.why_not(path))
