"""What a task is: the contract that every kind keeps, the rows it makes, and how it reads an example's fields.

Examples are dicts, as they stand in JSON lines. A task is all that is known of it besides the body: its labels, the
head that fits, how an example becomes arrays and a head's scores an answer, and how good the answers are.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np

from models.contract import Body, Model
from models.inputs import TextInputs
from models.schema import shown
from models.tokenizers import Tokenizer

NAMES = {str: "a text", int: "a whole number", float: "a number", list: "a list"}


@dataclass
class Row:
    """One row of a batch: its arrays (of tokens, with the length first; or single numbers), and notes for decoding."""

    arrays: dict[str, np.ndarray]
    notes: object = None
    group: str = ""  # rows of one group share a cap on how many are used in an epoch

    @property
    def length(self) -> int:
        """Tokens; of the longest text where there are several to choose from."""
        return self.arrays["mask"].shape[-1]


class Task(Protocol):
    """A kind of task: Classify, Regress, Tag, Answer, Choose, Text2Text, each a frozen dataclass in its own file."""

    kind: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]  # the fields of its examples, as a file names them
    asks: ClassVar[tuple[str, ...]]  # those of them that pose the question
    least: ClassVar[int] = 1  # how many of those must be given
    unit: ClassVar[str] = "accuracy (%)"  # in which models are compared: that, "perplexity" or "squared error"
    pairs: ClassVar[bool] = False  # whether it is about pairs, which may be read in both orders (`both_orders`)
    talks: ClassVar[bool] = False  # whether a model that writes learns it as a conversation, without a head

    @classmethod
    def read(cls, example: dict, where: str) -> dict | None:
        """An example of a file, in the form that the others have; None for one that says nothing."""
        return example

    @classmethod
    def of(cls, examples: list[dict], held_out: list[dict] = ()) -> Self:
        """The task that these examples pose."""

    def rows(self, example: dict, inputs: TextInputs) -> list[Row]:
        """What the body reads (models/inputs.py), and the right answers where the example has them."""

    def make_head(self, body: Body, dropout: float) -> Model:
        """The body with the head that fits."""

    def decode(self, row: Row, scores: np.ndarray):
        """What the model says about one row."""

    def answer(self, example: dict, decoded: list):
        """The answer to an example, from what was said about its rows."""
        return decoded[0]

    def score(self, examples: list[dict], answers: list) -> dict[str, float]:
        """Metrics by name, the main one first."""

    def told(self, examples: list[dict], tokenizer: Tokenizer) -> list[dict]:
        """The examples with right answers as a model with this tokenizer can give them."""
        return examples

    def as_text(self, example: dict) -> tuple[str, str]:
        """(source, target) for a model that reads and writes texts."""

    def example(self, texts: list[str]) -> dict:
        """The example that a few texts in a row stand for."""
        if not self.least <= len(texts) <= len(self.asks):
            raise ValueError(f"a model for {self.kind} reads {' and '.join(self.asks)}; {len(texts)} texts were given")
        return dict(zip(self.asks, texts))

    def texts(self, example: dict) -> list[str]:
        """The texts that stand for an example's question, as `example` reads them."""
        values = [example[name] for name in self.asks if example.get(name) is not None]
        return [str(text) for value in values for text in (value if isinstance(value, list) else [value])]

    def chances(self, example: dict, rows: list[Row], scores: list[np.ndarray]) -> list[tuple[str, float]]:
        """(what might be answered, how probable that is to the model), best first, by its rows and their scores."""
        return []

    def shown(self, example: dict, answer) -> str:
        """An answer as a person reads it."""
        return str(answer) or "(no answer)"

    def labelled(self, examples: list[dict], answers: list) -> tuple[Iterable[str], list[str], list[str]] | None:
        """(labels, truth, what was said), for a picture of which label was taken for which; None without labels."""
        return None


def text_or_pair(inputs, example: dict, what: str, both_orders: bool = False) -> dict[str, np.ndarray]:
    """The arrays of an example's text or pair, (T,) each; or (2, T), of a pair in both orders."""
    a, b = field(example, "text", str, what), example.get("pair")
    b = b if b is None else field(example, "pair", str, what)
    if not both_orders:
        return inputs.text(a, b)
    if b is None:
        raise ValueError(f"both orders were asked for, but {a[:40]!r} has no pair")
    return inputs.pad([inputs.text(a, b), inputs.text(b, a)])


def probabilities(names: Iterable[str], scores: np.ndarray) -> list[tuple[str, float]]:
    """(name, probability), best first, of choices with these scores."""
    p = np.exp(scores - scores.max(), dtype=np.float64)
    return sorted(zip(names, (p / p.sum()).tolist()), key=lambda one: -one[1])


def field(example: dict, name: str, kind: type | tuple[type, ...], what: str):
    """example[name], which must be there and of a type (or one of several); `what` says what it is for."""
    if name not in example:
        raise ValueError(f"an example of {what} needs {name!r}; this one has {shown(list(example))[1:-1]}")
    value = example[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = " or ".join(NAMES[one] for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise ValueError(f"{name!r} of an example of {what} must be {wanted}, not {shown(value)}")
    return value


def whole_number(example: dict, name: str, what: str) -> int:
    """example[name], which a TSV file has as text."""
    value = field(example, name, (int, str), what)
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{name!r} of an example of {what} must be a whole number, not {shown(value)}") from None


def known(label: str, labels: Iterable[str], what: str) -> int:
    """The number of a label."""
    labels = list(labels)
    if label not in labels:
        raise ValueError(f"{what} {shown(label)} is not among those trained on: {shown(labels)[1:-1]}")
    return labels.index(label)
