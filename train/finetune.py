"""Fine-tuning: a pretrained body and a fresh head learn a task from labelled examples (Devlin et al. 2018, section 4).

The loop is the ordinary Trainer; this file makes what it trains on, and tells after every epoch how good the answers
are. A fine-tuned model's folder is a run's, with the task and the body's family in config.json.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

import tinytensor as tt
from models.config import option
from models.contract import Model
from models.families import FAMILIES, Family, family_of
from models.files import read_json, write_json
from models.inputs import TextInputs
from models.schema import Count, Few, NotNegative, Share, Size, Whole, check_fields, checked
from models.t5 import shift_right
from models.tokenizers import Tokenizer
from models.tokenizers import load as load_tokenizer
from nn import evaluating, shapes_only
from nn.compression import storage
from nn.compression.lora import add_adapters, merge
from tinytensor import backend
from train import checkpoint, cut, resume
from train.objectives.infilling import misread
from train.objectives.labelled import Labelled
from train.report import Report, bar
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

    def read(self, examples: list[dict], batch: int = 32) -> list[tuple[list[Row], list[np.ndarray]]]:
        """(its rows, what the model's head says of each) of all examples."""
        of_each = [self.task.rows(example, self.inputs) for example in examples]
        rows, objective = [row for some in of_each for row in some], Labelled(self.pad, batch)
        said: list = [None] * len(rows)
        with evaluating(self.model), tt.no_grad():
            for group in bar(objective.evaluation_batches(rows), "answering"):
                scores = backend.to_numpy(self.model(objective.evaluation_batch(rows, group)).data)
                for i, row_scores in zip(group, scores):
                    said[i] = row_scores
        each = iter(said)
        return [(some, [next(each) for _ in some]) for some in of_each]

    def answers(self, examples: list[dict], batch: int = 32) -> list:
        """What the model answers to each example."""
        decoded = [list(map(self.task.decode, *read)) for read in self.read(examples, batch)]
        return list(map(self.task.answer, examples, decoded))


class FineTuneReport(Report):
    """A Report that also answers the held-out examples at the end of each epoch."""

    axis = "loss"  # of regression, a squared error

    def __init__(self, run: Path, steps: int, tuned: FineTuned, held_out: list[dict], steps_per_epoch: float):
        super().__init__(run, steps)
        self.tuned, self.held_out, self.steps_per_epoch = tuned, held_out, steps_per_epoch
        self.answers: list = []
        self.scores: dict[str, float] = {}

    def answer(self) -> None:
        self.answers = self.tuned.answers(self.held_out)
        right = self.tuned.task.told(self.held_out, self.tuned.inputs.tokenizer)
        self.scores = self.tuned.task.score(right, self.answers)

    def evaluated(self, step: int, val_loss: float) -> None:
        self.answer()
        self.write(step=step, epoch=step / self.steps_per_epoch, **self.scores)
        self._show(**{name: f"{value:.3f}" for name, value in self.scores.items()})
        super().evaluated(step, val_loss)


@dataclass(frozen=True)
class FineTuneConfig:
    """How a model is adapted to a task, beside how it is trained."""

    epochs: Few = option(3, "times to go through the examples")
    max_length: Whole = option(0, "tokens a text is cut to (0: the context)")
    head_dropout: Share = option(0.1, "dropout before the head")
    frozen: bool = option(False, "train the head only (and an ELMo's mix of its layers)")
    lora: Whole = option(0, "train low-rank adapters of this rank and the head, and nothing else (0: train all)")
    language_loss: NotNegative = option(0.5, "the share of a GPT's own loss that goes on counting")
    cap: Whole = option(0, "text2text: the most examples of one task in an epoch, drawn anew each time (0: all)")
    noise: Share = option(0.0, "text2text: share of the words so far that are read as random others (ERNIE-GEN: 0.5)")
    label_smoothing: Share = option(0.0, "text2text: the part of each target that is spread over all tokens (0.1)")
    both_orders: bool = option(False, "read pairs in both orders: for likeness, which has no direction")

    def __post_init__(self):
        check_fields(self)
        if self.lora and self.frozen:
            raise ValueError("--lora is the rank of the adapters to train, at least 1, and not together with --frozen")


def begin(
    folder: Path, pretrained: tuple[Model, Tokenizer] | None, task: Task, examples: list[dict], held_out: list[dict],
    config: FineTuneConfig, settings: dict, *, smaller: bool = False,
) -> Trainer:
    """A trainer that is ready to fine-tune, in an existing empty folder; or to go on, in that of a run.

    pretrained: the model and its tokenizer; None: what the run's last checkpoint has.   settings: fields of
    TrainConfig; steps and evaluations follow from the epochs.   smaller: whether the model was pruned or shrunk: its
    files are then read with nn/compression.
    """
    asked = TrainConfig(**({"steps": 1} | settings))  # bad values are named before any work is done
    going_on, seed = pretrained is None, settings.get("seed", 0)
    family = FAMILIES[read_saved(folder).body] if going_on else family_of(pretrained[0])
    if config.frozen and (family.body is None or task.talks):
        raise ValueError(f"--frozen trains the head only, and a {family.model.__name__} has none; leave it out")
    _check_writing(family, config, asked)
    task, examples, held_out = put_for(family, task, examples, held_out, config.both_orders)
    if going_on:
        arrays = resume.load_trainer(folder)[0]["model"]
        fit = arrays if checkpoint.is_smaller(folder) else None
        with shapes_only(most=2 * len(arrays)):
            tuned = _with_head(family, blank(folder), task, config, seed, fit)
        checkpoint.load_weights(tuned.model, arrays, folder / checkpoint.TRAINER, assign=True)
    else:
        tuned = _with_head(family, pretrained, task, config, seed)
    if asked.experts_over > 1:  # an epoch's last batch may have no rows for some of them, who could not keep step
        raise ValueError("--experts-over is for pretraining; leave it out")
    if asked.cuts > 1:
        cut.check(tuned.model, asked)
    rows, held_out_rows = tuned.rows(examples), tuned.rows(held_out)
    batch = settings.get("batch", 16)
    objective = Labelled(tuned.pad, batch, seed, config.cap, _noise(tuned, config.noise) if config.noise else None)
    per_epoch = objective.steps_per_epoch(rows) / settings.get("accumulate", 1)
    steps, whole = math.ceil(config.epochs * per_epoch), max(1, int(per_epoch))
    every = dict(steps=steps, batch=batch, eval_every=whole, save_every=whole, warmup=max(1, steps // 10))
    training = TrainConfig(**(every | settings))
    if not going_on:
        write_json(folder / "config.json", about(tuned, smaller))
        tuned.inputs.tokenizer.save(folder)
    report = FineTuneReport(folder, steps, tuned, held_out, per_epoch)
    kind = Trainer if training.cuts == 1 else cut.CutTrainer
    return kind(tuned.model, objective, rows, held_out_rows, training, folder, report)


def _with_head(family: Family, pretrained: tuple[Model, Tokenizer], task: Task, config: FineTuneConfig, seed: int,
               arrays: dict[str, np.ndarray] | None = None) -> FineTuned:  # fmt: skip
    """A pretrained model that is to learn a task.   arrays: of a smaller one's file, which say what layers it has."""
    with tt.random.seeded(seed, 3):  # a GPT gets marks of its own
        body, inputs = family.reader(*pretrained, config.max_length, talks=_talks(family, task))
    body.requires_grad_(not config.frozen)
    if family.body and not task.talks:
        body.go_on_learning(0.0 if config.frozen else config.language_loss)
    else:
        body.label_smoothing = config.label_smoothing
    with tt.random.seeded(seed, 1):
        head = task.make_head(body, config.head_dropout)
    if arrays is not None:
        _fit(head, arrays)
    if config.lora:
        with tt.random.seeded(seed, 2):
            add_adapters(head, config.lora, trained=HEAD)
    return FineTuned(head, task, inputs, family, config.head_dropout, config.lora)


def _check_writing(family: Family, config: FineTuneConfig, asked: TrainConfig) -> None:
    """Noise and label smoothing are for models that write, and the latter for whole tables of words."""
    for name in ("noise", "label_smoothing"):
        if family.body is not None and (value := vars(config)[name]):
            what = f"--{name.replace('_', '-')} {value} is for what writes its answers"
            raise ValueError(f"{what}, and a {family.name} has a head that chooses them; leave it out")
    if config.label_smoothing and asked.tensor > 1:
        raise ValueError(f"--label-smoothing needs the whole table of words, which --tensor {asked.tensor} cuts")


def _noise(tuned: FineTuned, share: float) -> Callable[[dict, np.random.Generator], dict]:
    """Adds to a batch of training what is read of its targets, some of it wrong (Xiao et al. 2020)."""
    start, vocab_size = tuned.model.config.start_id, tuned.inputs.tokenizer.vocab_size
    wrong = lambda targets, draw: misread(shift_right(targets, start), share, vocab_size, draw)
    return lambda batch, draw: batch | {"read": wrong(batch["targets"], draw)}


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
    if task.talks and family.talker is None:
        raise ValueError(f"{task.kind} needs a model that writes: a gpt or a t5, not a {family.name}")
    if family.body is not None and task.kind == Text2Text.kind:
        those = ", ".join(one.name for one in FAMILIES.values() if one.body is None)
        raise ValueError(f"text2text needs a model that reads and writes ({those}), not {family.name}")
    return task, examples, held_out


def _talks(family: Family, task: Task) -> bool:
    return task.talks and family.talker is not None


@dataclass
class Saved:
    """What the config.json of a fine-tuned model holds."""

    family: Literal["finetuned"]
    task: Literal[*TASKS]
    task_settings: dict
    body: Literal[*FAMILIES]
    body_config: dict
    max_length: Whole
    dropout: Share
    lora: Whole = 0
    smaller: bool = True  # those of older runs may be


def about(tuned: FineTuned, smaller: bool = False) -> dict:
    """What config.json says of a fine-tuned model."""
    task, config = map(dataclasses.asdict, (tuned.task, tuned.model.config))
    how = tuned.inputs.max_length, tuned.dropout, tuned.lora
    return dataclasses.asdict(Saved("finetuned", tuned.task.kind, task, tuned.family.name, config, *how, smaller))


def read_saved(folder: Path) -> Saved:
    fields = checkpoint.read_config(folder)
    if fields.get("family") != "finetuned":
        raise ValueError(f"{folder} is no fine-tuned model; make one with: python -m train finetune {folder}")
    return checked(Saved, fields, folder / "config.json")


def blank(folder: Path) -> tuple[Model, Tokenizer]:
    """What `begin` takes, for the run in a folder: its model without anything that it has learned."""
    saved = read_saved(folder)
    family = FAMILIES[saved.body]
    return family.model(checked(family.config, saved.body_config, folder / "config.json")), load_tokenizer(folder)


def load(folder: Path, which: str = "last") -> FineTuned:
    """The model in the folder of a fine-tuning run, with its last or best weights."""
    saved, path = read_saved(folder), folder / checkpoint.WEIGHTS[which]
    family, arrays = FAMILIES[saved.body], checkpoint.read_arrays(path)
    task = checked(TASKS[saved.task], saved.task_settings, folder / "config.json")

    with shapes_only(most=2 * len(arrays)):
        body, inputs = family.reader(*blank(folder), saved.max_length, talks=_talks(family, task))
        head = task.make_head(body, saved.dropout)
        if saved.lora and saved.smaller:
            _fit(head, arrays)
        if saved.lora:
            add_adapters(head, saved.lora)
    checkpoint.load_weights(head, arrays, path, assign=True)
    if saved.lora:
        merge(head)
    return FineTuned(head.eval(), task, inputs, family, saved.dropout)


def _fit(head: Model, arrays: dict[str, np.ndarray]) -> None:
    """Give a model the layers that a file's arrays are of, before it gets adapters, which call them `base`."""
    storage.fit(head, {name.replace(".base.", "."): array for name, array in arrays.items()})


@dataclass(frozen=True, kw_only=True)
class Record(FineTuneConfig):
    """What a run was asked to do, as the command wrote it down."""

    task: str
    data: str | None
    held_out: str | None
    fresh: bool
    examples: Count
    train: dict
    checksum: Size


def read_record(folder: Path) -> dict:
    """The fields of the Record in a run's folder."""
    if not (folder / RECORD).exists():
        raise ValueError(f"{folder} has no {RECORD}, which says what a run was fine-tuned on")
    record = vars(checked(Record, read_json(folder / RECORD, f"what {folder} was fine-tuned on"), folder / RECORD))
    checked(TrainConfig, record["train"], folder / RECORD)
    return record | {name: record[name] and Path(record[name]) for name in ("data", "held_out")}
