"""Small exact tasks for a model that reads a text and writes one: reversing, sorting, adding.

    reverse   reverse: stressed -> desserts       3 to 10 letters, of 2 to 10 different ones
    sort      sort: 31415926 -> 11234569          3 to 10 digits
    add       add: 123+989 -> 1112                two numbers of three digits

No text on earth helps to guess the answers, so a model either finds the procedure or fails on inputs it has not seen.
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable


def reverse(draw: random.Random) -> tuple[str, str]:
    # Most come more than once, as in words: where none does, a model may go from letter to letter without counting.
    letters = draw.sample(string.ascii_lowercase, draw.randint(2, 10))
    text = "".join(draw.choices(letters, k=draw.randint(3, 10)))
    return text, text[::-1]


def sort(draw: random.Random) -> tuple[str, str]:
    digits = "".join(draw.choices(string.digits, k=draw.randint(3, 10)))
    return digits, "".join(sorted(digits))


def add(draw: random.Random) -> tuple[str, str]:
    a, b = draw.randrange(100, 1000), draw.randrange(100, 1000)
    return f"{a}+{b}", str(a + b)


TOYS: dict[str, Callable] = {"reverse": reverse, "sort": sort, "add": add}
MOST = 200_000  # of 810,000 sums, so that drawing another one does not take long


def examples(name: str, count: int, held_out: int, seed: int = 0) -> tuple[list[dict], list[dict]]:
    """(`count` examples, `held_out` others): {"task", "input", "target"}, no input twice."""
    if name not in TOYS:
        raise ValueError(f"there is no toy task {name!r}; choose from {', '.join(TOYS)}")
    if count < 1 or held_out < 1 or count + held_out > MOST:
        raise ValueError(f"{name}: {count} examples and {held_out} held out must be at least 1, and {MOST} together")
    draw, made = random.Random(seed), {}
    while len(made) < count + held_out:
        text, target = TOYS[name](draw)
        made[text] = {"task": name, "input": text, "target": target}
    made = list(made.values())
    return made[held_out:], made[:held_out]
