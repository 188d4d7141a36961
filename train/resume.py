"""What begins with something that was learned before: a run that goes on, or a new one with the weights of another."""

import argparse
import dataclasses
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from models.families import family_of
from models.files import parse_json, read_json, read_metadata
from models.schema import checked
from models.tokenizers import load as load_tokenizer
from nn import Module
from nn.compression import is_quantized
from tinytensor import backend
from train import checkpoint
from train.data.corpus import open_corpus
from train.flags import given
from train.recipes import Recipe
from train.trainer import Progress, TrainConfig, Trainer


def pretraining(args: argparse.Namespace, recipe: Recipe, job_of: Callable):
    """The job of a run that was stopped, as it was at its last checkpoint. Settings given now replace those of the run.

    job_of: makes it of a recipe, a model, a tokenizer and so on.
    """
    folder = args.resume
    for name in ("data", "val", "stories", "out", "overwrite", "tokenizer", "preset", "init"):
        if vars(args)[name] not in (None, False):
            raise ValueError(f"--resume goes on with the run's own data and model; leave out --{name}")
    record, model_config = checkpoint.load_config(folder)
    if (name := record.name) != recipe.family:
        raise ValueError(f"{folder} is a run of the family {name}; go on with: python -m train {name} --resume")
    data, was, settings = load_settings(folder, recipe.objective.settings)
    for kept in (model_config, settings):
        for name, value in given(args, type(kept)).items():
            if value != (before := vars(kept)[name]):
                flag = "--" + name.replace("_", "-")
                raise ValueError(f"{flag} {value} does not fit: {folder} was made with {before}")
    config = dataclasses.replace(was, **given(args, TrainConfig))
    tokenizer = load_tokenizer(folder)
    checkpoint.check_vocabulary(tokenizer, model_config.vocab_size)
    corpus = open_corpus(folder, len(tokenizer.tokens))
    job = job_of(recipe, blank_model(folder), tokenizer, corpus, config, settings, folder)
    restore(job.trainer)
    if (done := job.trainer.progress.step) >= config.steps:
        raise ValueError(f"{folder} has all of its {config.steps} steps; ask for more with --steps")
    checkpoint.save_settings(folder, data, config, settings)
    print(f"going on after step {done} of {config.steps}; {job.trainer.workers} {job.trainer.kind}; in {folder}")
    return job


def first_weights(args: argparse.Namespace, recipe: Recipe):
    """(model, tokenizer) of --init: its shape is what it is, so the flags of the model have nothing to say."""
    said = [n for n in ("tokenizer", "preset") if vars(args)[n] is not None] + [*given(args, recipe.record.config)]
    if said:
        flag = "--" + said[0].replace("_", "-")
        raise ValueError(f"--init goes on with the tokenizer and the shape of {args.init}; leave out {flag}")
    model, tokenizer = checkpoint.load_model(args.init)
    check_learns(model, args.init)
    if (family := family_of(model).name) != recipe.family:
        raise ValueError(f"{args.init} holds a {family}; learn new text with: python -m train {family} --init")
    return model, tokenizer


def load_trainer(run: Path) -> tuple[dict[str, dict[str, np.ndarray]], dict]:
    """(parts, progress) as save_trainer was given them, the part "model" among them; one without arrays is empty."""
    path = run / checkpoint.TRAINER
    arrays = checkpoint.read_arrays(path)
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
    return checkpoint.made_for(lambda: family.model(config), arrays, run / checkpoint.TRAINER)


def check_learns(model: Module, source: Path) -> None:
    """Refuse to train a model whose weights are integers."""
    if is_quantized(model):
        raise ValueError(f"the weights of {source} are integers, which do not learn; name the run it was made from")


def restore(trainer: Trainer) -> None:
    """Set a trainer back to the last checkpoint of its run."""
    parts, progress = load_trainer(trainer.run)
    trainer.progress = checked(Progress, progress, trainer.run / checkpoint.TRAINER)
    with trainer.flat.full_precision():
        checkpoint.load_weights(trainer.model, parts["model"], trainer.run / checkpoint.TRAINER)
    trainer.config.make_optimizer(trainer.flat).check_state(parts["optimizer"])
    trainer.optimizer_state = parts["optimizer"]
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
