"""What the commands that make models smaller share: a run to begin with, and a run to leave behind.

Whatever the method, the end is the same table (measure.py).
"""

import argparse
import dataclasses
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tinytensor as tt
from models.contract import Model
from models.files import checksums, in_json, in_safetensors, intact, write_json
from models.schema import Count, Million
from nn import evaluating
from tinytensor import backend
from tinytensor.ops.softmax import IGNORED
from train import checkpoint, finetune, resume, runs
from train.data.corpus import open_corpus
from train.evaluation import evaluate_on_all_cores
from train.flags import given, typed
from train.objectives.labelled import Labelled
from train.recipes import OBJECTIVES
from train.report import Report
from train.tasks import TASKS
from train.tasks.examples import examples_of
from train.trainer import TrainConfig, Trainer, evaluate

ACCURACY = "accuracy (%)"  # one of the units that models are compared in
OF_TASKS = ("task", "data", "held_out", "examples")  # flags about the examples of a fine-tuned run
DATA_FILES = ("tokenizer.json", "corpus.json", "train.bin", "val.bin", "trainer.json", finetune.RECORD)


@dataclass
class Source:
    """A finished run, to be made smaller: its model, and what it was trained and evaluated on."""

    folder: Path
    family: str
    model: Model
    unit: str  # in which models are compared: "perplexity", "accuracy (%)" or "squared error"
    make_objective: Callable[[TrainConfig], object]
    train_data: object
    val_data: object
    config: TrainConfig  # as it was trained
    about: Callable[[Model], dict]  # what config.json says of a model made of it
    fine_tuned: bool = False
    device: str = "cpu"  # where the model is

    def batches(self, number: int, first: int = 1_000_000) -> list[dict]:
        """Batches of training data for scores and calibration, other ones than training begins with."""
        objective = self.make_objective(self.config)
        return [objective.training_batch(self.train_data, first + n) for n in range(number)]

    def training(self, args: argparse.Namespace, usual: dict | None = None) -> TrainConfig:
        """How to train what is made of the model, where flags say nothing else: as the run was, or only on batches like
        its own and for the rest as `usual`."""
        here = {"workers": 0} if self.device == "cuda" else {"dtype": "float32", "graph": False}
        own = vars(self.config) | here | {"device": self.device}
        if usual is not None:
            kept = ("batch", "seed", "workers", "worker_kind", "device")
            own = {name: own[name] for name in kept} | usual
        config = TrainConfig(**(own | {"tensor": 1, "experts_over": 1} | given(args, TrainConfig)))
        if config.cuts > 1:
            raise ValueError("--tensor and --experts-over are for pretraining and finetune; leave them out")
        return config

    def loss(self, model: Model, limit: int | None = None) -> float:
        """Nats per prediction on the held-out part, or `limit` batches of it."""
        return self._mean(evaluate, model, limit)

    def accuracy(self, model: Model, limit: int | None = None) -> float:
        """The share of right answers there."""
        return self._mean(accuracy, model, limit)

    def score(self, model: Model, limit: int | None = None) -> float:
        """In its unit."""
        return in_unit(self.unit, (self.accuracy if self.unit == ACCURACY else self.loss)(model, limit))

    def measured_on(self, limit: int | None = None) -> str:
        """What that is, in words."""
        objective = self.make_objective(dataclasses.replace(self.config, batch=16))
        return f"{len(objective.evaluation_batches(self.val_data, limit)):,} held-out batches of 16"

    def _mean(self, of: Callable, model: Model, limit: int | None) -> float:
        """What of(model, objective, data, keys) -> (sum, number) gives on average, all cores sharing the batches."""
        objective = self.make_objective(dataclasses.replace(self.config, batch=16))
        keys = objective.evaluation_batches(self.val_data, limit)
        total, number = evaluate_on_all_cores(model, objective, self.val_data, keys, self.config.workers, of)
        return total / max(1, number)


def add_arguments(parser: argparse.ArgumentParser, how: str) -> None:
    """The flags that all these commands have."""
    add = parser.add_argument
    add("run", metavar="RUN", type=Path, nargs="?", help="the folder of a trained run")
    add("--out", metavar="RUN", type=Path, help=f"the folder to make [runs/FAMILY-{how}-N]")
    add("--overwrite", action="store_true", help="let it take the place of the run that --out is")
    add("--resume", metavar="RUN", type=Path, help="go on with a run that this command was stopped in")
    add("--limit", metavar="N", type=typed(Count), default=100, help="held-out batches of 16 to compare on [100]")
    group = parser.add_argument_group("where RUN was fine-tuned: on other examples than it had (see train finetune)")
    group.add_argument("--task", metavar="TASK", help="one of the stories' sets, or with --data a kind of task")
    group.add_argument("--data", metavar="FILE", type=Path, help="training examples, .csv, .tsv or .jsonl")
    group.add_argument("--held-out", metavar="FILE", type=Path, help="examples to measure on")
    group.add_argument("--examples", metavar="N", type=typed(Million), help="stories' training examples [1000]")


def add_curve_flag(parser: argparse.ArgumentParser, over: str) -> None:
    parser.add_argument("--curve", action="store_true", help=f"also measure {over}, without training, for the picture")


def begun(args: argparse.Namespace, command: str, add_arguments: Callable) -> argparse.Namespace:
    """What to do: as the flags say, or, with --resume, as they said when the run was begun."""
    if args.run is None and args.resume is None:
        raise ValueError(f"say which run to begin with: python -m train {command} RUN")

    def check(run: Path) -> None:
        if all((run / name).exists() for name in (resume.COMMAND, checkpoint.WEIGHTS["last"])):
            raise ValueError(f"{run} has ended; go on from it as from any run: python -m train {command} RUN")
        resume.check_goes_on(run, command)

    return resume.as_begun(args, command, add_arguments, check)


def open_source(args: argparse.Namespace) -> Source:
    """The run that a command was given, its model on the device that was asked for."""
    backend.cpu.tune_malloc()  # as for training, or page faults would be what is timed
    device = given(args, TrainConfig).get("device", "cpu")
    source = source_of(args.run, {n: vars(args)[n] for n in OF_TASKS if vars(args)[n] is not None})
    source.model.to(device)
    print(f"compared on {source.measured_on(args.limit)}, which {args.run} was not trained on")
    return dataclasses.replace(source, device=device)


def source_of(folder: Path, examples: dict | None = None) -> Source:
    """A finished run.   examples: for one that was fine-tuned, what of OF_TASKS says which other ones to take."""
    first = next((f"--{name.replace('_', '-')}" for name in examples or ()), None)
    if checkpoint.family_in(folder) == "finetuned":
        if examples and "task" not in examples:
            raise ValueError(f"{first} says which examples to take of a task; add --task")
        return _finetuned_source(folder, examples)
    if examples:
        raise ValueError(f"{first} is about runs that were fine-tuned for a task, which {folder} was not; leave it out")
    record, config = checkpoint.load_config(folder)
    model, tokenizer = checkpoint.load_model(folder)
    objective, corpus = OBJECTIVES[record.objective], open_corpus(folder, len(tokenizer.tokens))
    _, trained, settings = resume.load_settings(folder, objective.settings)
    return Source(
        folder, record.name, model, record.unit, lambda training: objective.make(config, training, settings, tokenizer),
        corpus.train, corpus.val, trained,
        lambda smaller: checkpoint.about(record.name, smaller.config, smaller=True),
    )


def _finetuned_source(folder: Path, examples: dict | None) -> Source:
    """A fine-tuned run, on the examples it had, unless others are named."""
    tuned = finetune.load(folder)
    kind, *examples = examples_of(**(examples or finetune.read_record(folder)))
    _, *examples = finetune.put_for(tuned.family, TASKS[kind].of(*examples), *examples)
    training, held_out = (tuned.rows(some) for some in examples)
    return Source(
        folder, tuned.family.name, tuned.model, tuned.task.unit,
        lambda config: Labelled(tuned.pad, config.batch, config.seed), training, held_out,
        TrainConfig(**finetune.TRAINING), fine_tuned=True,
        about=lambda smaller: finetune.about(dataclasses.replace(tuned, model=smaller), smaller=True),
    )


@contextmanager
def new_run(source: Source, args: argparse.Namespace, command: str, how: str) -> Iterator[checkpoint.Folder]:
    """A folder with the source's data and tokenizer for what is made of its model; or that of a run that goes on."""
    if args.resume:
        with resume.going_on(args.resume) as folder:
            yield folder
        return folder.close()
    sources = args.run, args.data, args.held_out
    with runs.new_run(args.out, f"{source.family}-{how}", args.overwrite, sources) as folder:
        for name in DATA_FILES:
            if (source.folder / name).exists():
                shutil.copy(intact(source.folder / name), folder.path / name)
        write_json(folder.path / resume.COMMAND, {"command": command, "words": args.words})
        write_json(folder.path / "config.json", source.about(source.model))
        checkpoint.seal(folder.path)
        yield folder
    folder.close()


def finish_run(source: Source, folder: checkpoint.Folder, model: Model) -> None:
    """Leave only the finished model in the folder: its config and weights, without what training it needed."""
    gone = [name for name in checksums(folder.path) if name.startswith("trained") or name == checkpoint.TRAINER]
    weights = in_safetensors(checkpoint.arrays_of(model))
    files = {"config.json": in_json(source.about(model)), checkpoint.WEIGHTS["last"]: weights}
    checkpoint.replace_files(folder.path, files, gone)
    folder.appear()


def fine_tune(source: Source, model: Model, folder: checkpoint.Folder, config: TrainConfig, part: str = "",
              prepare=lambda trainer: None, heard_by: type[Report] = Report) -> None:  # fmt: skip
    """Train a model on a run's data; prepare(trainer) is called first. A stopped training is an error here.

    part: which one of several trainings it is, for the names of its files. What has been trained is not trained again.
    """
    done = f"trained{part}.safetensors"
    if (folder.path / done).exists():
        checkpoint.load_weights(model, checkpoint.read_arrays(folder.path / done), folder.path / done)
        model.eval()
        return
    objective = source.make_objective(config)
    report = heard_by(folder.path, config.steps, metrics=f"metrics{part}.jsonl")
    trainer = Trainer(model, objective, source.train_data, source.val_data, config, folder.path, report)
    trainer.whole, trainer.usable, trainer.folder = False, False, folder
    if (folder.path / checkpoint.TRAINER).exists():
        resume.restore(trainer)
    prepare(trainer)
    if not runs.train(trainer):
        command = resume.begun_by(folder.path).command
        go_on = f"go on with: python -m train {command} --resume {folder.path}"
        raise resume.Stopped(f"stopped after step {trainer.progress.step} of {config.steps}; {go_on}")
    trainer.flat.keep_full_precision()
    weights = in_safetensors(checkpoint.arrays_of(model))
    checkpoint.replace_files(folder.path, {done: weights}, [checkpoint.TRAINER])
    model.eval()


def accuracy(model: Model, objective, data, keys: list) -> tuple[float, int]:
    """(number of right answers, number of questions) over some batches: is the highest score that of the target?"""
    right = count = 0
    with evaluating(model), tt.no_grad():
        for key in keys:
            batch = objective.evaluation_batch(data, key)
            targets = backend.to_numpy(model.right(batch))
            chosen = backend.to_numpy(model.scores(batch).data).argmax(axis=-1)
            right += int((chosen == targets).sum())
            count += int((targets != IGNORED).sum())
    return right, count


def in_unit(unit: str, value: float) -> float:
    """A mean loss as perplexity, a share of right answers in percent, a squared error as it is."""
    return math.exp(min(50.0, value)) if unit == "perplexity" else 100 * value if unit == ACCURACY else value
