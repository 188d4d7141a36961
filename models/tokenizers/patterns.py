"""Patterns that users and files bring. Some never come to an end, so each has a time limit.

`(a|aa)+$` tries every way to write a row of a's as ones and twos before it gives up: on 43 letters some 700 million.
"""

import math

import regex

from models.schema import shown

SECONDS, PER_CHARACTER = 2.0, 1e-5  # a hundred times what GPT-4's pattern needs
LONGEST, REPEATS = 10_000, 1_000_000  # the package writes out {1000} that often before it matches anything


def compiled(pattern: str, where: str) -> regex.Pattern:
    """A pattern of the `regex` package; ValueError says what is wrong with it and `where` it stands."""
    repeats = math.prod(max(1, int(count)) for count in regex.findall(r"\{(\d{1,18})", pattern))
    if len(pattern) > LONGEST or repeats > REPEATS:
        raise ValueError(f"{where}: the pattern {shown(pattern)} is too long, or repeats too much, to be matched")
    try:
        return regex.compile(pattern)
    except (regex.error, RecursionError) as error:
        why = "it nests too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"{where}: the pattern {shown(pattern)} does not compile: {why}") from None


def matches(pattern: regex.Pattern, text: str) -> list[regex.Match]:
    """Where the pattern matches, from left to right; ValueError if it takes longer than any sensible one."""
    try:
        return list(pattern.finditer(text, timeout=SECONDS + PER_CHARACTER * len(text)))
    except TimeoutError:
        raise ValueError(f"the pattern {shown(pattern.pattern)} takes too long on {shown(text)}; "
                         "write it without repetitions of what repeats itself") from None
