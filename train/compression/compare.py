"""What the commands that make models smaller share: a run to begin with, a run to leave behind, and the comparison.

Whatever the method, the end is the same table: how good the model is, how many weights it has, how many bytes its file
takes, how long one batch takes it. Without the last three a smaller model is a claim.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import importlib
import math
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors.numpy

import tinytensor as tt
from models.files import write_text
from models.t5 import shift_right
from nn import Module, evaluating
from nn.compression import storage
from nn.compression.quantize import Quantized
from tinytensor import Tensor, backend, ops
from tinytensor.ops.softmax import IGNORED
from train import checkpoint, finetune, parallel, pretrain
from train.data.corpus import open_corpus
from train.flags import check_at_least_1, given
from train.objectives.labelled import Labelled
from train.plots import HINT, draw_curves
from train.report import Report
from train.tasks import TASKS
from train.tasks.examples import examples_of
from train.trainer import TrainConfig, Trainer, evaluate, evaluate_on_all_cores

TARGETS = ("targets", "label", "tags", "choice")  # what the right answers of a batch may be called
OF_TASKS = ("task", "data", "held_out", "examples")  # flags about the examples of a fine-tuned run
DATA_FILES = ("tokenizer.json", "corpus.json", "train.bin", "val.bin", "trainer.json", finetune.RECORD)


class Glimpse:
    """An objective that evaluates on a few batches only: for trainings whose results are measured elsewhere."""

    def __init__(self, objective, batches: int):
        self.objective, self.batches = objective, batches

    def evaluation_batches(self, data, limit: int | None = None) -> list:
        return self.objective.evaluation_batches(data, self.batches)

    def __getattr__(self, name: str):
        if name == "objective":  # not there yet: this object is just being copied
            raise AttributeError(name)
        return getattr(self.objective, name)


@dataclass
class Source:
    """A finished run, to be made smaller: its model, and what it was trained and evaluated on."""

    folder: Path
    family: str
    model: Module
    make_objective: Callable[[TrainConfig], object]
    train_data: object
    val_data: object
    config: TrainConfig  # as it was trained
    save_config: Callable[[Path, Module], None]  # (folder, model): its config.json
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
        return TrainConfig(**(own | given(args, TrainConfig)))

    def trainer(self, model: Module, config: TrainConfig, folder: Path) -> Trainer:
        """What trains a model on this run's data, in a folder made by `new_run`."""
        objective = Glimpse(self.make_objective(config), config.eval_batches)
        report = Report(folder, config.steps)
        return Trainer(model, objective, self.train_data, self.val_data, config, folder, report)

    def loss(self, model: Module, limit: int | None = None) -> float:
        """Nats per prediction on the held-out part, or `limit` batches of it."""
        return self._mean(evaluate, model, limit)

    def accuracy(self, model: Module, limit: int | None = None) -> float:
        """The share of right answers there."""
        return self._mean(accuracy, model, limit)

    @property
    def unit(self) -> str:
        """What a picture shows: perplexity where the loss is about the words of a text, else accuracy in percent."""
        objective = self.make_objective(self.config)
        batch = objective.evaluation_batch(self.val_data, objective.evaluation_batches(self.val_data, 1)[0])
        return "perplexity" if self.model.counts(batch).keys() <= {"targets", "forward", "backward"} else "accuracy (%)"

    def score(self, model: Module, limit: int | None = None) -> float:
        """In that unit."""
        if self.unit == "perplexity":
            return math.exp(min(50.0, self.loss(model, limit)))
        return 100 * self.accuracy(model, limit)

    def _mean(self, of: Callable, model: Module, limit: int | None) -> float:
        """What of(model, objective, data, keys) -> (sum, number) gives on average, all cores sharing the batches."""
        objective = self.make_objective(dataclasses.replace(self.config, batch=16))
        keys = objective.evaluation_batches(self.val_data, limit)
        total, number = evaluate_on_all_cores(model, objective, self.val_data, keys, self.config.workers, of)
        return total / max(1, number)


def add_arguments(parser: argparse.ArgumentParser, how: str) -> None:
    """The flags that all these commands have."""
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a trained run")
    parser.add_argument("--out", metavar="RUN", type=Path, help=f"the folder to make [runs/FAMILY-{how}-N]")
    parser.add_argument("--overwrite", action="store_true", help="empty the --out folder if it exists")
    parser.add_argument(
        "--limit", metavar="N", type=int, default=100, help="held-out batches of 16 to compare models on [100]"
    )
    group = parser.add_argument_group("where RUN was fine-tuned: on other examples than it had (see train finetune)")
    group.add_argument("--task", metavar="TASK", help="one of the stories' sets, or with --data a kind of task")
    group.add_argument("--data", metavar="FILE", type=Path, help="training examples, .tsv or .jsonl")
    group.add_argument("--held-out", metavar="FILE", type=Path, help="examples to measure on")
    group.add_argument("--examples", metavar="N", type=int, help="stories' training examples [1000]")


def open_source(args: argparse.Namespace) -> Source:
    """The run that a command was given, its model on the device that was asked for."""
    backend.cpu.tune_malloc()  # as for training, or page faults would be what is timed
    check_at_least_1(args, "limit")
    device = given(args, TrainConfig).get("device", "cpu")
    source = source_of(args.run, {n: getattr(args, n) for n in OF_TASKS if getattr(args, n) is not None})
    source.model.to(device)
    return dataclasses.replace(source, device=device)


def source_of(folder: Path, examples: dict | None = None) -> Source:
    """A finished run.   examples: for one that was fine-tuned, what of OF_TASKS says which other ones to take."""
    examples = examples or {}
    first = next((f"--{name.replace('_', '-')}" for name in examples), None)
    if finetune.is_finetuned(folder):
        if examples and "task" not in examples:
            raise ValueError(f"{first} says which examples to take of a task; add --task")
        return _finetuned_source(folder, examples)
    if examples:
        raise ValueError(f"{first} is about runs that were fine-tuned for a task, which {folder} was not; leave it out")
    return _pretrained_source(folder)


def _pretrained_source(folder: Path) -> Source:
    family, config = checkpoint.load_config(folder)
    model, tokenizer = checkpoint.load_model(folder)
    recipe = importlib.import_module(f"train.commands.{family}").RECIPE
    settings = pretrain.load_settings(folder)
    path = folder / "trainer.json"
    own = recipe.objective and checkpoint.made_from(recipe.objective, settings.get("objective"), path)
    corpus = open_corpus(folder)
    return Source(
        folder,
        family,
        model,
        lambda training: recipe.make_objective(config, training, own, tokenizer),
        corpus.train,
        corpus.val,
        TrainConfig(**settings["train"]),
        lambda out, smaller: checkpoint.save_config(out, family, smaller.config),
    )


def _finetuned_source(folder: Path, examples: dict) -> Source:
    """A fine-tuned run, on the examples it had, unless others are named."""
    tuned = finetune.load(folder)
    kind, *examples = examples_of(**(examples or finetune.read_record(folder)))
    _, *examples = finetune.put_for(tuned.family, TASKS[kind].of(*examples), *examples)
    training, held_out = (tuned.rows(some)[0] for some in examples)
    dropout = checkpoint.read_config(folder)["dropout"]
    return Source(
        folder,
        tuned.family,
        tuned.model,
        lambda config: Labelled(tuned.pad, config.batch, config.seed),
        training,
        held_out,
        TrainConfig(**finetune.TRAINING),
        lambda out, smaller: finetune.save(out, dataclasses.replace(tuned, model=smaller), dropout),
    )


def new_run(source: Source, out: Path | None, how: str, overwrite: bool) -> Path:
    """A folder like the source's, with its data and tokenizer, for what is made of its model."""
    folder = pretrain.make_folder(out, f"{source.family}-{how}", overwrite)
    for name in DATA_FILES:
        if (source.folder / name).exists():
            shutil.copy(source.folder / name, folder / name)
    source.save_config(folder, source.model)
    return folder


def finish_run(source: Source, folder: Path, model: Module) -> None:
    """Leave only the finished model in the folder: its config and weights, without what training it needed."""
    for name in (checkpoint.TRAINER, checkpoint.WEIGHTS["best"]):
        (folder / name).unlink(missing_ok=True)
    source.save_config(folder, model)
    checkpoint.save_weights(folder, model)


def fine_tune(source: Source, model: Module, folder: Path, config: TrainConfig, prepare=lambda trainer: None) -> None:
    """Train a model on a run's data; prepare(trainer) is called first. A stopped training is an error here."""
    trainer = source.trainer(model, config, folder)
    prepare(trainer)
    trainer.report.start(0)
    try:
        progress = trainer.train()
    finally:
        trainer.report.close()
    if progress.step < config.steps:
        raise ValueError(f"stopped after step {progress.step} of {config.steps}; nothing was compared")
    trainer.report.draw(folder / "loss.png")
    trainer.optimizer.flat.keep_full_precision()
    model.eval()


def answers(model: Module, batch: dict) -> Tensor:
    """The scores of all answers: (B, T, V) at every token of a language model, (B, K) for the classes of a text."""
    if hasattr(model, "mlm"):  # a BERT with its pretraining heads
        return model(batch["ids"], batch.get("token_types"), batch.get("mask")).mlm_logits
    if hasattr(model, "body"):  # a head for a task
        return model(batch)
    if hasattr(model, "mix"):  # an ELMo: the forward half
        x, _ = model.read(*2 * [model.encoder(batch["ids"])], model.new_state(len(batch["ids"])))
        return ops.linear(x[-1], model.softmax.weight, model.softmax.bias)
    if hasattr(model, "decoder"):  # a T5
        return model(batch["ids"], shift_right(batch["targets"], model.config.pad_id), batch.get("mask"))
    if hasattr(model, "new_cache"):  # a GPT
        return model(batch["ids"])
    raise ValueError(f"what a {type(model).__name__} answers is not known here")


def accuracy(model: Module, objective, data, keys: list) -> tuple[float, int]:
    """(number of right answers, number of questions) over some batches: is the highest score that of the target?"""
    right = count = 0
    with evaluating(model), tt.no_grad():
        for key in keys:
            batch = objective.evaluation_batch(data, key)
            targets = next(batch[name] for name in TARGETS if name in batch)
            chosen = backend.to_numpy(answers(model, batch).data).argmax(axis=-1)
            right += int((chosen == targets).sum())
            count += int((targets != IGNORED).sum())
    return right, count


@dataclass(frozen=True)
class Measured:
    """One line of the comparison."""

    name: str
    loss: float
    accuracy: float
    parameters: int
    bytes: int
    milliseconds: float
    tokens_per_s: float

    def score(self, unit: str) -> float:
        return 100 * self.accuracy if unit == "accuracy (%)" else math.exp(min(50.0, self.loss))


def measure(source: Source, name: str, model: Module, limit: int | None = None) -> Measured:
    """How good (on `limit` batches of the held-out part, or all of it), large and fast a model is."""
    model.eval()
    size = len(safetensors.numpy.save(storage.state(model)))
    objective = source.make_objective(dataclasses.replace(source.config, batch=8))
    batch = objective.evaluation_batch(source.val_data, objective.evaluation_batches(source.val_data, 1)[0])
    seconds = time_forward(model, batch)
    rows, T = batch["ids"].shape[:2]
    quality = source.loss(model, limit), source.accuracy(model, limit)
    return Measured(name, *quality, weight_count(model), size, 1e3 * seconds, rows * T / seconds)


def time_forward(model: Module, batch: dict, seconds: float = 0.5) -> float:
    """The median time of the model's loss of a batch, without gradients, over about so many seconds.

    On one core it is the CPU's time, which other work on the machine disturbs little; on a GPU it ends when the loss is
    known.
    """
    clock = time.perf_counter if model.parameters()[0].device == "cuda" else time.process_time
    with tt.no_grad(), parallel.blas_threads(1):
        model.loss(batch).item()
        times, end = [], time.perf_counter() + seconds
        while len(times) < 3 or time.perf_counter() < end:
            start = clock()
            model.loss(batch).item()
            times.append(clock() - start)
    return statistics.median(times)


def weight_count(model: Module) -> int:
    """How many weights there are that are not masked, however few bits they have."""
    matrices = {id(m.codes): len(m.codes) * m.columns for m in model.modules() if isinstance(m, Quantized)}
    count = 0
    for parameter in model.parameters():
        if id(parameter) in matrices:
            count += matrices[id(parameter)]
        elif parameter.requires_grad:  # scales and the like are no weights
            count += parameter.size if parameter.mask is None else int(parameter.mask.sum())
    return count


def table(lines: list[Measured]) -> str:
    """The comparison as a Markdown table; shares are of the first line."""
    first = lines[0]
    rows = [("model", "loss", "accuracy", "parameters", "bytes", "share", "ms", "tokens/s", "faster")]
    for m in lines:
        rows.append((
            m.name, f"{m.loss:.4f}", f"{m.accuracy:.2%}", f"{m.parameters:,}", f"{m.bytes:,}",
            f"{m.bytes / first.bytes:.3f}", f"{m.milliseconds:.1f}", f"{m.tokens_per_s:,.0f}",
            f"{first.milliseconds / m.milliseconds:.2f}x",
        ))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    text = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        text.append(f"| {' | '.join(cells)} |")
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([text[0], f"| {' | '.join(rule)} |", *text[1:]])


def conclude(folder: Path, lines: list[Measured], curves: dict, axis: str, unit: str, title: str) -> None:
    """Print the comparison, keep it in comparison.md, and draw the curves into comparison.png."""
    text = table(lines)
    print(text)
    write_text(folder / "comparison.md", text + "\n")
    if draw_curves(folder / "comparison.png", curves, axis, unit, title):
        print(f"the run is in {folder}, the picture in {folder / 'comparison.png'}")
    else:
        print(f"the run is in {folder}; {HINT}")


def duplicate(model: Module) -> Module:
    """A copy that shares nothing with the model."""
    return copy.deepcopy(model)
