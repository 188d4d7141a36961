"""Where in the passage is the answer?   {"question": ..., "context": ..., "answer": ..., "start": 17}

start is the character at which the answer stands in the context; "" and -1 say that the passage has none (Rajpurkar et
al. 2018, arXiv:1806.03822). Without a start, the first place where the context says the answer is taken. A long passage
is read in overlapping pieces; an answer wins over "no answer" if its score is higher in the piece it is found in, and
the best piece's answer counts.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from models.contract import Body
from models.heads import Head
from models.schema import Few, shown
from tinytensor import Tensor
from train.tasks import metrics
from train.tasks.task import Row, Task, field, probabilities, whole_number

FAR_BELOW = -1e4  # added to the scores of places that must not be chosen


class Answerer(Head):
    """At which tokens does the answer begin and end?   Scores (B, 2, T);  targets: "span" (B, 2), both ends included

    The first token, [CLS], stands for "no answer". Only it and the tokens of the passage, where "answerable" (B, T) is
    true, can be chosen. The loss is the mean over both ends.
    """

    target, pooled = "span", False

    def scores(self, batch: dict) -> Tensor:
        scores = self.from_features(batch).swapaxes(1, 2)
        closed = np.where(batch["answerable"], 0.0, FAR_BELOW)[:, None]
        return scores + scores.xp.asarray(closed, scores.dtype)


@dataclass(frozen=True)
class Answer(Task):
    """longest: the most tokens an answer may have."""

    kind: ClassVar[str] = "answer"
    columns: ClassVar[tuple[str, ...]] = ("question", "context", "answer", "start")
    asks: ClassVar[tuple[str, ...]] = ("question", "context")
    least: ClassVar[int] = 2

    longest: Few = 30

    @classmethod
    def of(cls, examples: list[dict], held_out: list[dict] = ()) -> Self:
        for example in (*examples, *held_out):
            place_of(example)
        return cls()

    def rows(self, example: dict, inputs) -> list[Row]:
        context = field(example, "context", str, self.kind)
        place = place_of(example) if "answer" in example else None
        rows = []
        for arrays, offsets in inputs.passage(field(example, "question", str, self.kind), context):
            answerable = np.zeros(len(arrays["mask"]), bool)
            answerable[[0, *offsets]] = True
            arrays = arrays | {"answerable": answerable}
            if "answer" in example:
                arrays["span"] = np.array(_tokens_of(place, offsets))
            rows.append(Row(arrays, (context, offsets)))
        return rows

    def make_head(self, body: Body, dropout: float) -> Answerer:
        return Answerer(body, 2, dropout)

    def decode(self, row: Row, scores: np.ndarray) -> tuple[str, float]:
        """(the best answer in this piece, "" for none; how far its score is above that of no answer)."""
        context, offsets = row.notes
        if not offsets:
            return "", -np.inf
        first = min(offsets)
        starts, ends = scores[:, first : first + len(offsets)]
        reach = np.subtract.outer(np.arange(len(offsets)), np.arange(len(offsets)))  # start - end
        sums = np.where((reach <= 0) & (reach > -self.longest), starts[:, None] + ends[None, :], -np.inf)
        start, end = np.unravel_index(sums.argmax(), sums.shape)
        margin = float(sums[start, end] - scores[:, 0].sum())
        return context[offsets[first + start][0] : offsets[first + end][1]], margin

    def answer(self, example: dict, decoded: list[tuple[str, float]]) -> str:
        text, margin = max(decoded, key=lambda said: said[1])
        return text if margin > 0 else ""

    def chances(self, example: dict, rows: list[Row], scores: list[np.ndarray]) -> list[tuple[str, float]]:
        """Of the best answer, against none: exp(margin) is how many times as probable it is."""
        text, margin = max((self.decode(row, each) for row, each in zip(rows, scores)), key=lambda said: said[1])
        return probabilities([text, "(no answer)"], np.array([margin, 0.0]))

    def score(self, examples: list[dict], answers: list[str]) -> dict[str, float]:
        truth = [str(e["answer"]) for e in examples]
        found = {"exact_match": metrics.exact_match(truth, answers), "f1": metrics.word_f1(truth, answers)}
        return found | metrics.joint(examples, [metrics.exact_match([t], [a]) for t, a in zip(truth, answers)])

    def as_text(self, example: dict) -> tuple[str, str]:
        return f"question: {example['question']} context: {example['context']}", example.get("answer") or "no answer"


def place_of(example: dict) -> tuple[int, int] | None:
    """(start, end) of the answer's characters in the context; None if there is no answer."""
    answer, context = field(example, "answer", str, Answer.kind), field(example, "context", str, Answer.kind)
    if not answer:
        return None
    given = example.get("start") not in (None, "")
    start = whole_number(example, "start", Answer.kind) if given else context.find(answer)
    if start < 0 or context[start : start + len(answer)] != answer:
        raise ValueError(f"the context does not say {shown(answer)} at character {start}: {context[:60]!r}")
    return start, start + len(answer)


def _tokens_of(place: tuple[int, int] | None, offsets: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """The first and last token of the answer; (0, 0) if there is none, or if this piece does not hold all of it."""
    if place is None:
        return 0, 0
    inside = [i for i, (start, end) in offsets.items() if start < place[1] and end > place[0]]
    whole = inside and offsets[inside[0]][0] <= place[0] and offsets[inside[-1]][1] >= place[1]
    return (inside[0], inside[-1]) if whole else (0, 0)
