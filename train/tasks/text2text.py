"""Read a text, write a text.   {"input": ..., "target": ..., "task": ... (or none)}

Every task can be put this way, so one model learns many at once (Raffel et al. 2020, arXiv:1910.10683, section 2.4): a
prefix of the input says which. Of a task with many more examples than the others only so many a `cap` are taken in an
epoch, drawn anew each time ("examples-proportional mixing", section 3.5.2).
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from models.contract import Model, Writer
from models.generate.answers import answer_ids, answer_text
from models.schema import Few
from models.tokenizers import Tokenizer
from nn import Module
from tinytensor import Tensor
from tinytensor.ops.softmax import IGNORED
from train.tasks import metrics
from train.tasks.task import Row, Task, field


class TextWriter(Module, Model):
    """No head at all: an encoder-decoder, which writes its answer, up to `longest` tokens;  targets: "targets" (B, T)

    Called, it writes; its scores are those of the right answer's tokens, each given the ones before.
    """

    def __init__(self, body: Writer, longest: int):
        self.body, self.longest = body, longest

    @property
    def config(self):
        """The body's."""
        return self.body.config

    def __call__(self, batch: dict) -> Tensor:
        """The ids (B, n) of the most probable token at each step; from the end on IGNORED, which is no token."""
        ids = answer_ids(self.body, batch["ids"], batch.get("mask"), self.longest)
        ended = (ids == self.config.eos_id).cumsum(axis=1) > 0
        return Tensor(np.where(ended, IGNORED, ids))

    def counts(self, batch: dict) -> dict[str, int]:
        return self.body.counts(batch)

    def loss(self, batch: dict, counts: dict | None = None) -> Tensor:
        """The mean of -log p(target), in nats per token."""
        return self.body.loss(batch, counts)

    def scores(self, batch: dict) -> Tensor:
        return self.body.scores(batch)

    def right(self, batch: dict):
        return self.body.right(batch)

    def real(self, batch: dict):
        return self.body.real(batch)


@dataclass(frozen=True)
class Text2Text(Task):
    """longest: the most tokens that are written for an input."""

    kind: ClassVar[str] = "text2text"
    columns: ClassVar[tuple[str, ...]] = ("input", "target", "task")
    asks: ClassVar[tuple[str, ...]] = ("input",)

    longest: Few = 64

    @classmethod
    def of(cls, examples: list[dict], held_out: list[dict] = ()) -> Self:
        targets = [field(example, "target", str, cls.kind) for example in (*examples, *held_out)]
        return cls(min(10_000, max(len(target.encode()) for target in targets) + 1))  # no token is shorter than a byte

    def rows(self, example: dict, inputs) -> list[Row]:
        arrays = inputs.text(source_of(example))
        if "target" in example:
            arrays = arrays | {"targets": inputs.target(example["target"], arrays)}
        return [Row(arrays, inputs.tokenizer, group_of(example))]

    def make_head(self, body: Writer, dropout: float) -> TextWriter:
        return TextWriter(body, self.longest)

    def decode(self, row: Row, ids: np.ndarray) -> str:
        return answer_text(ids, row.notes)

    def texts(self, example: dict) -> list[str]:
        return [source_of(example)]

    def score(self, examples: list[dict], answers: list[str]) -> dict[str, float]:
        """Over all examples, and the share of exact matches of each task if there are several."""
        truth = [example["target"] for example in examples]
        groups: dict[str, list[float]] = {}
        for example, said, right in zip(examples, answers, truth):
            groups.setdefault(group_of(example), []).append(metrics.same_text(said, right))
        by_task = {f"exact_match {name}": metrics.mean(groups[name]) for name in sorted(groups)}
        return metrics.score_all(answers, truth) | (by_task if len(by_task) > 1 else {})

    def told(self, examples: list[dict], tokenizer: Tokenizer) -> list[dict]:
        """One that knows no capitals, as most of BERT's, is not to blame for writing none."""
        return [e | {"target": tokenizer.decode(tokenizer.encode(e["target"]))} for e in examples]

    def as_text(self, example: dict) -> tuple[str, str]:
        return source_of(example), example.get("target", "")


def source_of(example: dict) -> str:
    """What the encoder reads: the input, behind its task's name if that stands in a column of its own."""
    text = field(example, "input", str, Text2Text.kind)
    return f"{example['task']}: {text}" if example.get("task") else text


def group_of(example: dict) -> str:
    """The task of an example: what stands before the first ": ", if anything does."""
    name, colon, _ = source_of(example).partition(": ")
    return name if colon else ""


def as_text2text(task, examples: list[dict]) -> list[dict]:
    """The examples of any other task as texts to read and to write."""
    return [dict(zip(("input", "target"), task.as_text(example))) for example in examples]
