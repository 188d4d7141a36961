"""Scenes of the stories' world and pictures of them: who and what is there, in which colours and sizes, and where.

A scene is a place and up to six things in it; it says all that its picture shows:

    in the park: a big girl in red at 60 140, a small blue ball at 190 77

(x and y measure 256 over the whole picture, so things stand at fractions of a pixel and a model cannot learn a patch by
heart.) A corpus of pictures is a text of such lines, the user's own or as many as asked for from a seed; it is drawn,
at any number of pixels, when it is learned. What is asked about scenes stands in questions.py.

Eight pairs of a colour and a kind, UNSEEN, are in no scene that is learned from: a model that knows red and knows boats
should know a red boat.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from tinytensor import random
from train.data.raster import Canvas, Colour
from train.data.text import HELD_OUT

UNITS = 256  # of a picture's width and height
MOST = 6  # things in a scene
SIZES = {"big": 48, "small": 32}  # from the middle of a thing to its edge
COLOURS: dict[str, Colour] = {
    "red": (0.87, 0.10, 0.13), "green": (0.05, 0.47, 0.15), "blue": (0.12, 0.20, 0.86), "yellow": (1.00, 0.88, 0.02),
    "black": (0.07, 0.07, 0.07), "white": (1.00, 1.00, 1.00)}  # fmt: skip
PLACES: dict[str, tuple[Colour, Colour]] = {  # above and below the horizon
    "in the park": ((0.62, 0.80, 0.93), (0.58, 0.77, 0.45)), "on the beach": ((0.55, 0.80, 0.88), (0.88, 0.77, 0.54)),
    "in the wood": ((0.58, 0.70, 0.54), (0.58, 0.48, 0.38)), "in the town": ((0.76, 0.72, 0.80), (0.58, 0.58, 0.62))}
HORIZON = 150

SKIN, HAIR, LEGS, WOOD, BEAK = (0.95, 0.76, 0.62), (0.42, 0.24, 0.10), (0.30, 0.27, 0.35), (0.50, 0.33, 0.18), (
    0.95, 0.50, 0.10)  # fmt: skip
# What a kind is made of, back to front: ellipses (x, y, rx, ry), polygons and lines (x1, y1, x2, y2, width), around its
# middle and with 1 for its size. Parts without a colour have the thing's own.
PARTS: dict[str, list[tuple]] = {
    "girl": [("ellipse", (0, -0.60, 0.46, 0.44), HAIR), ("polygon", ((0, -0.35), (0.72, 0.98), (-0.72, 0.98))),
             ("ellipse", (0, -0.52, 0.30, 0.32), SKIN)],
    "boy": [("line", (-0.25, 0.5, -0.25, 0.88, 0.30), LEGS), ("line", (0.25, 0.5, 0.25, 0.88, 0.30), LEGS),
            ("polygon", ((-0.48, -0.22), (0.48, -0.22), (0.48, 0.55), (-0.48, 0.55))),
            ("ellipse", (0, -0.58, 0.36, 0.38), SKIN)],
    "dog": [("line", (-0.52, 0.2, -0.52, 0.85, 0.24)), ("line", (0.42, 0.2, 0.42, 0.85, 0.24)),
            ("line", (-0.62, 0.0, -0.90, -0.42, 0.20)), ("ellipse", (-0.05, 0.14, 0.66, 0.34)),
            ("ellipse", (0.60, -0.32, 0.36, 0.32)), ("ellipse", (0.42, -0.22, 0.13, 0.30), HAIR)],
    "bird": [("ellipse", (0.05, 0.10, 0.58, 0.44)), ("polygon", ((-0.35, 0.05), (-1.0, -0.25), (-0.95, 0.35))),
             ("polygon", ((0.55, -0.25), (1.0, -0.02), (0.55, 0.12)), BEAK), ("ellipse", (0.40, -0.22, 0.32, 0.30)),
             ("line", (0.0, 0.5, 0.0, 0.9, 0.14), BEAK)],
    "ball": [("ellipse", (0, 0, 0.82, 0.82)), ("line", (-0.60, 0.0, 0.60, 0.0, 0.22), HAIR)],
    "kite": [("polygon", ((0, -1.0), (0.62, -0.25), (0, 0.50), (-0.62, -0.25))),
             ("line", (0, 0.50, -0.35, 0.95, 0.16), HAIR)],
    "boat": [("polygon", ((-0.95, 0.30), (0.95, 0.30), (0.55, 0.85), (-0.55, 0.85))),
             ("line", (0, -0.9, 0, 0.30, 0.16), HAIR), ("polygon", ((0.10, -0.85), (0.75, 0.10), (0.10, 0.10)), SKIN)],
    "house": [("polygon", ((-0.75, -0.15), (0.75, -0.15), (0.75, 0.90), (-0.75, 0.90))),
              ("polygon", ((0, -0.95), (0.98, -0.12), (-0.98, -0.12)), WOOD),
              ("polygon", ((-0.2, 0.35), (0.2, 0.35), (0.2, 0.90), (-0.2, 0.90)), HAIR)],
}  # fmt: skip
PEOPLE = ("girl", "boy")
UNSEEN = frozenset((colour, kind) for kind, colour in zip(PARTS, [*COLOURS, *COLOURS]))
SEEN = [(colour, kind) for colour in COLOURS for kind in PARTS if (colour, kind) not in UNSEEN]


@dataclass(frozen=True)
class Thing:
    """A person, an animal or a thing, with its middle at (x, y), whole numbers from 0 to 255."""

    kind: str
    colour: str
    size: str
    x: int
    y: int

    @property
    def pair(self) -> tuple[str, str]:
        return self.colour, self.kind

    def __str__(self) -> str:
        return named(self.kind, self.colour, self.size)


@dataclass(frozen=True)
class Scene:
    """A place, and what is there, from left to right."""

    place: str
    things: tuple[Thing, ...]

    def line(self) -> str:
        """The scene as a line of a corpus."""
        return f"{self.place}: " + ", ".join(f"{thing} at {thing.x} {thing.y}" for thing in self.things)

    @property
    def caption(self) -> str:
        """The things from left to right, and the place."""
        return f"{listed(map(str, self.things))} {self.place}"

    @property
    def story(self) -> str:
        """A sentence as the stories have it: the first person there, or else the first thing, and the others."""
        first = next((thing for thing in self.things if thing.kind in PEOPLE), self.things[0])
        others = listed(str(thing) for thing in self.things if thing is not first)
        if first.kind in PEOPLE:
            return f"Once there was {first} who {f'saw {others}' if others else 'was'} {self.place}."
        return f"One day {first} was {self.place}{f' with {others}' if others else ''}."


def named(kind: str, colour: str = "", size: str = "") -> str:
    """a big red ball; a small girl in red"""
    before = (size,) if kind in PEOPLE else (size, colour)
    worn = f" in {colour}" if kind in PEOPLE and colour else ""
    return " ".join(("a", *filter(None, before), kind)) + worn


def listed(names: Iterable[str]) -> str:
    """one, two and three"""
    *first, last = [*names] or [""]
    return f"{', '.join(first)} and {last}" if first else last


def draw(scene: Scene, side: int) -> np.ndarray:
    """The picture of a scene: (side, side, 3), float32 from 0 to 1."""
    picture = _background(scene.place, side).copy()
    for thing in scene.things:
        left, top, own, behind, rest = _look(thing.kind, SIZES[thing.size], thing.x * side, thing.y * side, side)
        rows, columns = (slice(max(0, first), first + len(own)) for first in (top, left))
        here = picture[rows, columns]
        inside = np.s_[rows.start - top : rows.start - top + here.shape[0],
                       columns.start - left : columns.start - left + here.shape[1]]  # fmt: skip
        here *= behind[inside]
        here += rest[inside] + own[inside] * np.array(COLOURS[thing.colour], np.float32)
    return picture


@functools.cache
def _background(place: str, side: int) -> np.ndarray:
    above, below = PLACES[place]
    canvas = Canvas(side, side, UNITS, above)
    canvas.rectangle(0, HORIZON, UNITS, UNITS - HORIZON, below)
    return canvas.pixels


def _look(kind: str, r: int, x: int, y: int, side: int) -> tuple:
    """(left, top, own, behind, rest): a thing's picture is own * its colour + behind * what is behind it + rest.

    x, y: its middle, in UNITS * side.   left, top: the pixel that the arrays (n, n, 1 or 3) begin at.
    """
    (left, x), (top, y) = divmod(x, UNITS), divmod(y, UNITS)
    before, *arrays = _painted(kind, r, x / UNITS, y / UNITS, side)
    return left - before, top - before, *arrays


@functools.lru_cache(8192)
def _painted(kind: str, r: int, x: float, y: float, side: int) -> tuple:
    """A picture is linear in its colours, so three are enough: all black, with the thing's colour, with what is behind.

    x, y: the part of a pixel by which its middle lies behind the first corner of a pixel.   Kept, as drawing them takes
    most of the time: as things stand at eighths of 32 x 32 pixels, there are 64 for each kind and size.
    """
    before = math.ceil(r * side / UNITS) + 1  # pixels from the first to the middle
    n, unit = 2 * before + 1, UNITS / side
    at = lambda u, v: ((before + x) * unit + r * u, (before + y) * unit + r * v)
    made = []
    for own, behind in ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)):
        canvas = Canvas(n, n, n * unit, (behind,) * 3)
        for shape, numbers, *other in PARTS[kind]:
            colour = other[0] if other else (own,) * 3
            colour = (0.0,) * 3 if other and behind else colour
            if shape == "ellipse":
                canvas.ellipse(*at(*numbers[:2]), r * numbers[2], r * numbers[3], colour)
            elif shape == "line":
                canvas.line(*at(*numbers[:2]), *at(*numbers[2:4]), r * numbers[4], colour)
            else:
                canvas.polygon([at(*point) for point in numbers], colour)
        made.append(canvas.pixels)
    rest, own, behind = made
    return before, (own - rest)[..., :1], behind[..., :1], rest


# ---- as many scenes as asked for


def scenes(*seed: int, pairs: Iterable[tuple[str, str]] = SEEN) -> Iterator[Scene]:
    """Scenes without end.   pairs: the colours and kinds that there may be, together."""
    pairs = [*pairs]
    for number in count():
        with random.seeded(*seed, number) as chance:
            yield _scene(chance, pairs)


def _scene(chance: np.random.Generator, pairs: list[tuple[str, str]]) -> Scene:
    """A scene by chance. In two of three some things have one kind, or one colour: there is something to count."""
    drawn = lambda some: some[chance.integers(len(some))]
    number, part = chance.integers(1, MOST + 1), chance.integers(3)
    chosen = [drawn(pairs) for _ in range(number)]
    if part < 2:
        many = min(number, chance.integers(2, 5))
        chosen[:many] = [drawn([pair for pair in pairs if pair[part] == chosen[0][part]]) for _ in range(many)]
    things: list[Thing] = []
    for colour, kind in chosen:
        size = [*SIZES][chance.integers(2)]
        if (place := _room(chance, things, SIZES[size])) is not None:
            things.append(Thing(kind, colour, size, *place))
    return Scene([*PLACES][chance.integers(len(PLACES))], tuple(sorted(things, key=lambda thing: thing.x)))


def _room(chance: np.random.Generator, things: list[Thing], r: int) -> tuple[int, int] | None:
    """A place at which a thing touches no other and lies within the picture; None if it is not easily found."""
    for x, y in chance.integers(r, UNITS - r, (40, 2)).tolist():
        if all((x - t.x) ** 2 + (y - t.y) ** 2 >= (r + SIZES[t.size]) ** 2 for t in things):
            return x, y
    return None


def thinned(scene: Scene, most: int, chance: np.random.Generator) -> Scene:
    """The scene with so many of its things at most."""
    if len(scene.things) <= most:
        return scene
    kept = chance.choice(len(scene.things), most, replace=False)
    return Scene(scene.place, tuple(scene.things[i] for i in sorted(kept)))


class ScenesSource:
    """Made-up scenes as the text of a corpus. The last tenth is held out."""

    nats = (None, None)

    def __init__(self, characters: int, seed: int = 0, held_out: float = HELD_OUT):
        lines, length = [], 0
        for scene in scenes(seed):
            lines.append(scene.line() + "\n")
            length += len(lines[-1])
            if length >= characters and len(lines) >= 2:
                break
        first = len(lines) - max(1, int(len(lines) * held_out))
        self.lines = lines[:first], lines[first:]

    def parts(self) -> tuple[Iterable[str], Iterable[str]]:
        return self.lines

    def said(self) -> str:
        return f"held out, not learned from: the last {len(self.lines[1]):,} of {sum(map(len, self.lines)):,} pictures"


# ---- scenes as numbers, in the flat files that every corpus is stored in

WIDTH = 2 + 5 * MOST  # numbers a scene
THING = re.compile(
    rf"a ({'|'.join(SIZES)}) (?:({'|'.join(PEOPLE)}) in ({'|'.join(COLOURS)})|"
    rf"({'|'.join(COLOURS)}) ({'|'.join(kind for kind in PARTS if kind not in PEOPLE)})) at (\d+) (\d+)"
)


def parse(line: str) -> Scene:
    """The scene of a line; ValueError if it says none."""
    place, _, rest = line.strip().partition(": ")
    found = [THING.fullmatch(part) for part in rest.split(", ")]
    if place not in PLACES or not all(found) or not 1 <= len(found) <= MOST:
        like = "in the park: a big girl in red at 60 140, a small blue ball at 190 77"
        raise ValueError(f"{line.strip()[:60]!r} is no scene; one is a line such as {like!r}, of {MOST} things at most")
    things = [Thing(who or what, worn or own, size, int(x), int(y)) for size, who, worn, own, what, x, y in
              (one.groups() for one in found)]  # fmt: skip
    if wrong := [thing for thing in things if max(thing.x, thing.y) >= UNITS]:
        raise ValueError(f"{wrong[0]} stands at {wrong[0].x} {wrong[0].y}; places go from 0 to {UNITS - 1}")
    return Scene(place, tuple(sorted(things, key=lambda thing: thing.x)))


def numbers(scene: Scene) -> list[int]:
    """A scene as WIDTH numbers, each less than 256: its place, how many things, and five numbers for each of those."""
    index = lambda names, name: [*names].index(name)
    found = [index(PLACES, scene.place), len(scene.things)]
    for thing in scene.things:
        words = (PARTS, thing.kind), (COLOURS, thing.colour), (SIZES, thing.size)
        found += [*(index(*word) for word in words), thing.x, thing.y]
    return found + [0] * (WIDTH - len(found))


def scene_of(found: Iterable[int]) -> Scene:
    """The scene that `numbers` told."""
    place, many, *rest = map(int, found)
    kinds, colours, sizes, xs, ys = (rest[i : 5 * many : 5] for i in range(5))
    names = ([[*table][i] for i in row] for table, row in ((PARTS, kinds), (COLOURS, colours), (SIZES, sizes)))
    return Scene([*PLACES][place], tuple(map(Thing, *names, xs, ys)))
