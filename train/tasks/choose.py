"""Which of these goes with the text?   {"text": ..., "choices": [..., ...], "label": 0}: label counts from 0."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from models.contract import Body
from models.heads import Head
from models.schema import Few
from tinytensor import Tensor
from train.tasks import metrics
from train.tasks.task import Row, Task, field, probabilities, whole_number


class Chooser(Head):
    """Which of N texts is right?   Scores (B, N) of ids (B, N, T);  targets: "choice" (B,)"""

    target = "choice"

    def scores(self, batch: dict) -> Tensor:
        return self.scored(self.summaries(batch)).reshape(batch["ids"].shape[:2])


@dataclass(frozen=True)
class Choose(Task):
    kind: ClassVar[str] = "choose"
    columns: ClassVar[tuple[str, ...]] = ("text", "choices", "label")
    asks: ClassVar[tuple[str, ...]] = ("text", "choices")
    least: ClassVar[int] = 2

    choices: Few  # how many there are

    @classmethod
    def of(cls, examples: list[dict], held_out: list[dict] = ()) -> Self:
        numbers = {len(field(e, "choices", list, cls.kind)) for e in (*examples, *held_out)}
        if len(numbers) != 1 or min(numbers) < 2:
            raise ValueError(f"all examples need the same number of choices, at least 2, not {sorted(numbers)}")
        return cls(numbers.pop())

    def rows(self, example: dict, inputs) -> list[Row]:
        text, choices = field(example, "text", str, self.kind), field(example, "choices", list, self.kind)
        if len(choices) != self.choices:
            raise ValueError(f"an example has {len(choices)} choices where the others have {self.choices}")
        arrays = inputs.pad([inputs.text(text, str(choice)) for choice in choices])  # (N, T) each
        if "label" in example:
            label = whole_number(example, "label", self.kind)
            if not 0 <= label < self.choices:
                raise ValueError(f"the label {label} is none of the choices 0..{self.choices - 1}")
            arrays["choice"] = np.int64(label)
        return [Row(arrays)]

    def make_head(self, body: Body, dropout: float) -> Chooser:
        return Chooser(body, dropout=dropout)

    def decode(self, row: Row, scores: np.ndarray) -> int:
        return int(scores.argmax())

    def chances(self, example: dict, rows: list[Row], scores: list[np.ndarray]) -> list[tuple[str, float]]:
        return probabilities(map(str, example["choices"]), scores[0])

    def score(self, examples: list[dict], answers: list[int]) -> dict[str, float]:
        right = [float(int(e["label"]) == answer) for e, answer in zip(examples, answers)]
        return {"accuracy": metrics.mean(right)} | metrics.joint(examples, right)

    def as_text(self, example: dict) -> tuple[str, str]:
        listed = "".join(f" choice {i}: {choice}" for i, choice in enumerate(example["choices"]))
        return f"choose: {example['text']}{listed}", str(example.get("label", ""))

    def example(self, texts: list[str]) -> dict:
        return super().example([texts[0], texts[1:]] if len(texts) > 1 else texts)

    def shown(self, example: dict, answer: int) -> str:
        return example["choices"][answer]
