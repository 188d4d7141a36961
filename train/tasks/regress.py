"""How much?   {"text": ..., "pair": ... (or none), "score": 3.2}: how alike two texts are, how good a review is."""

import math
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from models.contract import Body
from models.heads import Head
from models.schema import Positive, shown
from tinytensor import Tensor
from train.tasks import metrics
from train.tasks.task import Row, Task, field, text_or_pair


class Regressor(Head):
    """A number for each text or pair, (B,);  targets: "score" (B,)"""

    target = "score"
    answers_are_numbers = True

    def scores(self, batch: dict) -> Tensor:
        return self.from_summary(batch).reshape(-1)

    def loss_sum(self, batch: dict) -> Tensor:
        """The sum of the squared errors."""
        scores = self.scores(batch)
        error = scores - scores.xp.asarray(self.right(batch), scores.dtype)
        return (error * error).sum()


@dataclass(frozen=True)
class Regress(Task):
    """mean, deviation: of the training scores; the model predicts how many deviations a score is above the mean."""

    kind: ClassVar[str] = "regress"
    columns: ClassVar[tuple[str, ...]] = ("text", "pair", "score")
    asks: ClassVar[tuple[str, ...]] = ("text", "pair")
    unit: ClassVar[str] = "squared error"
    pairs: ClassVar[bool] = True

    mean: float
    deviation: Positive
    both_orders: bool = False  # as in classify.py

    @classmethod
    def of(cls, examples: list[dict], held_out: list[dict] = ()) -> Self:
        scores = np.array([_number(example) for example in examples])
        return cls(float(scores.mean()), float(scores.std()) or 1.0)

    def rows(self, example: dict, inputs) -> list[Row]:
        arrays = text_or_pair(inputs, example, self.kind, self.both_orders)
        if "score" in example:
            arrays = arrays | {"score": np.float32((_number(example) - self.mean) / self.deviation)}
        return [Row(arrays)]

    def make_head(self, body: Body, dropout: float) -> Regressor:
        return Regressor(body, dropout=dropout)

    def decode(self, row: Row, scores: np.ndarray) -> float:
        return float(scores) * self.deviation + self.mean

    def score(self, examples: list[dict], answers: list[float]) -> dict[str, float]:
        truth = [_number(example) for example in examples]
        pearson, spearman = metrics.pearson(truth, answers), metrics.spearman(truth, answers)
        squared = float(np.mean((np.array(truth) - np.array(answers)) ** 2))
        return {"pearson": pearson, "spearman": spearman, "squared_error": squared}

    def as_text(self, example: dict) -> tuple[str, str]:
        """The score rounded to the nearest fifth, as T5 does (Raffel et al. 2020, section 2.4)."""
        pair = f" second: {example['pair']}" if example.get("pair") is not None else ""
        target = f"{round(_number(example) * 5) / 5:.1f}" if "score" in example else ""
        return f"score: {example['text']}{pair}", target


def _number(example: dict) -> float:
    value = field(example, "score", (int, float, str), Regress.kind)
    try:
        if math.isfinite(number := float(value)):
            return number
    except ValueError:
        pass
    raise ValueError(f"the score {shown(value)} is not a number")
