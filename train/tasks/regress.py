"""How much?   {"text": ..., "pair": ... (or none), "score": 3.2}: how alike two texts are, how good a review is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from models.heads import Regressor
from train.tasks import metrics
from train.tasks.rows import Row, field, text_or_pair


@dataclass(frozen=True)
class Regress:
    """mean, deviation: of the training scores; the model predicts how many deviations a score is above the mean."""

    kind: ClassVar[str] = "regress"
    columns: ClassVar[tuple[str, ...]] = ("text", "pair", "score")

    mean: float
    deviation: float
    both_orders: bool = False  # as in classify.py

    @property
    def length_axis(self) -> int:
        return 1 if self.both_orders else 0

    @classmethod
    def of(cls, examples: list[dict], held_out: list[dict] = ()) -> Regress:
        scores = np.array([_number(example) for example in examples])
        return cls(float(scores.mean()), float(scores.std()) or 1.0)

    def rows(self, example: dict, inputs) -> list[Row]:
        arrays = text_or_pair(inputs, example, self.kind, self.both_orders)
        if "score" in example:
            arrays = arrays | {"score": np.float32((_number(example) - self.mean) / self.deviation)}
        return [Row(arrays)]

    def make_head(self, body, dropout: float) -> Regressor:
        return Regressor(body, dropout)

    def decode(self, row: Row, scores: np.ndarray) -> float:
        return float(scores) * self.deviation + self.mean

    def answer(self, example: dict, decoded: list[float]) -> float:
        return decoded[0]

    def score(self, examples: list[dict], answers: list[float]) -> dict[str, float]:
        truth = [_number(example) for example in examples]
        return {
            "pearson": metrics.pearson(truth, answers),
            "spearman": metrics.spearman(truth, answers),
            "squared_error": float(np.mean((np.array(truth) - np.array(answers)) ** 2)),
        }

    def as_text(self, example: dict) -> tuple[str, str]:
        """The score rounded to the nearest fifth, as T5 does (Raffel et al. 2020, section 2.4)."""
        pair = f" second: {example['pair']}" if example.get("pair") is not None else ""
        target = f"{round(_number(example) * 5) / 5:.1f}" if "score" in example else ""
        return f"score: {example['text']}{pair}", target

    def from_text(self, text: str) -> float:
        try:
            return float(text)
        except ValueError:
            return self.mean


def _number(example: dict) -> float:
    value = field(example, "score", (int, float, str), Regress.kind)
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"the score {value!r} is not a number")
    return number
