"""Pretraining, the same for every family: the run's folder, its tokenizer, the encoded text, the model, the training.

A command (train/commands/gpt.py and its kin) offers the flags of its recipe (train/recipes.py) with `add_arguments`,
and calls `start`, then `train`; what it does with the trained model is its own affair.
"""

import argparse
import contextlib
import dataclasses
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import tinytensor as tt
from models.files import write_text
from models.schema import Count
from models.tokenizers import Tokenizer
from models.tokenizers import load as load_tokenizer
from nn import Module, shapes_only
from train import checkpoint, cut, resume, runs, watching
from train.data.corpus import Corpus, FileSource, build_corpus
from train.flags import add_config_flags, add_ranks_flag, given, typed
from train.recipes import Recipe
from train.report import HINT, Report, bar
from train.trainer import TrainConfig, Trainer


@dataclass
class Job:
    """What is ready to train, or has trained."""

    recipe: Recipe
    trainer: Trainer
    tokenizer: Tokenizer
    corpus: Corpus

    @property
    def folder(self) -> Path:
        return self.trainer.run


def add_arguments(parser: argparse.ArgumentParser, recipe: Recipe) -> None:
    """The flags of a pretraining command: its data and folder, and every field of its configs."""
    add = parser.add_argument
    family, (for_stories, for_text) = recipe.family, recipe.usual
    learned = f"{', '.join(recipe.tokenizers)} (learned from the text)"
    usual = for_text if for_stories == for_text else f"{for_stories} for the stories, {for_text} for your own text"
    add("--data", metavar="PATH", help="a UTF-8 text file or a folder of them [built-in stories]")
    add("--val", metavar="PATH", help="the text to hold out [the last tenth of every file of --data]")
    add("--stories", metavar="N", type=typed(Count), help=f"characters of built-in text to make [{recipe.stories}]")
    add("--out", metavar="RUN", type=Path, help=f"the run's folder, made by this command [runs/{family}-N]")
    add("--overwrite", action="store_true", help="let it take the place of the run that --out is")
    add("--resume", metavar="RUN", type=Path, help="go on with this run, with its own settings")
    add("--tokenizer", metavar="HOW", help=f"{learned} or the path of a tokenizer.json [{usual}]")
    add("--init", metavar="MODEL", type=Path,
        help="begin with the weights and the tokenizer of this run or published folder, and learn new text")
    add("--tensorboard", action="store_true", help="write events for TensorBoard, too (say so again with --resume)")
    add("--grad-norms", action="store_true", help="log the norm of each layer's gradient, too")
    add_ranks_flag(parser)
    known = ", ".join(recipe.record.config.presets)
    add("--preset", metavar="NAME", help=f"start from a known shape: {known}")
    shown = recipe.model | {"vocab_size": "the tokenizer's"}
    add_config_flags(parser, "the model", recipe.record.config, shown, skip=tuple(recipe.record.ids))
    if dataclasses.fields(recipe.objective.settings):
        add_config_flags(parser, "the objective", recipe.objective.settings)
    add_config_flags(parser, "the training", TrainConfig, recipe.training)


def start(args: argparse.Namespace, recipe: Recipe) -> Job:
    """A new run, or with --resume one that was stopped."""
    begin = (lambda *more: resume.pretraining(*more, _job)) if args.resume else _begin
    return watching.begin(begin, args, recipe) if args.tensorboard or args.grad_norms else begin(args, recipe)


def train(job: Job) -> bool:
    """Train to the end and draw the losses; False, with a word on how to go on, if the user stopped it before."""
    with contextlib.closing(job.trainer.folder):
        finished = runs.train(job.trainer)
    if not finished:
        step, name = job.trainer.progress.step, job.recipe.family
        print(f"stopped after step {step}; go on with: python -m train {name} --resume {job.folder}")
    elif not (job.folder / "loss.png").exists():
        print(f"{HINT}, then: python -m train plot {job.folder}")
    return finished


def save_samples(job: Job, how: str, texts: list[str]) -> None:
    """Write what the trained model wrote into samples.txt, behind what it wrote while it learned."""
    first = f"after {job.trainer.progress.step} steps{how}:\n\n{texts[0]}"
    with contextlib.closing(checkpoint.Folder(job.folder)):
        write_text(job.folder / "samples.txt", job.trainer.report.all_samples(first, *texts[1:]))


def describe(folder: Path) -> str:
    """One line on where the run is and what is in it."""
    return f"the run is in {folder}: {', '.join(sorted(file.name for file in folder.glob('[!.]*')))}"


def _begin(args: argparse.Namespace, recipe: Recipe) -> Job:
    """A new run: its folder, tokenizer, token files and model."""
    record, objective = recipe.record, recipe.objective
    config = TrainConfig(**(recipe.training | given(args, TrainConfig)))
    settings = objective.settings(**given(args, objective.settings))
    first, tokenizer = resume.first_weights(args, recipe) if args.init else (None, None)
    named = args.preset is not None and dataclasses.asdict(record.config.preset(args.preset))
    shape = dataclasses.asdict(first.config) if first else (named or recipe.model) | given(args, record.config)
    blank = record.config(**shape)  # bad values are named before any file is read
    if config.cuts > 1:
        with shapes_only():
            cut.check(first or record.model(blank), config)
    source = _source(args, recipe)
    print(source.said())
    if first is None:
        tokenizer = _tokenizer(args, recipe, source)
        shape.setdefault("vocab_size", tokenizer.vocab_size)
        ids = {name: of(tokenizer) for name, of in record.ids.items()}
        shape |= {name: value for name, value in ids.items() if value is not None}
        checkpoint.check_vocabulary(tokenizer, shape["vocab_size"])
    model_config = record.config(**shape)
    smaller = bool(args.init) and checkpoint.is_smaller(args.init)
    sources = [args.data, args.val, args.init, args.tokenizer not in recipe.tokenizers and args.tokenizer]
    with runs.new_run(args.out, recipe.family, args.overwrite, sources) as folder:
        run = folder.path
        checkpoint.save_config(run, recipe.family, model_config, smaller)
        tokenizer.save(run)
        corpus = build_corpus(source, objective.encoder(tokenizer), run)
        checkpoint.save_settings(run, args.data, config, settings)
        with tt.random.seeded(config.seed):
            model = first or record.model(model_config)
        job = _job(recipe, model, tokenizer, corpus, config, settings, folder)
        checkpoint.seal(run)
        print(f"{model.parameter_count():,} parameters; {corpus.train_split.tokens:,} tokens to train on and "
              f"{corpus.val_split.tokens:,} held out; {job.trainer.workers} {job.trainer.kind}; in {folder.goal}")
    return job


def _job(recipe: Recipe, model: Module, tokenizer: Tokenizer, corpus: Corpus, config: TrainConfig, settings,
         folder: checkpoint.Folder) -> Job:  # fmt: skip
    objective = recipe.objective.make(model.config, config, settings, tokenizer)
    report = Report(folder.path, config.steps, corpus.val_split.floor if recipe.floor else None)
    kind = Trainer if config.cuts == 1 else cut.CutTrainer
    trainer = kind(model, objective, corpus.train, corpus.val, config, folder.path, report)
    trainer.folder = folder
    return Job(recipe, trainer, tokenizer, corpus)


def _tokenizer(args: argparse.Namespace, recipe: Recipe, source) -> Tokenizer:
    """The tokenizer asked for with --tokenizer, learned from the source unless it is a path."""
    how = args.tokenizer or recipe.usual[1 if args.data else 0]
    if how in recipe.tokenizers:
        learned, held_out = source.parts()  # of the latter no more than which characters there are
        texts = bar(chain(learned, held_out if how == "characters" else ()), "learning a vocabulary", unit=" pieces")
        return recipe.tokenizers[how](texts, vars(args).get("vocab_size", recipe.vocab_size))
    return load_tokenizer(how)


def _source(args: argparse.Namespace, recipe: Recipe):
    """The text to learn: the user's, or what is built in."""
    if args.val is not None and args.data is None:
        raise ValueError("--val names a text to hold out; name the one to learn with --data")
    if args.stories is not None and args.data is not None:
        raise ValueError("--stories makes a text to learn, and --data names one; leave out one of the two")
    return FileSource(args.data, args.val) if args.data is not None else recipe.source(args.stories or recipe.stories)
