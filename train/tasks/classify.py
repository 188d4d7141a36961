"""Which class is this text, or this pair of texts?   {"text": ..., "pair": ... (or none), "label": ...}"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from models.contract import Body
from models.heads import Head
from tinytensor import Tensor
from train.tasks import metrics
from train.tasks.task import Row, Task, field, known, probabilities, text_or_pair


class Classifier(Head):
    """Scores (B, K) of K labels;  targets: "label" (B,)"""

    target = "label"

    def scores(self, batch: dict) -> Tensor:
        return self.from_summary(batch)


@dataclass(frozen=True)
class Classify(Task):
    kind: ClassVar[str] = "classify"
    columns: ClassVar[tuple[str, ...]] = ("text", "pair", "label")
    asks: ClassVar[tuple[str, ...]] = ("text", "pair")
    pairs: ClassVar[bool] = True

    labels: tuple[str, ...]
    both_orders: bool = False  # read a pair as (text, pair) and (pair, text), for questions without a direction

    def __post_init__(self):
        if len(self.labels) < 2:
            raise ValueError(f"there must be at least two labels to tell apart, not {', '.join(self.labels) or 'none'}")

    @classmethod
    def of(cls, examples: list[dict], held_out: list[dict] = ()) -> Self:
        return cls(tuple(sorted({str(field(e, "label", (str, int), cls.kind)) for e in (*examples, *held_out)})))

    def rows(self, example: dict, inputs) -> list[Row]:
        arrays = text_or_pair(inputs, example, self.kind, self.both_orders)
        if "label" in example:
            arrays = arrays | {"label": np.int64(known(str(example["label"]), self.labels, "the label"))}
        return [Row(arrays)]

    def make_head(self, body: Body, dropout: float) -> Classifier:
        return Classifier(body, len(self.labels), dropout)

    def decode(self, row: Row, scores: np.ndarray) -> str:
        return self.labels[int(scores.argmax())]

    def chances(self, example: dict, rows: list[Row], scores: list[np.ndarray]) -> list[tuple[str, float]]:
        return probabilities(self.labels, scores[0])

    def score(self, examples: list[dict], answers: list[str]) -> dict[str, float]:
        labels, truth, answers = self.labelled(examples, answers)
        f1, matthews = metrics.macro_f1(truth, answers, labels), metrics.matthews(truth, answers)
        return {"accuracy": metrics.accuracy(truth, answers), "f1": f1, "matthews": matthews}

    def labelled(self, examples: list[dict], answers: list[str]) -> tuple[tuple[str, ...], list[str], list[str]]:
        return self.labels, [str(e["label"]) for e in examples], answers

    def as_text(self, example: dict) -> tuple[str, str]:
        pair = f" second: {example['pair']}" if example.get("pair") is not None else ""
        return f"classify: {example['text']}{pair}", str(example.get("label", ""))
