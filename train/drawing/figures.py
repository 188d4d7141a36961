"""How things, animals and people of the stories are drawn: each of parts, in a square, each time a little otherwise.

A figure is drawn by a Pen in a square whose sides are 1: (0, 0) is its upper left corner, everything stands on y = 1,
and the figure is as wide or as high as the square. The pen mirrors every second one. What is drawn without naming a
colour has the figure's own. The parts that lie on top of nothing else are `late`: whoever draws them last has the same
figure.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from train.drawing.shapes import OWN, Circle, Ellipse, Group, Line, Point, Polygon, Rectangle, Shape


@dataclass
class Part:
    name: str
    late: bool = False
    shapes: list[Shape] = field(default_factory=list)


class Pen:
    """Draws in a square `size` wide, in whole numbers.   place: where on the grid the square's upper left corner is.
    colour: of what is drawn without naming one."""

    def __init__(self, place: Point, size: int, mirrored: bool, colour: str):
        self.place, self.size, self.mirrored, self.colour = place, size, mirrored, colour
        self.parts: list[Part] = []

    def group(self, *parts: Part) -> Group:
        """Some of the parts, where they belong."""
        shapes = tuple(shape for part in parts for shape in part.shapes)
        return Group(*self.place, shapes, self.colour if any(shape.colour == OWN for shape in shapes) else OWN)

    def part(self, name: str, late: bool = False) -> None:
        """What is drawn from now on is of this part."""
        self.parts.append(Part(name, late))

    def circle(self, x: float, y: float, r: float, colour: str = OWN) -> None:
        self._add(Circle(*self._at(x, y), self._long(r), colour))

    def ellipse(self, x: float, y: float, rx: float, ry: float, colour: str = OWN) -> None:
        self._add(Ellipse(*self._at(x, y), self._long(rx), self._long(ry), colour))

    def rectangle(self, x1: float, y1: float, x2: float, y2: float, colour: str = OWN) -> None:
        (left, top), (right, bottom) = self._at(x1, y1), self._at(x2, y2)
        left, right = min(left, right), max(left, right)
        self._add(Rectangle(left, top, max(1, right - left), max(1, bottom - top), colour))

    def polygon(self, *points: tuple[float, float], colour: str = OWN) -> None:
        self._add(Polygon(tuple(self._at(x, y) for x, y in points), colour))

    def line(self, x1: float, y1: float, x2: float, y2: float, colour: str = OWN) -> None:
        self._add(Line(*self._at(x1, y1), *self._at(x2, y2), colour))

    def _add(self, shape: Shape) -> None:
        self.parts[-1].shapes.append(shape)

    def _at(self, x: float, y: float) -> tuple[int, int]:
        x = 1 - x if self.mirrored else x
        return round(x * self.size), round(y * self.size)

    def _long(self, length: float) -> int:
        return max(1, round(length * self.size))


Figure = Callable[[Pen, random.Random], None]  # draws with a pen, with chance


def ball(pen: Pen, draw: random.Random) -> None:
    y, slope = draw.uniform(0.35, 0.65), draw.uniform(-0.1, 0.1)
    pen.part("ball")
    pen.circle(0.5, 0.5, 0.5)
    pen.part("stripe", late=True)
    pen.line(0.1, y - slope, 0.9, y + slope, "black" if pen.colour == "white" else "white")


def balloon(pen: Pen, draw: random.Random) -> None:
    wide, sway = draw.uniform(0.27, 0.33), draw.uniform(-0.08, 0.08)
    pen.part("balloon")
    pen.ellipse(0.5, 0.36, wide, 0.36)
    pen.part("string", late=True)
    pen.line(0.5, 0.74, 0.5 + sway, 0.98, "grey" if pen.colour == "black" else "black")


def house(pen: Pen, draw: random.Random) -> None:
    top, peak = draw.uniform(0.4, 0.5), draw.uniform(0.45, 0.55)
    door, roof = draw.uniform(0.55, 0.65), other(pen, draw, "red brown black grey orange")
    pen.part("walls")
    pen.rectangle(0.1, top, 0.9, 1)
    pen.part("roof", late=True)
    pen.polygon((0, top), (peak, 0), (1, top), colour=roof)
    pen.part("door", late=True)
    pen.rectangle(door, 0.68, door + 0.18, 1, "brown")
    pen.part("window", late=True)
    pen.rectangle(0.22, top + 0.12, 0.42, top + 0.3, other(pen, draw, "white yellow"))


def tree(pen: Pen, draw: random.Random) -> None:
    r, side = draw.uniform(0.28, 0.31), draw.uniform(0.19, 0.23)
    pen.part("trunk")
    pen.rectangle(0.43, 0.55, 0.57, 1, "brown")
    pen.part("crown")
    pen.circle(0.5 - side, 0.46, 0.21)
    pen.circle(0.5 + side, 0.46, 0.21)
    pen.circle(0.5, r, r)


def boat(pen: Pen, draw: random.Random) -> None:
    deck, bow, sail = draw.uniform(0.66, 0.74), draw.uniform(0.14, 0.22), draw.uniform(0.88, 0.98)
    pen.part("hull")
    pen.polygon((0, deck), (1, deck), (1 - bow, 1), (bow, 1))
    pen.part("mast", late=True)
    pen.line(0.46, deck, 0.46, 0.03, "brown")
    pen.part("sail", late=True)
    pen.polygon((0.48, 0.04), (0.48, deck - 0.1), (sail, deck - 0.1), colour=other(pen, draw, "white yellow"))


def kite(pen: Pen, draw: random.Random) -> None:
    wide, cross, sway = draw.uniform(0.3, 0.36), draw.uniform(0.26, 0.34), draw.uniform(-0.15, 0.15)
    pen.part("sail")
    pen.polygon((0.5, 0), (0.5 + wide, cross), (0.5, 0.7), (0.5 - wide, cross))
    pen.part("cross", late=True)
    sticks = other(pen, draw, "black white")
    pen.line(0.5, 0.05, 0.5, 0.65, sticks)
    pen.line(0.54 - wide, cross, 0.46 + wide, cross, sticks)
    pen.part("tail", late=True)
    pen.line(0.5, 0.72, 0.5 + sway, 0.98, other(pen, draw, "red blue"))


def cart(pen: Pen, draw: random.Random) -> None:
    top, r, wheel = draw.uniform(0.38, 0.46), draw.uniform(0.14, 0.17), draw.uniform(0.16, 0.22)
    pen.part("tray")
    pen.rectangle(0, top, 0.84, 0.8)
    pen.part("wheels", late=True)
    for x in (wheel, 0.84 - wheel):
        pen.circle(x, 1 - r, r, "grey" if pen.colour == "black" else "black")
    pen.part("handle", late=True)
    pen.line(0.86, 0.6, 1, top - 0.1, "brown")


def flower(pen: Pen, draw: random.Random) -> None:
    sway, leaf = draw.uniform(-0.06, 0.06), draw.uniform(0.66, 0.76)
    pen.part("stem")
    pen.line(0.5, 0.5, 0.5 + sway, 0.98, "green")
    pen.part("petals")
    for x, y in ((0.5, 0.15), (0.67, 0.27), (0.6, 0.46), (0.4, 0.46), (0.33, 0.27)):
        pen.circle(x, y, 0.15)
    pen.part("centre", late=True)
    pen.circle(0.5, 0.32, 0.1, "orange" if pen.colour == "yellow" else "yellow")
    pen.part("leaf", late=True)
    pen.polygon((0.52, 0.9), (0.6, leaf), (0.78, leaf), colour="green")


def fish(pen: Pen, draw: random.Random) -> None:
    high, fin = draw.uniform(0.22, 0.28), draw.uniform(0.2, 0.26)
    y = 1 - high
    pen.part("body")
    pen.ellipse(0.6, y, 0.4, high)
    pen.part("tail", late=True)
    pen.polygon((0.24, y), (0, y - fin), (0, y + fin), colour=other(pen, draw, "orange blue red"))
    pen.part("eye", late=True)
    pen.circle(0.82, y - 0.06, 0.04, "white" if pen.colour == "black" else "black")


def bird(pen: Pen, draw: random.Random) -> None:
    high, wing = draw.uniform(0.19, 0.23), draw.uniform(0.28, 0.36)
    pen.part("body")
    pen.ellipse(0.44, 0.62, 0.3, high)
    pen.part("head")
    pen.circle(0.74, 0.38, 0.15)
    pen.part("beak", late=True)
    pen.polygon((0.87, 0.31), (1, 0.39), (0.87, 0.46), colour="orange")
    pen.part("eye", late=True)
    pen.circle(0.77, 0.35, 0.03, "white" if pen.colour == "black" else "black")
    pen.part("tail", late=True)
    pen.polygon((0.2, 0.6), (0, 0.42), (0.02, 0.66))
    pen.part("wing", late=True)
    pen.polygon((wing, 0.54), (wing + 0.28, 0.54), (wing + 0.06, 0.74), colour=other(pen, draw, "grey white brown"))
    pen.part("legs", late=True)
    for x in (0.38, 0.52):
        pen.line(x, 0.62 + high, x, 0.98, "orange")


def cat(pen: Pen, draw: random.Random) -> None:
    high, tail = draw.uniform(0.17, 0.21), draw.uniform(0.28, 0.4)
    pen.part("body")
    pen.ellipse(0.44, 0.66, 0.3, high)
    pen.part("head")
    pen.circle(0.76, 0.4, 0.19)
    pen.part("ears", late=True)
    pen.polygon((0.59, 0.32), (0.61, 0.06), (0.76, 0.22))
    pen.polygon((0.78, 0.22), (0.92, 0.06), (0.94, 0.32))
    pen.part("eyes", late=True)
    for x in (0.7, 0.83):
        pen.circle(x, 0.38, 0.03, "white" if pen.colour in ("black", "green") else "green")
    legs(pen, (0.24, 0.34, 0.54, 0.64), 0.76)
    pen.part("tail", late=True)
    pen.line(0.16, 0.62, 0.03, tail)


def horse(pen: Pen, draw: random.Random, horned: bool = False) -> None:
    high = draw.uniform(0.15, 0.18)
    hair = other(pen, draw, "pink purple blue" if horned else "black brown white")
    pen.part("body")
    pen.ellipse(0.42, 0.58, 0.3, high)
    pen.part("neck")
    pen.polygon((0.5, 0.5), (0.7, 0.6), (0.86, 0.34), (0.72, 0.26))
    pen.part("head")
    pen.ellipse(0.85, 0.32, 0.14, 0.09)
    legs(pen, (0.2, 0.3, 0.54, 0.64), 0.68)
    pen.part("ear", late=True)
    pen.polygon((0.73, 0.26), (0.74, 0.12), (0.8, 0.24))
    if horned:
        pen.part("horn", late=True)
        pen.polygon((0.82, 0.24), (draw.uniform(0.9, 0.96), 0), (0.9, 0.25), colour="gold")
    pen.part("eye", late=True)
    pen.circle(0.86, 0.3, 0.02, "white" if pen.colour == "black" else "black")
    pen.part("mane", late=True)
    pen.polygon((0.44, 0.48), (0.66, 0.18), (0.73, 0.2), (0.58, 0.5), colour=hair)
    pen.part("tail", late=True)
    tip = draw.uniform(0.76, 0.88)
    pen.polygon((0.14, 0.5), (0.02, 0.56), (0, tip), (0.1, tip - 0.08), colour=hair)


def unicorn(pen: Pen, draw: random.Random) -> None:
    horse(pen, draw, horned=True)


def girl(pen: Pen, draw: random.Random) -> None:
    hem, hand = draw.uniform(0.2, 0.26), draw.uniform(0.5, 0.62)
    pen.part("hair")
    pen.circle(0.5, 0.19, 0.19, other(pen, draw, "brown black orange"))
    pen.part("head")
    pen.circle(0.5, 0.22, 0.14, "wheat")
    pen.part("legs", late=True)
    for x in (0.43, 0.57):
        pen.line(x, 0.84, x, 0.98, "wheat")
    pen.part("dress")
    pen.polygon((0.42, 0.36), (0.58, 0.36), (0.5 + hem, 0.82), (0.5 - hem, 0.82))
    pen.part("arms", late=True)
    pen.line(0.4, 0.42, 0.24, hand, "wheat")
    pen.line(0.6, 0.42, 0.76, hand, "wheat")


def boy(pen: Pen, draw: random.Random) -> None:
    wide, hand = draw.uniform(0.15, 0.18), draw.uniform(0.5, 0.62)
    trousers = other(pen, draw, "blue black brown")
    pen.part("head")
    pen.circle(0.5, 0.2, 0.15, "wheat")
    pen.part("hair", late=True)
    pen.polygon((0.34, 0.16), (0.4, 0), (0.6, 0), (0.66, 0.16), colour=other(pen, draw, "brown black orange"))
    pen.part("shirt")
    pen.rectangle(0.5 - wide, 0.36, 0.5 + wide, 0.66)
    pen.part("trousers", late=True)
    pen.rectangle(0.5 - wide, 0.66, 0.48, 1, trousers)
    pen.rectangle(0.52, 0.66, 0.5 + wide, 1, trousers)
    pen.part("arms", late=True)
    pen.line(0.48 - wide, 0.42, 0.2, hand, "wheat")
    pen.line(0.52 + wide, 0.42, 0.8, hand, "wheat")


def legs(pen: Pen, places: tuple[float, ...], top: float) -> None:
    pen.part("legs", late=True)
    for x in places:
        pen.line(x, top, x, 0.98)


def other(pen: Pen, draw: random.Random, names: str) -> str:
    """One of these colours that is not the figure's."""
    return draw.choice([name for name in names.split() if name != pen.colour])


FIGURES: dict[str, Figure] = {
    figure.__name__: figure
    for figure in (ball, balloon, house, tree, boat, kite, cart, flower, fish, bird, cat, horse, unicorn, girl, boy)
}
