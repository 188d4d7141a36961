"""Which words are what?   {"words": ["Mia", "left", ...], "tags": ["B-person", "O", ...]}

A word's first token carries its tag; the others are not asked. Tags of the form B-x, I-x mark spans, which are scored
as wholes: a span counts as found if its words and its kind are right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from models.heads import Tagger
from tinytensor.ops.softmax import IGNORED
from train.tasks import metrics
from train.tasks.rows import Row, field, known


@dataclass(frozen=True)
class Tag:
    kind: ClassVar[str] = "tag"
    columns: ClassVar[tuple[str, ...]] = ("words", "tags")
    length_axis: ClassVar[int] = 0

    tags: tuple[str, ...]

    @classmethod
    def of(cls, examples: list[dict], held_out: list[dict] = ()) -> Tag:
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

    def make_head(self, body, dropout: float) -> Tagger:
        return Tagger(body, len(self.tags), dropout)

    def decode(self, row: Row, scores: np.ndarray) -> list[str]:
        return [self.tags[i] for i in scores[row.notes].argmax(axis=-1)]

    def answer(self, example: dict, decoded: list[list[str]]) -> list[str]:
        """A tag a word; words beyond the longest input get O."""
        return decoded[0] + ["O"] * (len(listed(example, "words")) - len(decoded[0]))

    def score(self, examples: list[dict], answers: list[list[str]]) -> dict[str, float]:
        truth = [listed(e, "tags") for e in examples]
        flat = lambda rows: [tag for row in rows for tag in row]
        return {"f1": metrics.span_f1(truth, answers), "accuracy": metrics.accuracy(flat(truth), flat(answers))}

    def as_text(self, example: dict) -> tuple[str, str]:
        tags = listed(example, "tags") if "tags" in example else ()
        return f"tag: {' '.join(listed(example, 'words'))}", " ".join(tags)

    def from_text(self, text: str) -> list[str]:
        return text.split()


def listed(example: dict, name: str) -> list[str]:
    """A list of strings; in a TSV file, separated by spaces."""
    value = field(example, name, (list, str), Tag.kind)
    return value.split() if isinstance(value, str) else [str(item) for item in value]
