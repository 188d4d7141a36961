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
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

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
Few = Annotated[int, Range(1, 10_000)]  # of what takes time or memory each: layers, heads, repetitions
Size = Annotated[int, Range(0, 2**63 - 1)]  # of files; and any other number that is no count
Share = Annotated[float, Range(0, 1, below=True)]  # of what is left out
Part = Annotated[float, Range(0, 1)]
Portion = Annotated[float, Range(0, 1, above=True, below=True)]
Chance = Annotated[float, Range(0, 1, above=True)]
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
PLAIN = {int: Range(-(2**63), 2**63 - 1), float: Range()}
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
    plain, within = _range_of(kind)
    if plain:
        return _number(value, plain, within, what)
    if origin is Literal:
        if any(type(value) is type(word) and value == word for word in inner):
            return value
        raise ValueError(f"{what} must be one of {', '.join(map(str, inner))}, not {shown(value)}")
    if origin in (typing.Union, types.UnionType):
        return _one_of(value, inner, what, others)
    if dataclasses.is_dataclass(kind):
        return _made(kind, value, what, others)
    holder = origin or kind
    if not isinstance(value, (list, tuple) if holder in (list, tuple) else holder):
        raise _wrong(value, [kind], what)
    if holder is dict and inner:
        return dict(zip(value, _all(value.values(), value, inner[1], what, others)))
    if holder is list and inner:
        return _all(value, range(len(value)), inner[0], what, others)
    if holder is tuple and inner[1:] == (...,):
        return tuple(_all(value, range(len(value)), inner[0], what, others))
    if holder is tuple:
        if len(value) != len(inner):
            raise ValueError(f"{what} must be a list of {len(inner)}, not of {len(value)}")
        return tuple(check(each, of, f"{what}[{i}]", others) for i, (each, of) in enumerate(zip(value, inner)))
    return value


def plain_of(kind: object) -> type:
    """The type that values of a kind have: int of Count | None, str of Literal["a", "b"]."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return next(plain_of(one) for one in inner if one is not types.NoneType)
    return type(inner[0]) if origin is Literal else inner[0] if origin is Annotated else origin or kind


def _range_of(kind: object) -> tuple[type | None, Range | None]:
    """(int or float, the range) of a kind of number; (None, None) of all others."""
    if isinstance(kind, type):
        return (kind, PLAIN[kind]) if kind in PLAIN else (None, None)
    return typing.get_args(kind) if typing.get_origin(kind) is Annotated else (None, None)


def _number(value: object, plain: type, within: Range, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral if plain is int else numbers.Real):
        raise _wrong(value, [plain], what)
    if should := within.missed_by(value):
        raise ValueError(f"{what} must be {should}, not {shown(value)}")
    return plain(value)


def _one_of(value: object, kinds: tuple, what: str, others: bool):
    """As the first kind that it can be."""
    if value is None and types.NoneType in kinds:
        return None
    kinds = [kind for kind in kinds if kind is not types.NoneType]
    for kind in kinds:
        try:
            return check(value, kind, what, others)
        except ValueError:
            if len(kinds) == 1:
                raise
    raise _wrong(value, kinds, what)


def _all(values: Iterable, names: Iterable, kind: object, what: str, others: bool) -> list:
    """Every value of a list or a table, by the one kind they have."""
    values = list(values)
    quickly = _at_once(values, kind)
    if quickly is not None:
        return quickly
    return [check(value, kind, f"{what}[{shown(name)}]", others) for name, value in zip(names, values)]


def _at_once(values: list, kind: object) -> list | None:
    """All of many values, such as a vocabulary's, if nothing is wrong with them; None: look at each by itself."""
    found, inner = set(map(type, values)), typing.get_args(kind)
    if kind in (str, bool):
        return values if found <= {kind} else None
    if typing.get_origin(kind) is tuple and found <= {list} and set(map(len, values)) <= {len(inner)}:
        columns = [_at_once(list(column), of) for column, of in zip(zip(*values), inner)]
        return None if None in columns else list(zip(*columns))
    plain, within = _range_of(kind)
    if plain is None or not found <= {int, plain} or any(n != n for n in values):
        return None
    if any(within.missed_by(extreme(values)) for extreme in (min, max) if values):
        return None
    return list(map(plain, values))


def _made(cls: type, table: object, what: str, others: bool):
    inside = f"{what}." if what else ""
    if not isinstance(table, dict):
        raise _wrong(table, [dict], what or "it")
    kinds = fields_of(cls)
    if unknown := [] if others else [name for name in table if name not in kinds]:
        raise ValueError(f"{inside}{shown(unknown[0])} is not known here; known are {', '.join(kinds)}")
    values = {name: check(table[name], kind, inside + name, others) for name, kind in kinds.items() if name in table}
    if absent := [f.name for f in dataclasses.fields(cls) if f.name not in values and _needed(f)]:
        raise ValueError(f"{inside}{absent[0]} is missing")
    return cls(**values)


def _needed(field: dataclasses.Field) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _wrong(value: object, kinds: list, what: str) -> ValueError:
    wanted = [WORDS.get(typing.get_origin(kind) or kind, "a table") for kind in kinds]
    return ValueError(f"{what} must be {' or '.join(wanted)}, not {shown(value)}")


@functools.cache
def fields_of(cls: type) -> dict[str, object]:
    """The annotation of each field, by its name."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}
