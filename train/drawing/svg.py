"""Drawings as SVG, which every browser shows, and back.

What is read must be what is written: the five elements with these attributes and no others, in any order, and groups
that are moved and may have a colour for what says none. Anything else is refused by name, so that no drawing is ever
read as less than it says.
"""

import re

from train.drawing.shapes import (
    COLOURS,
    GRID,
    LINE,
    OWN,
    PAPER,
    Circle,
    Drawing,
    Ellipse,
    Group,
    Line,
    Polygon,
    Rectangle,
    Shape,
    complete,
)

HEAD = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {GRID} {GRID}" width="480" height="480" '
        f'style="background: {PAPER}" stroke-width="{LINE}" stroke-linecap="round">')  # fmt: skip
TAIL = "</svg>"
ELEMENTS = {  # the name of each kind of shape, and its numbers' names
    Circle: ("circle", ("cx", "cy", "r")),
    Ellipse: ("ellipse", ("cx", "cy", "rx", "ry")),
    Rectangle: ("rect", ("x", "y", "width", "height")),
    Line: ("line", ("x1", "y1", "x2", "y2")),
    Polygon: ("polygon", ("points",)),
}
KINDS = {name: (kind, numbers) for kind, (name, numbers) in ELEMENTS.items()}
OPEN = re.compile(r'<g(?: color="(\w+)")? transform="translate\(([0-9]{1,4}),([0-9]{1,4})\)">')
CLOSE, CURRENT = "</g>", "currentColor"  # what SVG calls the colour that a group has
TAG = re.compile(r'<\s*([^\s<>/"]*)((?:\s+[^\s<>/="]+\s*=\s*"[^"<>]*")*)\s*/\s*>')
ATTRIBUTE = re.compile(r'([^\s="]+)\s*=\s*"([^"]*)"')
PAIR = re.compile(r"\s*(\d+)\s*,\s*(\d+)(?=\s|$)")


def write(drawing: Drawing) -> str:
    """A whole file."""
    return "\n".join([HEAD, *map(element, drawing), TAIL]) + "\n"


def element(shape: Shape | Group) -> str:
    """One shape or group."""
    if isinstance(shape, Group):
        own = f' color="{shape.colour}"' if shape.colour != OWN else ""
        first = f'<g{own} transform="translate({shape.x},{shape.y})">'
        return "\n".join([first, *map(element, shape.shapes), CLOSE])
    name, numbers = ELEMENTS[type(shape)]
    *values, colour = vars(shape).values()
    if isinstance(shape, Polygon):
        values = [" ".join(f"{x},{y}" for x, y in shape.points)]
    said = "".join(f' {number}="{value}"' for number, value in zip(numbers, values))
    return f'<{name}{said} {paint_of(shape)}="{colour or CURRENT}"/>'


def paint_of(shape: Shape) -> str:
    return "stroke" if isinstance(shape, Line) else "fill"


def read(text: str) -> Drawing:
    """The drawing that a file, or only its elements, says; ValueError names what is not understood."""
    text = text.strip()
    if text.startswith(HEAD):
        text = text.removeprefix(HEAD)
        if not text.endswith(TAIL):
            raise ValueError(f"the SVG does not end with {TAIL}")
        text = text.removesuffix(TAIL).strip()
    drawing, group = [], None
    while text:
        if group is None and (opened := OPEN.match(text)):
            colour, x, y = opened.groups(default=OWN)
            group, inside, rest = (int(x), int(y)), [], text[opened.end() :]
        elif group is not None and text.startswith(CLOSE):
            drawing.append(Group(*group, tuple(inside), colour))
            group, rest = None, text.removeprefix(CLOSE)
        else:
            tag = TAG.match(text)
            if not tag or tag[1] not in KINDS:
                known = ", ".join(f"<{name}/>" for name in KINDS)
                raise ValueError(f"{text[:40]!r} is not understood; a drawing has {known}, and <g> with a translation")
            (drawing if group is None else inside).append(_shape(*tag.groups()))
            rest = text[tag.end() :]
        text = rest.lstrip()
    if group is not None:
        raise ValueError(f"a <g> does not end with {CLOSE}")
    return complete(tuple(drawing))


def _shape(name: str, rest: str) -> Shape:
    kind, numbers = KINDS[name]
    paint, said = ("stroke" if kind is Line else "fill"), ATTRIBUTE.findall(rest)
    wanted = (*numbers, paint)
    if sorted(attribute for attribute, _ in said) != sorted(wanted):
        given = ", ".join(attribute for attribute, _ in said) or "nothing"
        raise ValueError(f"<{name}/> takes {', '.join(wanted)}, each once; this one has {given}")
    values = dict(said)
    if values[paint] not in (*COLOURS, CURRENT):
        raise ValueError(f"<{name}/> has {paint} {values[paint]!r}; the colours are {', '.join(COLOURS)}")
    colour = OWN if values[paint] == CURRENT else values[paint]
    if kind is Polygon:
        return Polygon(_points(values["points"]), colour)
    return kind(*(_whole(name, number, values[number]) for number in numbers), colour)


def _points(text: str) -> tuple:
    found = list(PAIR.finditer(text))
    if "".join(pair[0] for pair in found) != text.rstrip():
        raise ValueError(f"points {text!r} are not understood; write whole numbers as 1,2 3,4 5,6")
    return tuple((int(x), int(y)) for x, y in (pair.groups() for pair in found))


def _whole(name: str, attribute: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise ValueError(f"<{name}/> has {attribute} {text!r}, which is no whole number from 0 to {GRID}")
    return int(text)
