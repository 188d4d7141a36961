r"""Drawings as TikZ, LaTeX's language of pictures, and back.

    \fill[red] (12,20) circle (5);                        \fill[red] (12,20) ellipse (8 and 5);
    \fill[red] (12,20) rectangle (30,40);                 \fill[red] (1,2) -- (3,4) -- (5,6) -- cycle;
    \draw[red] (12,20) -- (30,40);
    \begin{scope}[red, shift={(40,50)}] ... \end{scope}  a group of commands, moved; red is what says no colour in it

These commands are what a model writes. As in SVG, y grows downwards: the picture's own unit says so. What is not one of
them is refused by name.
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

NUMBER, PLACE = r"([0-9]{1,4})", r"\( ?([0-9]{1,4}) ?, ?([0-9]{1,4}) ?\)"
COMMAND = re.compile(r"\\(\w*) ?(?:\[ ?(\w+) ?\])? ?(\(.*)", re.DOTALL)
OPEN = re.compile(r"\\begin\{scope\}\s*\[\s*(?:(\w+)\s*,\s*)?shift\s*=\s*\{\s*" + PLACE + r"\s*\}\s*\]")
CLOSE = r"\end{scope}"
FILLS = {
    Circle: re.compile(rf"{PLACE} ?circle ?\( ?{NUMBER} ?\)"),
    Ellipse: re.compile(rf"{PLACE} ?ellipse ?\( ?{NUMBER} and {NUMBER} ?\)"),
    Rectangle: re.compile(rf"{PLACE} ?rectangle ?{PLACE}"),
    Polygon: re.compile(rf"{PLACE}(?: ?-- ?{PLACE})+ ?-- ?cycle"),
}
DRAW = re.compile(rf"{PLACE} ?-- ?{PLACE}")
PICTURE = (rf"\begin{{tikzpicture}}[x=1mm, y=-1mm, line width={LINE}mm, line cap=round]" + "\n"
           rf"\fill[{PAPER}] (0,0) rectangle ({GRID},{GRID});" + "\n")  # fmt: skip
PALETTE = "".join(rf"\definecolor{{{name}}}{{RGB}}{{{r},{g},{b}}}" + "\n" for name, (r, g, b) in COLOURS.items())
HEAD = "\\documentclass[tikz]{standalone}\n" + PALETTE + "\\begin{document}\n" + PICTURE
TAIL = "\\end{tikzpicture}\n\\end{document}\n"


def write(drawing: Drawing) -> str:
    """The commands, a line each."""
    return "".join(command(shape) + "\n" for shape in drawing)


def document(drawing: Drawing) -> str:
    """A file for LaTeX."""
    return HEAD + write(drawing) + TAIL


def command(shape: Shape | Group) -> str:
    """One shape, or the lines of a group."""
    paint = f"[{shape.colour}]" if shape.colour != OWN else ""
    match shape:
        case Group(x, y, shapes, colour):
            own = f"{colour}, " if colour != OWN else ""
            return rf"\begin{{scope}}[{own}shift={{({x},{y})}}]" + "\n" + write(shapes) + CLOSE
        case Circle(x, y, r):
            return rf"\fill{paint} ({x},{y}) circle ({r});"
        case Ellipse(x, y, rx, ry):
            return rf"\fill{paint} ({x},{y}) ellipse ({rx} and {ry});"
        case Rectangle(x, y, width, height):
            return rf"\fill{paint} ({x},{y}) rectangle ({x + width},{y + height});"
        case Polygon(points):
            return rf"\fill{paint} {' -- '.join(f'({x},{y})' for x, y in points)} -- cycle;"
        case Line(x1, y1, x2, y2):
            return rf"\draw{paint} ({x1},{y1}) -- ({x2},{y2});"


def read(text: str) -> Drawing:
    """The drawing that commands, or a document of ours, say; ValueError names what is not understood."""
    if text.startswith(HEAD) and text.rstrip().endswith(TAIL.rstrip()):
        text = text.removeprefix(HEAD).rstrip().removesuffix(TAIL.rstrip())
    drawing, group, text = [], None, text.strip()
    while text:
        if group is None and (opened := OPEN.match(text)):
            colour, x, y = opened.groups(default=OWN)
            group, inside, rest = (int(x), int(y)), [], text[opened.end() :]
        elif group is not None and text.startswith(CLOSE):
            drawing.append(Group(*group, tuple(inside), colour))
            group, rest = None, text.removeprefix(CLOSE)
        else:
            said, end, rest = text.partition(";")
            if not end:
                raise ValueError(f"{text[:40]!r} does not end with a semicolon")
            (drawing if group is None else inside).append(_shape(re.sub(r"\s+", " ", said).strip()))
        text = rest.lstrip()
    if group is not None:
        raise ValueError(rf"a scope does not end with {CLOSE}")
    return complete(tuple(drawing))


def _shape(said: str) -> Shape:
    found = COMMAND.fullmatch(said)
    if not found or found[1] not in ("fill", "draw"):
        raise ValueError(rf"{said[:40]!r} is not understood; a drawing has \fill[COLOUR], \draw[COLOUR] and scopes")
    name, colour, path = found.groups(default=OWN)
    if colour not in COLOURS and colour != OWN:
        raise ValueError(f"{colour!r} is no colour of ours: {', '.join(COLOURS)}")
    if name == "draw":
        if line := DRAW.fullmatch(path):
            return Line(*map(int, line.groups()), colour)
        raise ValueError(rf"\draw takes a line, (1,2) -- (3,4), not {path[:60]!r}")
    for kind, pattern in FILLS.items():
        if match := pattern.fullmatch(path):
            return _filled(kind, path, match, colour)
    raise ValueError(rf"\fill takes a circle, an ellipse, a rectangle or -- cycle, not {path[:60]!r}")


def _filled(kind: type, path: str, match: re.Match, colour: str) -> Shape:
    if kind is Polygon:
        return Polygon(tuple((int(x), int(y)) for x, y in re.findall(PLACE, path)), colour)
    numbers = [int(number) for number in match.groups()]
    if kind is Rectangle:
        x, y, right, bottom = numbers
        numbers = [x, y, right - x, bottom - y]
    return kind(*numbers, colour)
