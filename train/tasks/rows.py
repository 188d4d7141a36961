"""What the tasks share: rows of a batch, and reading the fields of an example."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

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


def text_or_pair(inputs, example: dict, what: str, both_orders: bool = False) -> dict[str, np.ndarray]:
    """The arrays of an example's text or pair, (T,) each; or (2, T), of a pair in both orders."""
    a, b = field(example, "text", str, what), example.get("pair")
    b = b if b is None else field(example, "pair", str, what)
    if not both_orders:
        return inputs.text(a, b)
    if b is None:
        raise ValueError(f"both orders were asked for, but {a[:40]!r} has no pair")
    return inputs.pad([inputs.text(a, b), inputs.text(b, a)])


def field(example: dict, name: str, kind: type | tuple[type, ...], what: str):
    """example[name], which must be there and of a type (or one of several); `what` says what it is for."""
    if name not in example:
        raise ValueError(f"an example of {what} needs {name!r}; this one has {', '.join(map(repr, example))}")
    value = example[name]
    if not isinstance(value, kind):
        wanted = " or ".join(NAMES[one] for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise ValueError(f"{name!r} of an example of {what} must be {wanted}, not {value!r}")
    return value


def whole_number(example: dict, name: str, what: str) -> int:
    """example[name], which a TSV file has as text."""
    value = field(example, name, (int, str), what)
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{name!r} of an example of {what} must be a whole number, not {value!r}") from None


def known(label: str, labels: Iterable[str], what: str) -> int:
    """The number of a label."""
    labels = list(labels)
    if label not in labels:
        raise ValueError(f"{what} {label!r} is not among those trained on: {', '.join(labels)}")
    return labels.index(label)
