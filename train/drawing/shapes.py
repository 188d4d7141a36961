"""A drawing is a row of shapes, each painted over those before it, on a grid of 96 x 96 whole numbers.

x grows to the right and y down, as in SVG. Colours are SVG's own names, and the paper is light blue, so that white
shows. Every line is 2 units wide and has round ends. Shapes that belong together may be a group, which says where on
the grid their own (0, 0) is, and what colour those of them have that say none.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np

from train.data.raster import Canvas

GRID, LINE, PAPER = 96, 2, "lightblue"
OWN = ""  # a shape's colour is that of its group
COLOURS = {  # red, green, blue
    "red": (255, 0, 0), "blue": (0, 0, 255), "green": (0, 128, 0), "yellow": (255, 255, 0), "black": (0, 0, 0),
    "white": (255, 255, 255), "pink": (255, 192, 203), "grey": (128, 128, 128), "brown": (165, 42, 42),
    "orange": (255, 165, 0), "gold": (255, 215, 0), "purple": (128, 0, 128), "wheat": (245, 222, 179),
    PAPER: (173, 216, 230),
}  # fmt: skip
Box = tuple[int, int, int, int]  # left, top, right, bottom
Point = tuple[int, int]


@dataclass(frozen=True)
class Circle:
    x: int
    y: int
    r: int
    colour: str

    def __post_init__(self):
        check(self, positive=("r",))

    @property
    def box(self) -> Box:
        return self.x - self.r, self.y - self.r, self.x + self.r, self.y + self.r


@dataclass(frozen=True)
class Ellipse:
    x: int
    y: int
    rx: int
    ry: int
    colour: str

    def __post_init__(self):
        check(self, positive=("rx", "ry"))

    @property
    def box(self) -> Box:
        return self.x - self.rx, self.y - self.ry, self.x + self.rx, self.y + self.ry


@dataclass(frozen=True)
class Rectangle:
    """(x, y) is its upper left corner."""

    x: int
    y: int
    width: int
    height: int
    colour: str

    def __post_init__(self):
        check(self, positive=("width", "height"))

    @property
    def box(self) -> Box:
        return self.x, self.y, self.x + self.width, self.y + self.height


@dataclass(frozen=True)
class Polygon:
    points: tuple[Point, ...]
    colour: str

    def __post_init__(self):
        check(self)
        if len(self.points) < 3:
            raise ValueError(f"a polygon has at least 3 points, not {len(self.points)}")

    @property
    def box(self) -> Box:
        xs, ys = zip(*self.points)
        return min(xs), min(ys), max(xs), max(ys)


@dataclass(frozen=True)
class Line:
    x1: int
    y1: int
    x2: int
    y2: int
    colour: str

    def __post_init__(self):
        check(self)

    @property
    def box(self) -> Box:
        return min(self.x1, self.x2), min(self.y1, self.y2), max(self.x1, self.x2), max(self.y1, self.y2)


Shape = Circle | Ellipse | Rectangle | Polygon | Line


@dataclass(frozen=True)
class Group:
    """Shapes that are moved together, by (x, y).   colour: of those that have their group's."""

    x: int
    y: int
    shapes: tuple[Shape, ...]
    colour: str = OWN

    def __post_init__(self):
        if not self.shapes:
            raise ValueError("a group has no shapes")
        check_colour("group", self.colour)
        if not self.colour and any(shape.colour == OWN for shape in self.shapes):
            raise ValueError("a shape says no colour, nor does its group")
        _ = self.alone  # which must lie on the grid, too

    @property
    def alone(self) -> tuple[Shape, ...]:
        """The shapes as they are without the group: where they come to lie, in their colours."""
        moved = (_moved(shape, self.x, self.y) for shape in self.shapes)
        return tuple(replace(shape, colour=shape.colour or self.colour) for shape in moved)


Drawing = tuple[Shape | Group, ...]


def flat(drawing: Drawing) -> tuple[Shape, ...]:
    """The shapes of a drawing without groups, each where it lies."""
    return tuple(shape for one in drawing for shape in (one.alone if isinstance(one, Group) else (one,)))


def complete(drawing: Drawing) -> Drawing:
    """The same drawing; ValueError if a shape outside all groups says no colour."""
    for one in drawing:
        if one.colour == OWN and not isinstance(one, Group):
            raise ValueError(f"a {type(one).__name__.lower()} says no colour, and stands in no group that has one")
    return drawing


def _moved(shape: Shape, x: int, y: int) -> Shape:
    match shape:
        case Polygon(points):
            return replace(shape, points=tuple((px + x, py + y) for px, py in points))
        case Line(x1, y1, x2, y2):
            return replace(shape, x1=x1 + x, y1=y1 + y, x2=x2 + x, y2=y2 + y)
    return replace(shape, x=shape.x + x, y=shape.y + y)


def check(shape: Shape, positive: Sequence[str] = ()) -> None:
    """Refuse a shape with a number that the grid does not have, or an unknown colour.   positive: not 0 either."""
    name = type(shape).__name__.lower()
    for field, value in vars(shape).items():
        if field == "colour":
            check_colour(name, value)
            continue
        least = int(field in positive)
        for number in np.ravel(value).tolist():
            if not (isinstance(number, int) and least <= number <= GRID):
                raise ValueError(f"a {name} has {field} {value}; the grid has whole numbers from {least} to {GRID}")


def check_colour(name: str, colour: str) -> None:
    if colour not in COLOURS and colour != OWN:
        raise ValueError(f"a {name} is {colour!r}; the colours are {', '.join(COLOURS)}")


def paint(drawing: Drawing, pixels: int = GRID) -> np.ndarray:
    """(pixels, pixels, 3), float32 from 0 to 1."""
    colour = {name: tuple(value / 255 for value in rgb) for name, rgb in COLOURS.items()}
    canvas = Canvas(pixels, pixels, GRID, colour[PAPER])
    for shape in flat(drawing):
        *numbers, name = astuple(shape)
        match shape:
            case Circle():
                canvas.circle(*numbers, colour[name])
            case Ellipse():
                canvas.ellipse(*numbers, colour[name])
            case Rectangle():
                canvas.rectangle(*numbers, colour[name])
            case Polygon():
                canvas.polygon(*numbers, colour[name])
            case Line():
                canvas.line(*numbers, LINE, colour[name])
    return canvas.pixels
