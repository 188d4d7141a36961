"""Fine-tuning: a pretrained body and a fresh head learn a task from labelled examples (Devlin et al. 2018, section 4).

The loop is the ordinary Trainer; this file makes what it trains on, and tells after every epoch how good the answers
are. A fine-tuned model's folder is a run's, with the task and the body's family in config.json.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tinytensor as tt
from models.files import read_json, write_json
from models.gpt_body import GPTBody
from models.inputs import CharacterInputs, MarkedInputs, TextInputs
from models.tokenizers import load as load_tokenizer
from nn import Dropout, Module, evaluating
from nn.compression import storage
from nn.compression.lora import add_adapters, merge
from nn.compression.quantize import is_quantized
from tinytensor import backend
from train import checkpoint
from train.objectives.labelled import Labelled
from train.report import Report
from train.tasks import TASKS, Row, Text2Text
from train.tasks.text2text import as_text2text
from train.trainer import TrainConfig, Trainer

TRAINING = dict(batch=16, lr=5e-4, min_lr=0.0, schedule="linear", beta2=0.999, eps=1e-6, weight_decay=0.01)  # BERT's
RECORD = "finetune.json"  # in the run's folder: what it was asked to do, for --resume and for making it smaller
HEAD = ("out.*", "dense.*")  # the parameters of a head (models/heads.py) that are not its body's


def prepare_encoder(model: Module, tokenizer, max_length: int):
    """(body, inputs) of a model that reads token ids in its tokenizer's frame: the BERTs."""
    body = model.body
    longest = body.config.context
    if max_length > longest:
        raise ValueError(f"--max-length {max_length} is more than the model's context of {longest}")
    return body, TextInputs(tokenizer, max_length or longest)


def prepare_decoder(model: Module, tokenizer, max_length: int):
    """The same of a GPT, which gets marks of its own for the beginning, the middle and the end of a text."""
    longest = model.config.context
    if max_length > longest:
        raise ValueError(f"--max-length {max_length} is more than the model's context of {longest}")
    inputs = MarkedInputs(tokenizer, max_length or longest, model.config.vocab_size)
    return GPTBody(model), inputs


def prepare_elmo(model: Module, tokenizer, max_length: int):
    """(body, inputs) of an ELMo, which reads characters. Its softmax and its own dropout were for predicting words."""
    model.softmax, model.dropout = None, Dropout(0.0)
    return model, CharacterInputs(tokenizer, max_length or 500, model.config.characters)


def prepare_writer(model: Module, tokenizer, max_length: int):
    """(body, inputs) of an encoder-decoder, which learns every task as text to read and text to write."""
    return model, TextInputs(tokenizer, max_length or 512)


# family -> function(pretrained model, tokenizer, max_length or 0) -> (body, inputs); see models/heads.py and
# models/inputs.py for what those are
PREPARE: dict[str, Callable] = dict.fromkeys(("bert", "roberta", "distilbert", "albert"), prepare_encoder)
PREPARE["gpt"] = prepare_decoder
PREPARE["elmo"] = prepare_elmo
PREPARE["t5"] = prepare_writer


@dataclass
class FineTuned:
    """A model for a task, with all it takes to ask it."""

    model: Module
    task: object
    inputs: object
    family: str

    def rows(self, examples: list[dict]) -> tuple[list[Row], list[int]]:
        """The examples' rows, and for each row the number of its example."""
        rows, owners = [], []
        for number, example in enumerate(examples):
            made = self.task.rows(example, self.inputs)
            rows += made
            owners += [number] * len(made)
        return rows, owners

    def pad(self, arrays: list[dict]) -> dict[str, np.ndarray]:
        return self.inputs.pad(arrays, axis=self.task.length_axis)

    def answers(self, examples: list[dict], batch: int = 32) -> list:
        """What the model answers to each example."""
        rows, owners = self.rows(examples)
        objective = Labelled(self.pad, batch)
        decoded: list[list] = [[] for _ in examples]
        said: list = [None] * len(rows)
        with evaluating(self.model), tt.no_grad():
            for group in objective.evaluation_batches(rows):
                scores = backend.to_numpy(self.model(objective.evaluation_batch(rows, group)).data)
                for i, row_scores in zip(group, scores):
                    said[i] = self.task.decode(rows[i], row_scores)
        for owner, one in zip(owners, said):
            decoded[owner].append(one)
        return [self.task.answer(example, one) for example, one in zip(examples, decoded)]


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


def begin(
    folder: Path,
    pretrained: tuple[str, Module, object],
    task,
    examples: list[dict],
    held_out: list[dict],
    *,
    epochs: int,
    settings: dict,
    max_length: int = 0,
    dropout: float = 0.1,
    frozen: bool = False,
    lora: int = 0,
    language_loss: float = 0.5,
    cap: int = 0,
    going_on: bool = False,
) -> Trainer:
    """A trainer that is ready to fine-tune, in an existing empty folder; or, if going_on, in that of a run, whose
    model gets the shapes that it had (it may have been pruned).

    pretrained: (family, model, tokenizer).   settings: fields of TrainConfig; steps and evaluations follow from epochs.
    frozen: train the head only.   lora: train the head and adapters of this rank (nn/compression/lora.py).
    language_loss: the share of a GPT's own loss that goes on counting.
    cap: the most examples of one task of a mixture in an epoch (0: all).
    """
    family, model, tokenizer = pretrained
    if is_quantized(model):
        raise ValueError("the model's weights are integers, which do not learn; fine-tune the one it was made from")
    if epochs < 1:
        raise ValueError(f"--epochs must be at least 1, not {epochs}")
    if max_length < 0:
        raise ValueError(f"--max-length must not be negative: {max_length}; 0 takes the context")
    if not 0 <= language_loss < math.inf:
        raise ValueError(f"--language-loss must be a share from 0 on, not {language_loss}")
    TrainConfig(**({"steps": 1} | settings))  # bad values are named before any work is done
    if family == "t5" and frozen:
        raise ValueError("--frozen trains the head only, and a T5 has none; leave it out")
    task, examples, held_out = put_for(family, task, examples, held_out)
    seed = settings.get("seed", 0)
    with tt.random.seeded(seed, 3):  # a GPT gets marks of its own
        body, inputs = PREPARE[family](model, tokenizer, max_length)
    body.requires_grad_(not frozen)
    if hasattr(body, "language_weight"):
        body.language_weight = 0.0 if frozen else language_loss
    with tt.random.seeded(seed, 1):
        tuned = FineTuned(task.make_head(body, dropout), task, inputs, family)
    if going_on:
        _fit(tuned.model, checkpoint.load_trainer(folder)[0]["model"])
    if lora:
        with tt.random.seeded(seed, 2):
            add_adapters(tuned.model, lora, trained=HEAD)
    rows, _ = tuned.rows(examples)
    held_out_rows, _ = tuned.rows(held_out)
    batch = settings.get("batch", 16)
    objective = Labelled(tuned.pad, batch, seed, cap)
    per_epoch = objective.steps_per_epoch(rows)
    steps = epochs * per_epoch
    every = dict(steps=steps, batch=batch, eval_every=per_epoch, save_every=per_epoch, warmup=max(1, steps // 10))
    config = TrainConfig(**(every | settings))
    save(folder, tuned, dropout, lora)
    tokenizer.save(folder)
    report = FineTuneReport(folder, steps, tuned, held_out, per_epoch)
    return Trainer(tuned.model, objective, rows, held_out_rows, config, folder, report)


def put_for(family: str, task, examples: list[dict], held_out: list[dict]) -> tuple:
    """(task, examples, held-out examples) as a family learns them: a T5, and it alone, as texts to read and write."""
    if family == "t5" and task.kind != Text2Text.kind:
        if getattr(task, "both_orders", False):
            raise ValueError("--both-orders is for heads that read a pair twice, and a T5 has none; leave it out")
        examples, held_out = as_text2text(task, examples), as_text2text(task, held_out)
        return Text2Text.of(examples, held_out), examples, held_out
    if family != "t5" and task.kind == Text2Text.kind:
        raise ValueError(f"text2text needs a model that reads and writes: a t5, not a {family}")
    return task, examples, held_out


def save(folder: Path, tuned: FineTuned, dropout: float, lora: int = 0) -> None:
    """config.json of a fine-tuned model."""
    about = {
        "family": "finetuned",
        "task": tuned.task.kind,
        "task_settings": dataclasses.asdict(tuned.task),
        "body": tuned.family,
        "body_config": dataclasses.asdict(tuned.model.body.config),
        "max_length": tuned.inputs.max_length,
        "dropout": dropout,
        "lora": lora,
    }
    write_json(folder / "config.json", about)


def blank(folder: Path) -> tuple[str, Module, object]:
    """(family, model, tokenizer) of a fine-tuning run, as `begin` takes them, without what the model has learned."""
    about = _about(folder)
    return about["body"], _blank_body(about, folder), load_tokenizer(folder)


def load(folder: Path, which: str = "last") -> FineTuned:
    """The model in the folder of a fine-tuning run, with its last or best weights."""
    about = _about(folder)
    model = _blank_body(about, folder)
    try:
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in about["task_settings"].items()}
        task, family = TASKS[about["task"]](**values), about["body"]
        max_length, dropout = about["max_length"], about["dropout"]
    except (KeyError, TypeError) as error:
        raise _not_described(folder, error) from None
    body, inputs = PREPARE[family](model, load_tokenizer(folder), max_length)
    head, arrays = task.make_head(body, dropout), checkpoint.read_weights(folder, which)
    if about.get("lora"):
        _fit(head, arrays)
        add_adapters(head, about["lora"])
    checkpoint.load_weights(head, arrays, folder / checkpoint.WEIGHTS[which])
    if about.get("lora"):
        merge(head)
    return FineTuned(head.eval(), task, inputs, family)


def _about(folder: Path) -> dict:
    """The config.json of a fine-tuning run."""
    about = checkpoint.read_config(folder)
    if about.get("family") != "finetuned":
        raise ValueError(f"{folder} is no fine-tuned model; make one with: python -m train finetune {folder}")
    return about


def _fit(head: Module, arrays: dict[str, np.ndarray]) -> None:
    """Give a model the layers that a file's arrays are of, before it gets adapters, which call them `base`."""
    storage.fit(head, {name.replace(".base.", "."): array for name, array in arrays.items()})


def _blank_body(about: dict, folder: Path) -> Module:
    try:
        model_class, config_class = checkpoint.FAMILIES[about["body"]]
        return model_class(config_class(**about["body_config"]))
    except (KeyError, TypeError) as error:
        raise _not_described(folder, error) from None


def _not_described(folder: Path, error: Exception) -> ValueError:
    return ValueError(f"{folder / 'config.json'} does not describe a fine-tuned model: {error}")


def is_finetuned(folder: Path) -> bool:
    """Whether a folder's config.json is that of a fine-tuned model."""
    return checkpoint.family_in(folder) == "finetuned"


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
