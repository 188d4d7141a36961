"""What may stand in a field: one check between all that is read (files, flags, arguments) and the code that uses it.

The annotations of a dataclass say it, and nothing says it a second time:

    layers: Count                                   a whole number from 1 on: true is none, and neither is 1.5
    dropout: Share = option(0.0, "...")             Annotated[float, Range(0, 1, below=True)]
    schedule: Literal["cosine", "linear"]           one of these words
    clip: float | None                              a finite number, or null
    filters: list[tuple[Count, Count]]              pairs of counts; dict[str, int], a table of whole numbers
    lstm: LSTMOptions                               a table with the fields of another dataclass

`checked` makes a dataclass of what a file says; `check_fields`, in a __post_init__, does the same for one made in
Python. Both raise a ValueError that names the field, its value, and what it should be.
"""

import dataclasses
import functools
import math
import numbers
import reprlib
import sys
import types
import typing
from dataclasses import dataclass
from typing import Annotated, Literal

from models import items

LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Range:
    """The numbers from low to high. above, below: low, high itself is not among them. NaN is in no range."""

    low: float = -LARGEST
    high: float = LARGEST
    above: bool = False
    below: bool = False

    def missed_by(self, number: float) -> str:
        """What a number should be that is out of range; "" for one that is in it."""
        if number != number or (abs(number) == math.inf and self.high < math.inf):
            return "a finite number"
        if number < self.low or (self.above and number == self.low):
            return f"{'more than' if self.above else 'at least'} {self.low:.15g}"
        if number > self.high or (self.below and number == self.high):
            return f"{'less than' if self.below else 'at most'} {self.high:.15g}"
        return ""


MANY = 100_000_000  # what is counted here never comes to more: tokens of a vocabulary, steps, widths
Count = Annotated[int, Range(1, MANY)]
Whole = Annotated[int, Range(0, MANY)]
Id = Annotated[int, Range(0, 2**22 - 1)]  # of a token: the longest vocabularies that were published have a million
Million = Annotated[int, Range(1, 1_000_000)]  # of what is made one by one: tokens that are written, examples, lines
Few = Annotated[int, Range(1, 10_000)]  # of what takes time or memory each: layers, heads, repetitions
FewOrNone = Annotated[int, Range(0, 10_000)]
Size = Annotated[int, Range(0, 2**63 - 1)]  # of files; and any other number that is no count
Share = Annotated[float, Range(0, 1, below=True)]  # of what is left out
Part = Annotated[float, Range(0, 1)]
Portion = Annotated[float, Range(0, 1, above=True, below=True)]
Chance = Annotated[float, Range(0, 1, above=True)]
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
RANGES = {int: Range(-(2**63), 2**63 - 1), float: Range()}  # where an annotation says none
WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list",
         tuple: "a list", dict: "a table", types.NoneType: "null"}  # fmt: skip

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 80
shown = _repr.repr  # a value as code, shortened: whatever was read, it takes a line


def checked(cls: type, table: object, where: object, others: bool = False):
    """A dataclass from the table that a file holds.

    where: the file, or the place in it, for the ValueError.
    others: whether the table may say more than the dataclass has fields for; it is passed over.
    """
    try:
        return check(table, cls, "", others)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def check_fields(made: object) -> None:
    """Hold a dataclass's fields against their annotations, and keep them as just these types (5 for np.int64(5))."""
    for name, kind in fields_of(type(made)).items():
        object.__setattr__(made, name, check(vars(made)[name], kind, name))


def check(value: object, kind: object, what: str, others: bool = False):
    """The value, as the type that an annotation asks for; `what` it is stands in the ValueError."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _first_of(value, inner, what, others)
    if origin is Literal:
        if any(type(value) is type(word) and value == word for word in inner):
            return value
        raise ValueError(f"{what} must be one of {', '.join(map(str, inner))}, not {shown(value)}")
    if dataclasses.is_dataclass(kind):
        return _made(kind, value, what, others)
    plain, within = inner if origin is Annotated else (origin or kind, RANGES.get(kind))
    wanted = {int: numbers.Integral, float: numbers.Real, list: (list, tuple), tuple: (list, tuple)}.get(plain, plain)
    if not isinstance(value, wanted) or (within and isinstance(value, bool)):
        raise ValueError(f"{what} must be {WORDS[plain]}, not {shown(value)}")
    if within and (should := within.missed_by(value)):
        raise ValueError(f"{what} must be {should}, not {shown(value)}")
    if within:
        return plain(value)
    if not inner or (not value and plain is not tuple):
        return value  # nothing is in it that could be wrong
    return items.checked(value, plain, inner, what, functools.partial(check, others=others))


def _first_of(value: object, kinds: tuple, what: str, others: bool):
    """The value as the first of several kinds that it can be."""
    errors = []
    for kind in kinds:
        try:
            return check(value, kind, what, others)
        except ValueError as error:
            errors.append(error)
    raise errors[0]


def _made(cls: type, table: object, what: str, others: bool):
    if not isinstance(table, dict):
        raise ValueError(f"{what or 'it'} must be a table, not {shown(table)}")
    kinds, inside = fields_of(cls), f"{what}." if what else ""
    if unknown := [] if others else [name for name in table if name not in kinds]:
        raise ValueError(f"{inside}{shown(unknown[0])} is not known here; known are {', '.join(kinds)}")
    values = {name: check(table[name], kind, inside + name, others) for name, kind in kinds.items() if name in table}
    for field in dataclasses.fields(cls):
        if field.name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{inside}{field.name} is missing")
    return cls(**values)


@functools.cache
def fields_of(cls: type) -> dict[str, object]:
    """The annotation of each field, by its name."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def plain_of(kind: object) -> type:
    """The type that values of a kind have: int of Count | None, str of Literal["a", "b"]."""
    while inner := typing.get_args(kind):
        kind = type(inner[0]) if typing.get_origin(kind) is Literal else inner[0]
    return kind
