"""What is to be seen in a drawing, found from its shapes alone, whoever drew them.

Shapes that touch make up a figure. A figure is of a kind if the parts that make it one are there and where they belong:
a unicorn has a body, a head at its upper side, a neck between them, four legs under it, and a golden horn on the head
that rises above everything. Nothing here knows how figures.py draws: small differences of place and form do not matter.
"""

from collections.abc import Callable
from dataclasses import dataclass

from train.drawing.scenes import HALF, ROOM, Scene
from train.drawing.shapes import Box, Circle, Drawing, Ellipse, Line, Polygon, Rectangle, Shape, flat

NEAR = 2  # units between shapes that touch
SMALL, BIG = 0.54, 0.8  # of the room: what is smaller is small, what is larger big


@dataclass(frozen=True)
class Seen:
    """A figure: kind and colour, "" where it is like nothing known; its size small, medium or big; its box."""

    kind: str
    colour: str
    size: str
    box: Box


def look(drawing: Drawing, things: int = 0) -> list[Seen]:
    """The figures of a drawing, in the order in which they were begun.   things: among how many they share the grid,
    if that is not their own number."""
    groups = _touching(flat(drawing))
    room = ROOM if (things or len(groups)) == 1 else HALF
    return [_seen(group, room) for group in groups]


def found(scene: Scene, drawing: Drawing) -> dict[str, bool]:
    """What a scene asks for, one by one, and whether the drawing shows it."""
    figures = look(drawing, len(scene.things))
    ways = [(a, b) for a in (*figures, None) for b in (*figures, None) if a is None or a is not b]
    answers = (_answers(scene, way) for way in ways)
    return max(answers, key=lambda answer: sum(answer.values()))


def _answers(scene: Scene, figures: tuple[Seen | None, ...]) -> dict[str, bool]:
    """The same where these figures are taken for the scene's things."""
    answers, fits = {}, []
    for number, (thing, seen) in enumerate(zip(scene.things, figures), 1):
        fits.append(seen is not None and seen.kind == thing.kind)
        answers[f"{number} kind {thing.kind}"] = fits[-1]
        for name, wanted in (("colour", thing.colour), ("size", thing.size)):
            if wanted:
                answers[f"{number} {name} {wanted}"] = fits[-1] and vars(seen)[name] == wanted
    if scene.relation:
        is_so = all(fits) and _relation(*(seen.box for seen in figures)) == scene.relation
        answers[f"relation {scene.relation}"] = is_so
    return answers


def _relation(one: Box, other: Box) -> str:
    """left, right, above or below: on which side of the other box the one lies; "" if they meet on every side."""
    sides = {"left": other[0] - one[2], "right": one[0] - other[2], "above": other[1] - one[3],
             "below": one[1] - other[3]}  # fmt: skip
    side = max(sides, key=sides.get)
    return side if sides[side] >= 0 else ""


def _touching(drawing: tuple[Shape, ...]) -> list[list[Shape]]:
    """The shapes in groups: two are in one if their boxes touch, or others lie between them that do."""
    groups: list[list[Shape]] = []
    for shape in drawing:
        joined = [group for group in groups if any(_touch(shape.box, other.box) for other in group)]
        kept = [group for group in groups if group not in joined]
        merged = [other for group in joined for other in group] + [shape]
        at = min((groups.index(group) for group in joined), default=len(groups))
        groups = [*kept[:at], merged, *kept[at:]]
    return groups


def _touch(a: Box, b: Box, near: float = NEAR) -> bool:
    return a[0] <= b[2] + near and b[0] <= a[2] + near and a[1] <= b[3] + near and b[1] <= a[3] + near


def _seen(group: list[Shape], room: int) -> Seen:
    figure = Figure(group)
    left, top, right, bottom = figure.box
    share = max(right - left, bottom - top) / room
    size = "small" if share < SMALL else "big" if share > BIG else "medium"
    for kind, rule in RULES.items():
        if colour := rule(figure):
            return Seen(kind, colour, size, figure.box)
    return Seen("", "", size, figure.box)


class Figure:
    """A group of shapes by their kinds, the largest first."""

    def __init__(self, group: list[Shape]):
        boxes = [shape.box for shape in group]
        self.box = (min(box[0] for box in boxes), min(box[1] for box in boxes),
                    max(box[2] for box in boxes), max(box[3] for box in boxes))  # fmt: skip
        self.near = max(NEAR, 0.08 * max(self.box[2] - self.box[0], self.box[3] - self.box[1]))
        of = lambda *kinds: sorted((shape for shape in group if isinstance(shape, kinds)), key=lambda s: -_area(s))
        self.circles, self.ellipses, self.rectangles, self.lines = of(Circle), of(Ellipse), of(Rectangle), of(Line)
        polygons = of(Polygon)
        self.triangles = [shape for shape in polygons if len(shape.points) == 3]
        self.quads = [shape for shape in polygons if len(shape.points) > 3]

    def under(self, top: Box, shapes: list[Shape], colour: str | None = None) -> list[Shape]:
        """Those that begin at or in a box and reach out below it."""
        inside = lambda s: top[0] - self.near <= middle(s)[0] <= top[2] + self.near
        starts = lambda s: top[1] <= s.box[1] <= top[3] + self.near < s.box[3] + self.near
        return [s for s in shapes if inside(s) and starts(s) and s.box[3] > top[3] and colour in (None, s.colour)]

    def on(self, bottom: Box, shapes: list[Shape], colour: str | None = None) -> list[Shape]:
        """Those that touch a box and reach out above it."""
        return [s for s in shapes if s.box[1] < bottom[1] and s.box[3] >= bottom[1] - self.near
                and _touch(s.box, bottom, self.near) and colour in (None, s.colour)]  # fmt: skip


def _area(shape: Shape) -> int:
    left, top, right, bottom = shape.box
    return (right - left) * (bottom - top)


def middle(shape: Shape) -> tuple[float, float]:
    left, top, right, bottom = shape.box
    return (left + right) / 2, (top + bottom) / 2


# ---- a rule for each kind: the colour of a figure that is one, or ""


def _is_horse(f: Figure, horned: bool) -> str:
    if len(f.ellipses) < 2:
        return ""
    body, head = f.ellipses[:2]
    beside = head.x - body.x
    between = [q for q in f.quads if q.colour == body.colour and _touch(q.box, body.box) and _touch(q.box, head.box)]
    legs = f.under(body.box, f.lines, body.colour)
    ears = f.on(head.box, f.triangles, head.colour)
    hair = [q for q in f.quads if q.colour != body.colour]
    behind = [q for q in hair if (middle(q)[0] - body.x) * beside < 0]
    horns = [t for t in f.on(head.box, f.triangles, "gold") if t.box[1] <= f.box[1]]
    whole = head.y < body.box[1] and head.colour == body.colour and between and len(legs) >= 4 and ears
    return body.colour if whole and behind and len(hair) > len(behind) and bool(horns) == horned else ""


def _is_bird(f: Figure) -> str:
    if not (f.ellipses and f.circles):
        return ""
    body, head = f.ellipses[0], f.circles[0]
    side = 1 if head.x > body.x else -1
    beaks = [t for t in f.triangles if t.colour == "orange" and _touch(t.box, head.box) and
             (middle(t)[0] - head.x) * side > 0]  # fmt: skip
    legs = f.under(body.box, f.lines, "orange")
    return body.colour if head.colour == body.colour and head.y < body.y and beaks and len(legs) >= 2 else ""


def _is_cat(f: Figure) -> str:
    if not (f.ellipses and f.circles):
        return ""
    body, head = f.ellipses[0], f.circles[0]
    ears = f.on(head.box, f.triangles, head.colour)
    eyes = [c for c in f.circles[1:] if head.box[0] <= c.x <= head.box[2] and head.box[1] <= c.y <= head.box[3]]
    legs = f.under(body.box, f.lines, body.colour)
    behind = lambda line: (middle(line)[0] - body.x) * (head.x - body.x) < 0
    tails = [line for line in f.lines if line.box[1] < body.y and behind(line)]
    whole = head.colour == body.colour and head.y < body.y and len(ears) >= 2 and len(eyes) >= 2
    return body.colour if whole and len(legs) >= 4 and tails else ""


def _is_fish(f: Figure) -> str:
    if not f.ellipses or f.lines or len(f.circles) != 1:
        return ""
    body = f.ellipses[0]
    side = lambda shape: middle(shape)[0] - body.x
    tails = [t for t in f.triangles if _touch(t.box, body.box) and
             (t.box[0] < body.box[0] or t.box[2] > body.box[2])]  # fmt: skip
    eyes = [c for c in f.circles if _touch(c.box, body.box, 0) and tails and side(c) * side(tails[0]) < 0]
    return body.colour if body.rx > body.ry and eyes else ""


def _is_balloon(f: Figure) -> str:
    if len(f.ellipses) != 1 or f.rectangles or f.circles:
        return ""
    (skin,) = f.ellipses
    strings = f.under(skin.box, f.lines)
    return skin.colour if skin.ry >= skin.rx and len(strings) == len(f.lines) == 1 else ""


def _is_ball(f: Figure) -> str:
    if len(f.circles) != 1 or f.triangles or f.quads or f.rectangles or f.ellipses:
        return ""
    (skin,) = f.circles
    return skin.colour if len(f.lines) == 1 and f.lines[0].colour != skin.colour and skin.box == f.box else ""


def _is_flower(f: Figure) -> str:
    for centre in f.circles:
        petals = [c for c in f.circles if c.colour != centre.colour and _touch(c.box, centre.box, 0)]
        stems = [line for line in f.lines if line.colour == "green" and line.box[3] > centre.box[3]]
        around = petals and petals[0].colour
        spread = petals and min(c.x for c in petals) < centre.x < max(c.x for c in petals) and (
            min(c.y for c in petals) < centre.y < max(c.y for c in petals))  # fmt: skip
        if len(petals) >= 5 and stems and spread and all(c.colour == around for c in petals):
            return around
    return ""


def _is_tree(f: Figure) -> str:
    trunks = [r for r in f.rectangles if r.colour == "brown" and r.height > r.width]
    for crown in f.circles[:1]:
        stands = [t for t in trunks if crown.box[0] < middle(t)[0] < crown.box[2] and t.box[3] > crown.box[3]
                  and t.width < 2 * crown.r]  # fmt: skip
        same = all(c.colour == crown.colour for c in f.circles)
        reach = any(_touch(stands[0].box, c.box) for c in f.circles) if stands else False
        if len(f.circles) >= 3 and same and reach:
            return crown.colour
    return ""


def _is_house(f: Figure) -> str:
    if not f.rectangles or f.circles:
        return ""
    walls, *others = f.rectangles
    left, top, right, bottom = walls.box
    covers = lambda t: t.box[0] <= left + 1 and t.box[2] >= right - 1 and abs(t.box[3] - top) <= f.near
    roofs = [t for t in f.on(walls.box, f.triangles) if covers(t)]
    inside = [r for r in others if left <= r.box[0] and r.box[2] <= right + 1]
    doors = [r for r in inside if abs(r.box[3] - bottom) <= 1]
    windows = [r for r in inside if top <= r.box[1] and r.box[3] < bottom - 1]
    return walls.colour if roofs and doors and windows else ""


def _is_boat(f: Figure) -> str:
    for hull in f.quads[:1]:
        low = [x for x, y in hull.points if abs(y - hull.box[3]) <= 1]
        wide, deck = hull.box[2] - hull.box[0], hull.box[1]
        narrows = low and max(low) - min(low) < wide
        masts = [line for line in f.on(hull.box, f.lines) if abs(line.x1 - line.x2) <= 1]
        sails = [t for t in f.triangles if t.box[1] < deck and hull.box[0] <= middle(t)[0] <= hull.box[2]]
        if narrows and masts and sails and hull.box[3] == f.box[3] and not f.circles:
            return hull.colour
    return ""


def _is_kite(f: Figure) -> str:
    for sail in f.quads[:1]:
        left, _, right, _ = sail.box
        ends = [min(sail.points, key=lambda p: p[1]), max(sail.points, key=lambda p: p[1])]
        diamond = all(left < x < right for x, _ in ends)
        tails = f.under(sail.box, f.lines)
        inside = [line for line in f.lines if line not in tails]
        if diamond and len(tails) == 1 and len(inside) >= 2 and not (f.circles or f.ellipses or f.rectangles):
            return sail.colour
    return ""


def _is_cart(f: Figure) -> str:
    for tray in f.rectangles[:1]:
        wheels = f.under(tray.box, f.circles)
        apart = len(wheels) == 2 and (wheels[0].x - middle(tray)[0]) * (wheels[1].x - middle(tray)[0]) < 0
        handles = [line for line in f.lines if line.box[0] < tray.box[0] or line.box[2] > tray.box[2]]
        if apart and wheels[0].colour == wheels[1].colour and handles:
            return tray.colour
    return ""


def _person(f: Figure, clothes: list[Shape], legs: Callable[[Shape], list[Shape]]) -> str:
    """The colour of the largest of the clothes, if who wears them has a head, arms and legs."""
    if not clothes:
        return ""
    worn, (x, _), (left, top, right, bottom) = clothes[0], middle(clothes[0]), clothes[0].box
    heads = [c for c in f.circles if c.colour == "wheat" and c.y < top and abs(c.x - x) <= f.near]
    out = lambda box: box[0] < left or box[2] > right or box[3] < bottom
    arms = [a for a in f.lines if a.colour == "wheat" and top - f.near <= a.box[1] < a.box[3] and out(a.box)]
    both_sides = {middle(arm)[0] > x for arm in arms} == {True, False}
    return worn.colour if heads and both_sides and len(legs(worn)) >= 2 else ""


def _is_girl(f: Figure) -> str:
    dresses = [q for q in f.quads if _width_at(q, q.box[3]) > _width_at(q, q.box[1])]
    return _person(f, dresses, lambda dress: f.under(dress.box, f.lines, "wheat"))


def _is_boy(f: Figure) -> str:
    return _person(f, f.rectangles, lambda shirt: f.under(shirt.box, f.rectangles))


def _width_at(quad: Polygon, y: int) -> int:
    xs = [px for px, py in quad.points if abs(py - y) <= 1]
    return max(xs) - min(xs)


RULES: dict[str, Callable[[Figure], str]] = {
    "unicorn": lambda f: _is_horse(f, horned=True), "horse": lambda f: _is_horse(f, horned=False),
    "girl": _is_girl, "boy": _is_boy, "bird": _is_bird, "cat": _is_cat, "fish": _is_fish, "balloon": _is_balloon,
    "ball": _is_ball, "flower": _is_flower, "tree": _is_tree, "house": _is_house, "boat": _is_boat, "kite": _is_kite,
    "cart": _is_cart,
}  # fmt: skip
