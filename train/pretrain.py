"""Pretraining, the same for every family: the run's folder, its tokenizer, the encoded text, the model, the training.

A command (train/commands/gpt.py and its kin) says in a Recipe what sets its family apart, offers the flags with
`add_arguments`, and calls `start`, then `train`; what it does with the trained model is its own affair.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import tinytensor as tt
from models.files import read_json, write_json
from models.tokenizers import Tokenizer
from models.tokenizers import load as load_tokenizer
from nn.compression import storage
from nn.compression.quantize import is_quantized
from train import checkpoint
from train.data.corpus import Corpus, FileSource, StoriesSource, all_text, build_corpus, open_corpus
from train.flags import add_config_flags, given
from train.plots import HINT
from train.report import Report
from train.trainer import TrainConfig, Trainer

# Fields of a model's config that follow from its tokenizer: name -> which of its ids.
SPECIAL = {"pad_id": lambda tokenizer: tokenizer.pad_id, "eos_id": lambda tokenizer: tokenizer.end_id}


@dataclass(frozen=True)
class Recipe:
    """What sets the pretraining of one family apart."""

    family: str  # a key of checkpoint.FAMILIES, and the command's name
    make_objective: Callable  # (model config, TrainConfig, objective config or None, tokenizer) -> an objective
    tokenizers: dict[str, Callable[[Iterable[str], int], Tokenizer]]  # name -> train(texts, vocab_size)
    usual: tuple[str, str]  # which of them is used for the built-in stories, and which for the user's own text
    vocab_size: int  # of a tokenizer that is learned, unless --vocab-size says otherwise
    model: dict  # the fields of the model's config that suit the stories, two cores and a few minutes
    training: dict  # those of TrainConfig
    objective: type | None = None  # a dataclass with the objective's own settings
    encoder: Callable = lambda tokenizer: tokenizer  # tokenizer -> what encodes the corpus, if not it alone
    stories: int = 8_000_000  # characters
    floor: bool = False  # whether every token of the text is predicted once, so that its entropy bounds the loss

    @property
    def config_class(self) -> type:
        return checkpoint.FAMILIES[self.family][1]


@dataclass
class Run:
    """A run that is ready to train, or has trained."""

    recipe: Recipe
    trainer: Trainer
    tokenizer: Tokenizer
    corpus: Corpus

    @property
    def folder(self) -> Path:
        return self.trainer.run


def add_arguments(parser: argparse.ArgumentParser, recipe: Recipe) -> None:
    """The flags of a pretraining command: its data and folder, and every field of its configs."""
    family, (for_stories, for_text) = recipe.family, recipe.usual
    learned = f"{', '.join(recipe.tokenizers)} (learned from the text)"
    usual = for_text if for_stories == for_text else f"{for_stories} for the stories, {for_text} for your own text"
    parser.add_argument("--data", metavar="PATH", help="a UTF-8 text file or a folder of them [built-in stories]")
    parser.add_argument(
        "--stories", metavar="N", type=int, help=f"how many characters of stories to make [{recipe.stories}]"
    )
    parser.add_argument(
        "--out", metavar="RUN", type=Path, help=f"the run's folder, made by this command [runs/{family}-N]"
    )
    parser.add_argument("--overwrite", action="store_true", help="empty the --out folder if it exists")
    parser.add_argument("--resume", metavar="RUN", type=Path, help="go on with this run, with its own settings")
    parser.add_argument(
        "--tokenizer", metavar="HOW", help=f"{learned} or the path of a tokenizer.json [{usual}]"
    )
    parser.add_argument(
        "--init", metavar="MODEL", type=Path,
        help="begin with the weights and the tokenizer of this run or published folder, and learn new text",
    )  # fmt: skip
    known = ", ".join(recipe.config_class.presets)
    parser.add_argument("--preset", metavar="NAME", help=f"start from a known shape: {known}")
    shown = recipe.model | {"vocab_size": "the tokenizer's"}
    add_config_flags(parser, "the model", recipe.config_class, shown, skip=tuple(SPECIAL))
    if recipe.objective:
        add_config_flags(parser, "the objective", recipe.objective)
    add_config_flags(parser, "the training", TrainConfig, recipe.training)


def start(args: argparse.Namespace, recipe: Recipe) -> Run:
    """A new run, or with --resume one that was stopped."""
    return _resume(args, recipe) if args.resume else _begin(args, recipe)


def train(run: Run) -> bool:
    """Train to the end and draw the losses; False, with a word on how to go on, if the user stopped it before."""
    trainer, report = run.trainer, run.trainer.report
    report.start(trainer.progress.step)
    try:
        progress = trainer.train()
    finally:
        report.close()
    drawn = report.draw(run.folder / "loss.png")
    if progress.step < trainer.config.steps:
        print(f"stopped after step {progress.step}; "
              f"go on with: python -m train {run.recipe.family} --resume {run.folder}")
    elif not drawn:
        print(HINT)
    return progress.step >= trainer.config.steps


def describe_folder(run: Run) -> str:
    """One line on where the run is and what is in it."""
    names = sorted(file.name for file in run.folder.iterdir() if file.name[0] != ".")
    return f"the run is in {run.folder}: {', '.join(names)}"


def _begin(args: argparse.Namespace, recipe: Recipe) -> Run:
    """A new run: its folder, tokenizer, token files and model."""
    config = TrainConfig(**(recipe.training | given(args, TrainConfig)))
    objective_config = recipe.objective and recipe.objective(**given(args, recipe.objective))
    first, tokenizer = _first_weights(args, recipe) if args.init else (None, None)
    shape = dataclasses.asdict(first.config) if first else _shape(args, recipe)
    recipe.config_class(**shape)  # bad values are named before any file is read
    source = _source(args, recipe)
    if first is None:
        tokenizer = _tokenizer(args, recipe, source)
        if "vocab_size" not in given(args, recipe.config_class):
            shape["vocab_size"] = tokenizer.vocab_size
        shape |= _special_ids(recipe.config_class, tokenizer)
        checkpoint.check_vocabulary(tokenizer, shape["vocab_size"])
    model_config = recipe.config_class(**shape)
    folder = make_folder(args.out, recipe.family, args.overwrite)
    try:
        checkpoint.save_config(folder, recipe.family, model_config)  # first: it says that the folder is a run's
        tokenizer.save(folder)
        corpus = build_corpus(source, recipe.encoder(tokenizer), folder)
        _save_settings(folder, args.data, config, objective_config)
        with tt.random.seeded(config.seed):
            model = first or checkpoint.FAMILIES[recipe.family][0](model_config)
        run = _run(recipe, model, tokenizer, corpus, config, objective_config, folder)
    except BaseException:
        shutil.rmtree(folder)  # nothing was learned yet: leave no trace of a run that could not begin
        raise
    trainer = run.trainer
    print(f"{model.parameter_count():,} parameters; {corpus.train_split.tokens:,} tokens to train on and "
          f"{corpus.val_split.tokens:,} held out; {trainer.workers} {trainer.kind}; in {folder}")
    return run


def _resume(args: argparse.Namespace, recipe: Recipe) -> Run:
    """A run that was stopped, as it was at its last checkpoint. Settings given now replace those of the run."""
    folder = args.resume
    for name in ("data", "stories", "out", "overwrite", "tokenizer", "preset", "init"):
        if getattr(args, name) not in (None, False):
            raise ValueError(f"--resume goes on with the run's own data and model; leave out --{name}")
    family, model_config = checkpoint.load_config(folder)
    if family != recipe.family:
        raise ValueError(f"{folder} is a run of the family {family}; go on with: python -m train {family} --resume")
    settings = load_settings(folder)
    kept, objective_config = [model_config], None
    if recipe.objective:
        objective_config = checkpoint.made_from(recipe.objective, settings.get("objective"), folder / "trainer.json")
        kept.append(objective_config)
    for kept_config in kept:
        for name, value in given(args, type(kept_config)).items():
            if value != (before := getattr(kept_config, name)):
                flag = "--" + name.replace("_", "-")
                raise ValueError(f"{flag} {value} does not fit: {folder} was made with {before}")
    config = TrainConfig(**(settings["train"] | given(args, TrainConfig)))
    tokenizer = load_tokenizer(folder)
    checkpoint.check_vocabulary(tokenizer, model_config.vocab_size)
    model = checkpoint.FAMILIES[family][0](model_config)
    parts, _ = checkpoint.load_trainer(folder)
    storage.fit(model, parts["model"])  # a model that was pruned has other shapes, and masks
    run = _run(recipe, model, tokenizer, open_corpus(folder), config, objective_config, folder)
    run.trainer.restore()
    done = run.trainer.progress.step
    if done >= config.steps:
        raise ValueError(f"{folder} has all of its {config.steps} steps; ask for more with --steps")
    _save_settings(folder, settings.get("data"), config, objective_config)
    print(f"going on after step {done} of {config.steps}; {run.trainer.workers} {run.trainer.kind}; in {folder}")
    return run


def _run(recipe: Recipe, model, tokenizer, corpus: Corpus, config: TrainConfig, objective_config, folder: Path) -> Run:
    objective = recipe.make_objective(model.config, config, objective_config, tokenizer)
    report = Report(folder, config.steps, corpus.val_split.floor if recipe.floor else None)
    trainer = Trainer(model, objective, corpus.train, corpus.val, config, folder, report)
    return Run(recipe, trainer, tokenizer, corpus)


def _first_weights(args: argparse.Namespace, recipe: Recipe):
    """(model, tokenizer) of --init: its shape is what it is, so the flags of the model have nothing to say."""
    said = [name for name in ("tokenizer", "preset") if getattr(args, name) is not None]
    said += list(given(args, recipe.config_class))
    if said:
        flag = "--" + said[0].replace("_", "-")
        raise ValueError(f"--init goes on with the tokenizer and the shape of {args.init}; leave out {flag}")
    model, tokenizer = checkpoint.load_model(args.init)
    if is_quantized(model):
        raise ValueError(f"the weights of {args.init} are integers, which do not learn; name the run it was made from")
    if (family := checkpoint.family_of(model)) != recipe.family:
        raise ValueError(f"{args.init} holds a {family}; learn new text with: python -m train {family} --init")
    return model, tokenizer


def _shape(args: argparse.Namespace, recipe: Recipe) -> dict:
    """The fields of the model's config: the stories' or a preset's, and what the flags change in them."""
    named = args.preset and dataclasses.asdict(recipe.config_class.preset(args.preset))
    return (named or recipe.model) | given(args, recipe.config_class)


def _tokenizer(args: argparse.Namespace, recipe: Recipe, source) -> Tokenizer:
    """The tokenizer asked for with --tokenizer, learned from the source unless it is a path."""
    how = args.tokenizer or recipe.usual[1 if args.data else 0]
    if how in recipe.tokenizers:
        return recipe.tokenizers[how](all_text(source), vars(args).get("vocab_size", recipe.vocab_size))
    return load_tokenizer(how)


def _special_ids(config_class: type, tokenizer: Tokenizer) -> dict[str, int]:
    """The fields of a model's config that say which tokens pad and end a text."""
    ids = {name: of(tokenizer) for name, of in SPECIAL.items() if hasattr(config_class, name)}
    return {name: id for name, id in ids.items() if id is not None}


def _source(args: argparse.Namespace, recipe: Recipe) -> FileSource | StoriesSource:
    """The text to learn: the user's, or stories."""
    if args.data is None:
        return StoriesSource(recipe.stories if args.stories is None else args.stories)
    if args.stories is not None:
        raise ValueError("--stories makes a text to learn, and --data names one; leave out one of the two")
    return FileSource(args.data)


def make_folder(out: Path | None, family: str, overwrite: bool) -> Path:
    """A new, empty folder for a run: `out`, or the first runs/FAMILY-N that is free."""
    if out is None:
        number = 1
        while Path(f"runs/{family}-{number}").exists():
            number += 1
        out = Path(f"runs/{family}-{number}")
    try:
        if out.exists():
            if not overwrite:
                raise ValueError(f"{out} exists already; choose another --out, go on with --resume, or --overwrite it")
            if any(out.iterdir()) and checkpoint.family_in(out) is None:
                raise ValueError(f"{out} does not look like a run, so it is not overwritten; choose another --out")
            shutil.rmtree(out)
        out.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"{out} cannot be written: {error.strerror}") from None
    return out


def _save_settings(folder: Path, data: str | None, config: TrainConfig, objective_config) -> None:
    settings = {"data": data, "train": dataclasses.asdict(config)}
    if objective_config is not None:
        settings["objective"] = dataclasses.asdict(objective_config)
    write_json(folder / "trainer.json", settings)


def load_settings(folder: Path) -> dict:
    """What a run was trained with: {"data": path or None, "train": fields of TrainConfig}, and perhaps "objective"."""
    path = folder / "trainer.json"
    settings = read_json(path, "the settings of this run")
    checkpoint.made_from(TrainConfig, settings.get("train"), path)
    return settings
