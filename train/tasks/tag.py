"""Which words are what?   {"words": ["Mia", "left", ...], "tags": ["B-person", "O", ...]}

A word's first token carries its tag; the others are not asked. Tags of the form B-x, I-x mark spans, which are scored
as wholes: a span counts as found if its words and its kind are right.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from models.contract import Body
from models.heads import Head
from tinytensor import Tensor
from tinytensor.ops.softmax import IGNORED
from train.tasks import metrics
from train.tasks.task import Row, Task, field, known, probabilities


class Tagger(Head):
    """Scores (B, T, K) of K tags for every token;  targets: "tags" (B, T), IGNORED where nothing is asked"""

    target, pooled = "tags", False

    def scores(self, batch: dict) -> Tensor:
        return self.from_features(batch)


@dataclass(frozen=True)
class Tag(Task):
    kind: ClassVar[str] = "tag"
    columns: ClassVar[tuple[str, ...]] = ("words", "tags")
    asks: ClassVar[tuple[str, ...]] = ("words",)

    tags: tuple[str, ...]

    @classmethod
    def of(cls, examples: list[dict], held_out: list[dict] = ()) -> Self:
        return cls(tuple(sorted({tag for e in (*examples, *held_out) for tag in listed(e, "tags")})))

    def rows(self, example: dict, inputs) -> list[Row]:
        words = listed(example, "words")
        arrays, places = inputs.words(words)
        if "tags" in example:
            tags = listed(example, "tags")
            if len(tags) != len(words):
                raise ValueError(f"an example has {len(words)} words but {len(tags)} tags: {' '.join(words)[:60]}")
            targets = np.full(len(arrays["mask"]), IGNORED)
            targets[places] = [known(tag, self.tags, "the tag") for tag in tags[: len(places)]]
            arrays = arrays | {"tags": targets}
        return [Row(arrays, places)]

    def make_head(self, body: Body, dropout: float) -> Tagger:
        return Tagger(body, len(self.tags), dropout)

    def decode(self, row: Row, scores: np.ndarray) -> list[str]:
        return [self.tags[i] for i in scores[row.notes].argmax(axis=-1)]

    def answer(self, example: dict, decoded: list[list[str]]) -> list[str]:
        """A tag a word; words beyond the longest input get O."""
        return decoded[0] + ["O"] * (len(listed(example, "words")) - len(decoded[0]))

    def texts(self, example: dict) -> list[str]:
        return [" ".join(listed(example, "words"))]

    def chances(self, example: dict, rows: list[Row], scores: list[np.ndarray]) -> list[tuple[str, float]]:
        """Of each word its tag, in the order of the words."""
        best = [probabilities(self.tags, of_word)[0] for of_word in scores[0][rows[0].notes]]
        return [(f"{word}/{tag}", p) for word, (tag, p) in zip(listed(example, "words"), best)]

    def score(self, examples: list[dict], answers: list[list[str]]) -> dict[str, float]:
        _, truth, said = self.labelled(examples, answers)
        spans = metrics.span_f1([listed(e, "tags") for e in examples], answers)
        return {"f1": spans, "accuracy": metrics.accuracy(truth, said)}

    def labelled(self, examples: list[dict], answers: list[list[str]]) -> tuple[tuple[str, ...], list[str], list[str]]:
        flat = lambda rows: [tag for row in rows for tag in row]
        ordered = sorted(self.tags, key=lambda tag: (tag.partition("-")[2], tag))  # B-x and I-x beside each other
        return tuple(ordered), flat(listed(e, "tags") for e in examples), flat(answers)

    def shown(self, example: dict, answer: list[str]) -> str:
        return " ".join(f"{word}/{tag}" for word, tag in zip(listed(example, "words"), answer))

    def as_text(self, example: dict) -> tuple[str, str]:
        tags = listed(example, "tags") if "tags" in example else ()
        return f"tag: {' '.join(listed(example, 'words'))}", " ".join(tags)


def listed(example: dict, name: str) -> list[str]:
    """A list of strings; in a TSV file, separated by spaces."""
    value = field(example, name, (list, str), Tag.kind)
    return value.split() if isinstance(value, str) else [str(item) for item in value]
