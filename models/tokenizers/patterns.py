"""Patterns that users and files bring. Some never come to an end, so each has a time limit.

`(a|aa)+$` tries every way to write a row of a's as ones and twos before it gives up: on 43 letters some 700 million.

tokenizer.json speaks the dialect of Oniguruma, which reads most as the `regex` package does. Known here besides: a
class inside a class ([^(\\s|[.,!?])], BLOOM's), ^ and $ of every line. What it reads otherwise is refused by name.
"""

import math
import re
from functools import cache

import regex

from models.schema import shown

SECONDS, PER_CHARACTER = 2.0, 1e-5  # a hundred times what GPT-4's pattern needs
LONGEST, REPEATS = 10_000, 1_000_000  # the package writes out {1000} that often before it matches anything
# {1,3}+ is possessive to one of them; \w has other characters, \h another meaning, (?m) is (?s)
ODD = re.compile(r"\\[hHRXGKkgwWbBZQyYNOM]|\(\?(?![:=!>]|<[=!]|-?i[:)])|\{[\d,]+\}\+")
ESCAPED = re.compile(r"\\[\\{}()]")
NESTED = re.compile(r"\[\^?(?:\\.|[^\]\\[])+(?:\[(?!:)|&&)", re.DOTALL)


@cache
def compiled(pattern: str, where: str) -> regex.Pattern:
    """A pattern of tokenizer.json; ValueError says what is wrong with it and `where` it stands."""
    if odd := ODD.search(ESCAPED.sub("", pattern)):
        raise ValueError(f"{where}: the pattern {shown(pattern)} has {odd[0]!r}, which is not supported: it means "
                         f"something else in Oniguruma, the dialect of tokenizer.json")
    repeats = math.prod(max(1, int(count)) for count in regex.findall(r"\{(\d{1,18})", pattern))
    if len(pattern) > LONGEST or repeats > REPEATS:
        raise ValueError(f"{where}: the pattern {shown(pattern)} is too long, or repeats too much, to be matched")
    try:
        return regex.compile(pattern, regex.MULTILINE | (regex.VERSION1 if NESTED.search(pattern) else 0))
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
