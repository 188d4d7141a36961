"""The graph behind a value as a picture, from the leaves down to the value: `tt.draw(y)`.

In a notebook the picture shows itself; elsewhere `draw(y).save("graph.svg")`, or `.dot` for Graphviz. Round boxes are
leaves, square ones are ops; what needs no gradient is not recorded and so not drawn. Drawn before `backward()`, it is
filled in by it: shown again afterwards, it has the gradient that arrived at every box.

The layout is that of Sugiyama, Tagawa & Toda 1981, in its simplest form: rows by the longest way from the leaves, in a
row whoever has neighbours on the left stands on the left, and each stands as near below the middle of its neighbours
as the others let it.

Here too is how a Tensor shows itself in a notebook.
"""

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tinytensor import backend
from tinytensor.tensor import Node, Tensor

LETTER, LINE, GAP, ROW = 7.3, 15, 18, 34  # pixels: a letter's width, a line's height, between boxes and between rows
SWEEPS = 12
BOXES = {"leaf": ("#fff4d6", "#b7791f", 12), "op": ("#e3eefb", "#2b6cb0", 3)}  # background, border, radius


@dataclass(eq=False, repr=False)
class Box:
    """A leaf, an op, or (of neither) a bend in a line that passes a row."""

    kind: str = ""
    what: Tensor | Node | None = None
    name: str = ""
    inputs: list = field(default_factory=list)  # boxes
    users: list = field(default_factory=list)
    row: int = 0
    x: float = 0.0
    lines: list = field(default_factory=list)

    @property
    def width(self) -> float:
        return LETTER * max(map(len, self.lines)) + 16 if self.lines else 4

    @property
    def height(self) -> float:
        return LINE * len(self.lines) + 8 if self.lines else 0


class Picture:
    """The drawn graph. svg() and dot() tell it as it is now: after backward() with gradients."""

    def __init__(self, boxes: list[Box], arrived: dict[Node, list]):
        self.boxes, self.arrived = boxes, arrived

    def svg(self) -> str:
        for box in self.boxes:
            box.lines = self._lines(box)
        rows = _rows(self.boxes)
        tops, y = [], 4.0
        for row in rows:
            tops.append(y)
            y += max(box.height for box in row) + ROW
        width, height = max(box.x + box.width / 2 for row in rows for box in row) + 4, y - ROW + 4
        middle = lambda box: tops[box.row] + max(other.height for other in rows[box.row]) / 2
        lines = [_line(box, user, middle) for row in rows for box in row for user in box.users]
        shapes = [_shape(box, middle(box)) for row in rows for box in row if box.kind]
        return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
                f'height="{height:.0f}" font-family="ui-monospace, monospace" font-size="12" role="img">'
                f'<g fill="none" stroke="#888" stroke-width="1.3">{"".join(lines)}</g>{"".join(shapes)}</svg>')

    def dot(self) -> str:
        number = {box: n for n, box in enumerate(self.boxes)}
        style = {"leaf": "ellipse", "op": "box"}
        lines = [f"  n{number[box]} [shape={style[box.kind]}, label={json.dumps(chr(10).join(self._lines(box)))}];"
                 for box in self.boxes]
        lines += [f"  n{number[one]} -> n{number[box]};" for box in self.boxes for one in box.inputs]
        return "\n".join(["digraph {", '  node [fontname="monospace"];', *lines, "}"])

    def save(self, path: str | Path) -> None:
        """Write it as .svg or .dot."""
        path = Path(path)
        if path.suffix not in (".svg", ".dot"):
            raise ValueError(f"a picture is saved as .svg or .dot, not {path.suffix!r}")
        path.write_text(self.svg() if path.suffix == ".svg" else self.dot(), encoding="utf-8")

    _repr_svg_ = svg

    def _lines(self, box: Box) -> list[str]:
        """What stands in a box: name, shape, value if it is small, and the gradient if it has arrived."""
        if box.kind == "leaf":
            known, grads = [_known(box.what.data)], [] if box.what.grad is None else [_told(box.what.grad)]
        else:
            known, grads = box.what.outputs, self.arrived.get(box.what, [])
        lines = [box.name] if box.name else []
        for one in known:
            shape = one if isinstance(one, tuple) else one.shape
            lines += [str(shape)] if shape else []
            lines += [] if isinstance(one, tuple) else [_short(one)]
        return lines + [f"grad {grad}" for grad in grads if grad]


def draw(y: Tensor, names: Mapping[str, Tensor] | None = None) -> Picture:
    """The graph that y was computed by.   names: of leaves, such as {"w": w}.

    ValueError if there is none: y needs no gradient, or backward() has walked the graph and let go of it.
    """
    if not y.requires_grad:
        raise ValueError("draw: nothing was recorded, as this value needs no gradient; make an input with "
                         "Tensor(..., requires_grad=True)")
    if y.node is not None and y.node.backward is None:
        raise ValueError("draw: backward() has let go of this graph; draw it before, and show the picture afterwards")
    called = {id(tensor): name for name, tensor in (names or {}).items()}
    boxes: dict[int, Box] = {}
    waiting = [y if y.node is None else y.node]
    while waiting:
        what = waiting.pop()
        if id(what) in boxes:
            continue
        leaf = isinstance(what, Tensor)
        boxes[id(what)] = Box("leaf" if leaf else "op", what, called.get(id(what), "") if leaf else what.name)
        waiting += [] if leaf else [part for part in map(_source, what.edges) if part is not None]
    arrived: dict[Node, list] = {}
    for box in boxes.values():
        if box.kind == "op":
            box.inputs = [boxes[id(part)] for part in map(_source, box.what.edges) if part is not None]
            box.what.backward = _noting(box.what, arrived)
    return Picture(list(boxes.values()), arrived)


def _source(edge) -> Tensor | Node | None:
    """Where an edge of a Node leads."""
    if isinstance(edge, Tensor):
        return edge if edge.node is None else edge.node
    return edge if edge is None else edge[0]


def _noting(node: Node, arrived: dict[Node, list]):
    """The node's backward, which first notes the gradients that it is given."""
    own = node.backward

    def backward(*grads):
        arrived[node] = [None if grad is None else _told(grad) for grad in grads]
        return own(*grads)

    return backward


def _known(array):
    return array if array.size <= Node.SMALL else array.shape


def _short(array) -> str:
    """A small array on one line."""
    form = {"float_kind": lambda value: f"{value:.4g}"}
    text = np.array2string(backend.to_numpy(array), separator=", ", formatter=form)
    return " ".join(text.split())


def _told(grad) -> str:
    """A gradient: itself if it is small, else its length."""
    return _short(grad) if grad.size <= Node.SMALL else f"of length {float((grad * grad).sum()) ** 0.5:.3g}"


# ---- where everything stands


def _rows(boxes: list[Box]) -> list[list[Box]]:
    """The rows from the top, every box with its place; lines that pass a row bend there."""
    for box in boxes:
        box.users, box.row, box.x = [], 0, 0.0
    for box in sorted((box for box in boxes if box.kind == "op"), key=lambda box: box.what.age):
        box.row = max((1 + one.row for one in box.inputs), default=0)
        for one in box.inputs:
            one.users.append(box)
    for box in boxes:
        if box.kind == "leaf" and box.users:
            box.row = min(user.row for user in box.users) - 1
    rows = [[] for _ in range(1 + max(box.row for box in boxes))]
    for box in boxes:
        rows[box.row].append(box)
        users, box.users = box.users, []
        for user in users:
            before = box
            for row in range(box.row + 1, user.row):
                bend = Box(row=row)
                rows[row].append(bend)
                before.users.append(bend)
                before = bend
            before.users.append(user)
    above = {box: [] for row in rows for box in row}
    for row in rows:
        for box in row:
            for user in box.users:
                above[user].append(box)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else rows[::-1]:
            beside = [(above[box] if down else box.users) or [box] for box in row]
            wanted = {box: sum(one.x for one in near) / len(near) for box, near in zip(row, beside)}
            row.sort(key=wanted.get)
            _spread(row, wanted)
    left = min(box.x - box.width / 2 for row in rows for box in row)
    for row in rows:
        for box in row:
            box.x += 4 - left
    return rows


def _spread(row: list[Box], wanted: dict[Box, float]) -> None:
    """Give the boxes of a row their places, in this order, near those they want and beside one another."""
    end = -np.inf
    for box in row:
        box.x = max(wanted[box], end + GAP + box.width / 2)
        end = box.x + box.width / 2
    shift = sum(wanted[box] - box.x for box in row) / len(row)
    for box in row:
        box.x += shift


def _line(box: Box, user: Box, middle) -> str:
    y, end = middle(box) + box.height / 2, middle(user) - user.height / 2
    half = (y + end) / 2
    return f'<path d="M{box.x:.1f} {y:.1f}C{box.x:.1f} {half:.1f} {user.x:.1f} {half:.1f} {user.x:.1f} {end:.1f}"/>'


def _shape(box: Box, middle: float) -> str:
    fill, stroke, radius = BOXES[box.kind]
    top = middle - box.height / 2
    texts = [f'<text x="{box.x:.1f}" y="{top + 15 + LINE * n:.1f}" text-anchor="middle" fill="#1a202c"'
             f'{" font-weight=" + chr(34) + "bold" + chr(34) if box.name and n == 0 else ""}>{html.escape(line)}</text>'
             for n, line in enumerate(box.lines)]
    return (f'<rect x="{box.x - box.width / 2:.1f}" y="{top:.1f}" width="{box.width:.1f}" height="{box.height:.1f}" '
            f'rx="{radius}" fill="{fill}" stroke="{stroke}"/>{"".join(texts)}')


# ---- a Tensor in a notebook


def table_of(tensor: Tensor, most: int = 12) -> str:
    """HTML: shape and dtype, and the values of up to two axes as a table (of more axes, the first such part)."""
    array, about = tensor.numpy(), f"Tensor {tensor.shape} {tensor.dtype}, {tensor.device}"
    about += ", requires_grad" if tensor.requires_grad else ""
    while array.ndim > 2 and len(array):
        array, about = array[0], about if "shown" in about else f"{about}; its first part is shown"
    if not array.size or array.ndim > 2:
        return f"<code>{about}</code>"
    array = array.reshape(1, -1) if array.ndim < 2 else array
    rows, columns = array.shape
    show = lambda value: f"{value:.4g}" if array.dtype.kind == "f" else str(value)
    cells = [[show(value) for value in row[:most]] + ["…"] * (columns > most) for row in array[:most]]
    cells += [["…"] * len(cells[0])] if rows > most else []
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in cells)
    return f"<code>{about}</code><table>{body}</table>"


Tensor._repr_html_ = table_of
