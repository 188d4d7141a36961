"""Lists and tables in files: every value in them held against the one annotation they have (models/schema.py)."""

import reprlib
import typing
from collections.abc import Callable
from typing import Annotated


def checked(value, holder: type, inner: tuple, what: str, check: Callable):
    """A list, a tuple or a dict that is as list[X], tuple[X, ...], tuple[X, Y] or dict[str, X] asks for.

    inner: X, and what else stands in the brackets.   check: of one value, by its annotation and its name.
    """
    if holder is dict:
        return dict(zip(value, _all(list(value.values()), value, inner[1], what, check)))
    if holder is list or inner[1:] == (...,):
        return holder(_all(list(value), range(len(value)), inner[0], what, check))
    if len(value) != len(inner):
        raise ValueError(f"{what} must be a list of {len(inner)}, not of {len(value)}")
    return tuple(check(each, kind, f"{what}[{i}]") for i, (each, kind) in enumerate(zip(value, inner)))


def _all(values: list, names, kind: object, what: str, check: Callable) -> list:
    quickly = _at_once(values, kind)
    if quickly is not None:
        return quickly
    return [check(value, kind, f"{what}[{reprlib.repr(name)}]") for name, value in zip(names, values)]


def _at_once(values: list, kind: object) -> list | None:
    """All of many values, such as a vocabulary's, if nothing is wrong with them; None: look at each by itself."""
    found, origin, inner = set(map(type, values)), typing.get_origin(kind), typing.get_args(kind)
    if kind in (str, bool):
        return values if found <= {kind} else None
    if origin is tuple and found <= {list} and set(map(len, values)) <= {len(inner)}:
        columns = [_at_once(list(column), each) for column, each in zip(zip(*values), inner)]
        return None if None in columns else list(zip(*columns))
    plain, within = inner if origin is Annotated else (kind, None)
    if plain not in (int, float) or not found <= {int, plain} or any(value != value for value in values):
        return None
    ends = (min(values), max(values)) if values else ()
    if any(within.missed_by(end) if within else abs(end) >= 2**63 for end in ends):
        return None
    return list(map(plain, values))
