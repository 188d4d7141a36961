"""Fine-tuning: a pretrained body and a fresh head learn a task from labelled examples (Devlin et al. 2018, section 4).

The loop is the ordinary Trainer; this file makes what it trains on, and tells after every epoch how good the answers
are. A fine-tuned model's folder is a run's, with the task and the body's family in config.json.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tinytensor as tt
from models.config import check_not_negative, check_positive, check_shares, option
from models.contract import Model
from models.families import FAMILIES, Family, family_of
from models.files import read_json, write_json
from models.inputs import TextInputs
from models.tokenizers import Tokenizer
from models.tokenizers import load as load_tokenizer
from nn import evaluating
from nn.compression import storage
from nn.compression.lora import add_adapters, merge
from tinytensor import backend
from train import checkpoint
from train.objectives.labelled import Labelled
from train.report import Report
from train.tasks import TASKS, Row, Task, Text2Text
from train.tasks.text2text import as_text2text
from train.trainer import TrainConfig, Trainer

TRAINING = dict(batch=16, lr=5e-4, min_lr=0.0, schedule="linear", beta2=0.999, eps=1e-6, weight_decay=0.01)  # BERT's
RECORD = "finetune.json"  # in the run's folder: what it was asked to do, for --resume and for making it smaller
HEAD = ("out.*", "dense.*")  # the parameters of a head (models/heads.py) that are not its body's


@dataclass
class FineTuned:
    """A model for a task, with all it takes to ask it."""

    model: Model
    task: Task
    inputs: TextInputs
    family: Family
    dropout: float
    lora: int = 0

    def rows(self, examples: list[dict]) -> list[Row]:
        """The rows of all examples, one after another."""
        return [row for example in examples for row in self.task.rows(example, self.inputs)]

    def pad(self, arrays: list[dict]) -> dict[str, np.ndarray]:
        """Arrays of (tokens,), or (texts, tokens) where an example has several, as one batch."""
        return self.inputs.pad(arrays, axis=arrays[0]["mask"].ndim - 1)

    def answers(self, examples: list[dict], batch: int = 32) -> list:
        """What the model answers to each example."""
        of_each = [self.task.rows(example, self.inputs) for example in examples]
        rows, objective = [row for some in of_each for row in some], Labelled(self.pad, batch)
        said: list = [None] * len(rows)
        with evaluating(self.model), tt.no_grad():
            for group in objective.evaluation_batches(rows):
                scores = backend.to_numpy(self.model(objective.evaluation_batch(rows, group)).data)
                for i, row_scores in zip(group, scores):
                    said[i] = self.task.decode(rows[i], row_scores)
        decoded = iter(said)
        return [self.task.answer(example, [next(decoded) for _ in some]) for example, some in zip(examples, of_each)]


class FineTuneReport(Report):
    """A Report that also answers the held-out examples at the end of each epoch."""

    axis = "loss"  # of regression, a squared error

    def __init__(self, run: Path, steps: int, tuned: FineTuned, held_out: list[dict], steps_per_epoch: int):
        super().__init__(run, steps)
        self.tuned, self.held_out, self.steps_per_epoch = tuned, held_out, steps_per_epoch
        self.answers: list = []
        self.scores: dict[str, float] = {}

    def evaluated(self, step: int, val_loss: float) -> None:
        self.answers = self.tuned.answers(self.held_out)
        self.scores = self.tuned.task.score(self.held_out, self.answers)
        self._write(step=step, epoch=step / self.steps_per_epoch, **self.scores)
        self._show(**{name: f"{value:.3f}" for name, value in self.scores.items()})
        super().evaluated(step, val_loss)


@dataclass(frozen=True)
class FineTuneConfig:
    """How a model is adapted to a task, beside how it is trained."""

    epochs: int = option(3, "times to go through the examples")
    max_length: int = option(0, "tokens a text is cut to (0: the context)")
    head_dropout: float = option(0.1, "dropout before the head")
    frozen: bool = option(False, "train the head only (and an ELMo's mix of its layers)")
    lora: int = option(0, "train low-rank adapters of this rank and the head, and nothing else (0: train all)")
    language_loss: float = option(0.5, "the share of a GPT's own loss that goes on counting")
    cap: int = option(0, "text2text: the most examples of one task that an epoch takes, drawn anew each time (0: all)")
    both_orders: bool = option(False, "read pairs in both orders: for likeness, which has no direction")

    def __post_init__(self):
        check_positive(self, "epochs")
        check_not_negative(self, "max_length", "lora", "language_loss", "cap")
        check_shares(self, "head_dropout")
        if self.lora and self.frozen:
            raise ValueError("--lora is the rank of the adapters to train, at least 1, and not together with --frozen")


def begin(
    folder: Path, pretrained: tuple[Model, Tokenizer], task: Task, examples: list[dict], held_out: list[dict],
    config: FineTuneConfig, settings: dict, *, smaller: bool = False, going_on: bool = False,
) -> Trainer:
    """A trainer that is ready to fine-tune, in an existing empty folder; or, if going_on, in that of a run.

    pretrained: the model and its tokenizer.   settings: fields of TrainConfig; steps and evaluations follow from the
    epochs.   smaller: whether the model was pruned or shrunk: its files are then read with nn/compression.
    """
    TrainConfig(**({"steps": 1} | settings))  # bad values are named before any work is done
    model, tokenizer = pretrained
    family, seed = family_of(model), settings.get("seed", 0)
    if family.body is None and config.frozen:
        raise ValueError(f"--frozen trains the head only, and a {family.model.__name__} has none; leave it out")
    task, examples, held_out = put_for(family, task, examples, held_out, config.both_orders)
    with tt.random.seeded(seed, 3):  # a GPT gets marks of its own
        body, inputs = family.reader(model, tokenizer, config.max_length)
    body.requires_grad_(not config.frozen)
    if family.body:
        body.go_on_learning(0.0 if config.frozen else config.language_loss)
    with tt.random.seeded(seed, 1):
        head = task.make_head(body, config.head_dropout)
    tuned = FineTuned(head, task, inputs, family, config.head_dropout, config.lora)
    if going_on and checkpoint.is_smaller(folder):
        _fit(head, checkpoint.load_trainer(folder)[0]["model"])
    if config.lora:
        with tt.random.seeded(seed, 2):
            add_adapters(head, config.lora, trained=HEAD)
    rows, held_out_rows = tuned.rows(examples), tuned.rows(held_out)
    batch = settings.get("batch", 16)
    objective = Labelled(tuned.pad, batch, seed, config.cap)
    per_epoch = objective.steps_per_epoch(rows)
    steps = config.epochs * per_epoch
    every = dict(steps=steps, batch=batch, eval_every=per_epoch, save_every=per_epoch, warmup=max(1, steps // 10))
    training = TrainConfig(**(every | settings))
    if not going_on:
        save(folder, tuned, smaller)
        tokenizer.save(folder)
    report = FineTuneReport(folder, steps, tuned, held_out, per_epoch)
    return Trainer(head, objective, rows, held_out_rows, training, folder, report)


def put_for(family: Family, task: Task, examples: list[dict], held_out: list[dict],
            both_orders: bool = False) -> tuple[Task, list[dict], list[dict]]:  # fmt: skip
    """(task, examples, held-out examples) as a family learns them: those without a head as texts to read and write.

    both_orders: whether a head shall read pairs twice.
    """
    if both_orders:
        if family.body is None:
            what = f"a {family.model.__name__} has none; leave it out"
            raise ValueError(f"--both-orders is for heads that read a pair twice, and {what}")
        if not task.pairs:
            raise ValueError(f"--both-orders is for tasks about pairs, not for {task.kind}")
        task = dataclasses.replace(task, both_orders=True)
    if family.body is None and task.kind != Text2Text.kind:
        examples, held_out = as_text2text(task, examples), as_text2text(task, held_out)
        return Text2Text.of(examples, held_out), examples, held_out
    if family.body is not None and task.kind == Text2Text.kind:
        raise ValueError(f"text2text needs a model that reads and writes: a t5, not a {family.name}")
    return task, examples, held_out


def save(folder: Path, tuned: FineTuned, smaller: bool = False) -> None:
    """config.json of a fine-tuned model."""
    write_json(folder / "config.json", {
        "family": "finetuned", "smaller": smaller,
        "task": tuned.task.kind, "task_settings": dataclasses.asdict(tuned.task),
        "body": tuned.family.name, "body_config": dataclasses.asdict(tuned.model.config),
        "max_length": tuned.inputs.max_length, "dropout": tuned.dropout, "lora": tuned.lora,
    })  # fmt: skip


def blank(folder: Path) -> tuple[Model, Tokenizer]:
    """What `begin` takes, for the run in a folder: its model without anything that it has learned."""
    about = checkpoint.read_config(folder)
    if about.get("family") != "finetuned":
        raise ValueError(f"{folder} is no fine-tuned model; make one with: python -m train finetune {folder}")
    try:
        family = FAMILIES[about["body"]]
        model = family.model(family.config(**about["body_config"]))
    except (KeyError, TypeError) as error:
        raise _not_described(folder, error) from None
    return model, load_tokenizer(folder)


def load(folder: Path, which: str = "last") -> FineTuned:
    """The model in the folder of a fine-tuning run, with its last or best weights."""
    (model, tokenizer), about = blank(folder), checkpoint.read_config(folder)
    family = family_of(model)
    try:
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in about["task_settings"].items()}
        task = TASKS[about["task"]](**values)
        max_length, dropout = about["max_length"], about["dropout"]
    except (KeyError, TypeError) as error:
        raise _not_described(folder, error) from None
    body, inputs = family.reader(model, tokenizer, max_length)
    path = folder / checkpoint.WEIGHTS[which]
    head, arrays = task.make_head(body, dropout), checkpoint.read_arrays(path)
    if lora := about.get("lora"):
        if checkpoint.is_smaller(folder):
            _fit(head, arrays)
        add_adapters(head, lora)
    checkpoint.load_weights(head, arrays, path)
    if lora:
        merge(head)
    return FineTuned(head.eval(), task, inputs, family, dropout)


def _fit(head: Model, arrays: dict[str, np.ndarray]) -> None:
    """Give a model the layers that a file's arrays are of, before it gets adapters, which call them `base`."""
    storage.fit(head, {name.replace(".base.", "."): array for name, array in arrays.items()})


def _not_described(folder: Path, error: Exception) -> ValueError:
    return ValueError(f"{folder / 'config.json'} does not describe a fine-tuned model: {error}")


def read_record(folder: Path) -> dict:
    """What a run was asked to do, as the command wrote it down."""
    if not (folder / RECORD).exists():
        raise ValueError(f"{folder} has no {RECORD}, which says what a run was fine-tuned on")
    record = read_json(folder / RECORD, f"what {folder} was fine-tuned on")
    try:
        files = {name: record[name] and Path(record[name]) for name in ("data", "held_out")}
        return record | files | {name: record[name] for name in ("task", "train", "checksum")}
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / RECORD} does not say what {folder} was fine-tuned on: {error}") from None
