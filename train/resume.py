"""What begins with something that was learned before: a run that goes on, or a new one with the weights of another."""

import argparse
import contextlib
import dataclasses
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from models.contract import Writer
from models.families import family_of
from models.files import checksums, parse_json, read_json, read_metadata
from models.schema import checked
from models.tokenizers import load as load_tokenizer
from nn import Module
from nn.compression import is_quantized
from tinytensor import backend, random
from train import checkpoint, repair
from train.checkpoint import TRAINER, WEIGHTS, Folder, read_arrays, read_config
from train.data.corpus import open_corpus
from train.flags import given
from train.recipes import Recipe
from train.trainer import Progress, TrainConfig, Trainer


class Stopped(Exception):
    """The user stopped a command; what was done is saved, and the sentence says how to go on."""


@contextlib.contextmanager
def going_on(run: Path) -> Iterator[Folder]:
    """The folder of a run that is to go on, in order. It is let go if this block ends with an error."""
    folder = Folder(run)
    try:
        repair.settle(run)
        yield folder
        if checksums(run) is None:  # it was made before runs had them
            checkpoint.seal(run)
    except BaseException:
        folder.close()
        raise


COMMAND = "command.json"  # of a run made from another one: which command did it, and with what flags


@dataclass
class Begun:
    """What a run's command.json holds."""

    command: str
    words: list[str]


def begun_by(run: Path) -> Begun:
    """Which command made a run of another one, and what was said to it."""
    return checked(Begun, read_json(run / COMMAND), run / COMMAND)


def as_begun(args: argparse.Namespace, command: str, add_arguments: Callable, check: Callable) -> argparse.Namespace:
    """What to do: as the flags say or, with --resume, as they said when the run was begun.

    check: called with the run's folder, in order, refuses one that does not go on so.
    """
    if args.resume is None:
        return args
    if len(args.words) > 2:
        raise ValueError(f"--resume goes on with what {args.resume} was begun with; leave out all else")
    read_config(args.resume)  # which puts it in order
    check(args.resume)
    parser = argparse.ArgumentParser(prog=f"python -m train {command}")
    add_arguments(parser)
    said = parser.parse_args(begun_by(args.resume).words)
    return argparse.Namespace(**vars(said) | {"resume": args.resume})


def check_goes_on(run: Path, command: str) -> None:
    """Refuse to go on with a run of another command."""
    begun = read_config(run).get("family")
    if (run / COMMAND).exists() and not (run / WEIGHTS["last"]).exists():  # what it makes of a model is not ready
        begun = begun_by(run).command
    if (begun := "finetune" if begun == "finetuned" else begun) not in (command, None):
        raise ValueError(f"{run} is a run of {begun}; go on with: python -m train {begun} --resume {run}")


def is_newer(run: Path, *names: str) -> bool:
    """Whether files that a run leaves at its end are there, and no older than its last checkpoint."""
    ages = [os.path.getmtime(run / name) if (run / name).exists() else 0 for name in names]
    return min(ages) >= os.path.getmtime(run / TRAINER)


def pretraining(args: argparse.Namespace, recipe: Recipe, job_of: Callable):
    """The job of a run that was stopped, as it was at its last checkpoint. Settings given now replace those of the run.

    job_of: makes it of a recipe, a model, a tokenizer and so on.
    """
    for name in ("data", "val", "stories", "out", "overwrite", "tokenizer", "preset", "init"):
        if vars(args)[name] not in (None, False):
            raise ValueError(f"--resume goes on with the run's own data and model; leave out --{name}")
    check_goes_on(args.resume, recipe.family)
    with going_on(args.resume) as folder:
        return _pretraining(args, recipe, job_of, folder)


def _pretraining(args: argparse.Namespace, recipe: Recipe, job_of: Callable, folder: checkpoint.Folder):
    run, (_, model_config) = folder.path, checkpoint.load_config(folder.path)
    data, was, settings = load_settings(run, recipe.objective.settings)
    for kept in (model_config, settings):
        for name, value in given(args, type(kept)).items():
            if value != (before := vars(kept)[name]):
                flag = "--" + name.replace("_", "-")
                raise ValueError(f"{flag} {value} does not fit: {run} was made with {before}")
    config = dataclasses.replace(was, **given(args, TrainConfig))
    tokenizer = load_tokenizer(run)
    checkpoint.check_vocabulary(tokenizer, model_config.vocab_size)
    corpus = open_corpus(run, len(tokenizer.tokens))
    job = job_of(recipe, blank_model(run), tokenizer, corpus, config, settings, folder)
    restore(job.trainer)
    if (done := job.trainer.progress.step) >= config.steps and _complete(job):
        raise ValueError(f"{run} has all of its {config.steps} steps; ask for more with --steps")
    checkpoint.save_settings(run, data, config, settings)
    print(f"going on after step {done} of {config.steps}; {job.trainer.workers} {job.trainer.kind}; in {run}")
    return job


def _complete(job) -> bool:
    """Whether a trained run has all that it leaves behind: it may have been killed behind its last checkpoint."""
    run, name = job.folder, "samples.txt" if isinstance(job.trainer.model, Writer) else "loss.png"
    return is_newer(run, name) or (name == "loss.png" and not job.trainer.report.draw(run / name))


def first_weights(args: argparse.Namespace, recipe: Recipe):
    """(model, tokenizer) of --init: its shape is what it is, so the flags of the model have nothing to say.

    But for those that the family's record knows how to change: a GPT's --context can be stretched.
    """
    shape, changes = given(args, recipe.record.config), recipe.record.anew
    anew = {name: shape.pop(name) for name in changes if name in shape}
    said = [n for n in ("tokenizer", "preset") if vars(args)[n] is not None] + [*shape]
    if said:
        flag = "--" + said[0].replace("_", "-")
        raise ValueError(f"--init goes on with the tokenizer and the shape of {args.init}; leave out {flag}")
    model, tokenizer = checkpoint.load_model(args.init)
    check_learns(model, args.init)
    if (family := family_of(model).name) in recipe.record.begins:
        if checkpoint.is_smaller(args.init):
            raise ValueError(f"{args.init} was made smaller; begin with the {family} it was made from")
        with random.seeded(given(args, TrainConfig).get("seed", 0)):
            return recipe.record.begins[family](model, tokenizer), tokenizer
    if family != recipe.family:
        raise ValueError(f"{args.init} holds a {family}; learn new text with: python -m train {family} --init")
    for name, value in anew.items():
        if checkpoint.is_smaller(args.init):
            raise ValueError(f"{args.init} was made smaller and keeps its shape; leave out --{name}")
        model = changes[name](model, value)
    return model, tokenizer


def load_trainer(run: Path) -> tuple[dict[str, dict[str, np.ndarray]], dict]:
    """(parts, progress) as `save` was given them, the part "model" among them; one without arrays is empty."""
    path = run / TRAINER
    arrays = read_arrays(path)
    try:
        progress = parse_json(read_metadata(path)["progress"], path)
    except (KeyError, ValueError):
        raise ValueError(f"{path} does not say how far the run was; it is no checkpoint of ours") from None
    parts = defaultdict(dict)
    for name, array in arrays.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = array
    return parts, progress


def blank_model(run: Path) -> Module:
    """A run's model with the layers that its last checkpoint has, ready to go back to it."""
    family, config = checkpoint.load_config(run)
    arrays = load_trainer(run)[0]["model"]
    return checkpoint.made_for(lambda: family.model(config), arrays, run / TRAINER)


def check_learns(model: Module, source: Path) -> None:
    """Refuse to train a model whose weights are integers."""
    if is_quantized(model):
        raise ValueError(f"the weights of {source} are integers, which do not learn; name the run it was made from")


def restore(trainer: Trainer) -> None:
    """Set a trainer back to the last checkpoint of its run."""
    parts, progress = load_trainer(trainer.run)
    trainer.progress = checked(Progress, progress, trainer.run / TRAINER)
    with trainer.flat.full_precision():
        checkpoint.load_weights(trainer.model, parts["model"], trainer.run / TRAINER)
    trainer.config.make_optimizer(trainer.flat).check_state(parts["optimizer"])
    trainer.optimizer_state, trainer.extra = parts["optimizer"], parts["extra"]
    for name, array in trainer.carried.items():
        saved = parts["carried"].get(name)
        if saved is None or saved.shape != array.shape:
            what = f"the checkpoint carries the state of {'none' if saved is None else len(saved)} rows"
            raise ValueError(f"{what}; go on with that --batch, not {len(array)}")
        array[...] = backend.array_module(array).asarray(saved)
    if trainer.loss_scale:
        trainer.loss_scale.value = trainer.progress.loss_scale


@dataclass
class Saved:
    """What a run's trainer.json holds."""

    train: TrainConfig
    data: str | None = None
    objective: dict = field(default_factory=dict)


def load_settings(folder: Path, settings: type) -> tuple[str | None, TrainConfig, object]:
    """(path of its data or None, how it was trained, the settings of its objective), as a run's folder says."""
    path = folder / "trainer.json"
    said = checked(Saved, read_json(path, "the settings of this run"), path)
    return said.data, said.train, checked(settings, said.objective, path)
