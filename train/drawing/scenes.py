"""What a drawing is asked to show, how that is said, and drawings that show it: any number from a seed.

A scene is one thing, or two of which one may be left of, right of, above or below the other; each has a kind, and where
they are told a colour and a size. `say` makes a caption of it, `understand` the scene of a caption, and `drawn` a
drawing by the rules of figures.py. A size counts against the room that a thing has: the grid, or half of it.

Some combinations of kind and colour, and some pairs of kinds, come in no training drawing: every held-out caption has
one of them.
"""

import itertools
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from train.drawing import tikz
from train.drawing.figures import FIGURES, Pen
from train.drawing.shapes import GRID, Drawing

KINDS = tuple(FIGURES)
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "pink", "grey")  # those of the stories
USUAL = {"tree": ("green",), "unicorn": ("white",), "horse": ("grey",), "cat": ("black", "grey", "white")}  # if unsaid
SIZES = {"small": ("small", "little"), "big": ("big", "large")}
SHARES = {"small": 0.42, "": 0.66, "big": 1.0}  # of the room
RELATIONS = {"left": ("left of", "to the left of"), "right": ("right of", "to the right of"),
             "above": ("above", "over"), "below": ("below", "under")}  # fmt: skip
CLOTHES = {"girl": "dress", "boy": "shirt"}
SET = "drawings"  # the name by which `finetune --task` knows them
ROOM, HALF = 84, 42  # of one thing alone, of each of two
LAST = 0.4  # the share of drawings in which a part was forgotten and comes last


@dataclass(frozen=True)
class Thing:
    """colour, size: "" if they are not told."""

    kind: str
    colour: str = ""
    size: str = ""


@dataclass(frozen=True)
class Scene:
    """relation: of the first thing to the second: left, right, above, below, or "" if it is not told."""

    things: tuple[Thing, ...]
    relation: str = ""


# ---- held out


def is_rare(kind: str, colour: str) -> bool:
    """Whether no training drawing has this kind in this colour: one in seven; no pink unicorn, but white ones."""
    return (2 * KINDS.index(kind) + 3 * COLOURS.index(colour)) % 7 == 0


def is_rare_pair(one: str, other: str) -> bool:
    """Whether no training drawing has these two kinds: about one in eight."""
    a, b = sorted((KINDS.index(one), KINDS.index(other)))
    return a != b and (5 * a + 3 * b) % 8 == 1


def is_new(scene: Scene) -> bool:
    """Whether a combination of it comes in no training drawing."""
    rare = any(thing.colour and is_rare(thing.kind, thing.colour) for thing in scene.things)
    return rare or (len(scene.things) == 2 and is_rare_pair(*(thing.kind for thing in scene.things)))


# ---- words


def say(scene: Scene, draw: random.Random) -> str:
    """A caption, in one of several ways."""
    said = [_noun(thing, draw) for thing in scene.things]
    if len(said) == 1:
        return said[0]
    between = draw.choice(RELATIONS[scene.relation]) if scene.relation else "and"
    return f"{said[0]} {between} {said[1]}"


def _noun(thing: Thing, draw: random.Random) -> str:
    size = f"{draw.choice(SIZES[thing.size])} " if thing.size else ""
    if thing.kind in CLOTHES and thing.colour:
        worn = draw.choice([thing.colour, f"a {thing.colour} {CLOTHES[thing.kind]}"])
        return f"a {size}{thing.kind} in {worn}"
    return " ".join(word for word in ("a", size.strip(), thing.colour, thing.kind) if word)


_SIZE = {word: size for size, words in SIZES.items() for word in words}
_RELATION = {phrase: relation for relation, phrases in RELATIONS.items() for phrase in phrases}
_NOUN = re.compile(
    rf"\ban? (?:({'|'.join(_SIZE)}) )?(?:({'|'.join(COLOURS)}) )?({'|'.join(KINDS)})\b"
    rf"(?: in (?:a )?({'|'.join(COLOURS)})\b(?: (?:{'|'.join(CLOTHES.values())})\b)?)?"
)


def understand(caption: str) -> Scene:
    """The scene that a caption tells: the first two things in it that are known; there may be none."""
    found = list(_NOUN.finditer(caption))[:2]
    things = tuple(Thing(kind, before or worn or "", _SIZE.get(size, "")) for size, before, kind, worn in
                   (match.groups() for match in found))  # fmt: skip
    between = caption[found[0].end() : found[1].start()].strip() if len(found) == 2 else ""
    return Scene(things, _RELATION.get(between, ""))


# ---- drawings


def drawn(scene: Scene, draw: random.Random, last: float = LAST) -> Drawing:
    """A drawing of a scene by the rules, a group for each thing.   last: how probable it is that a part was forgotten,
    and comes behind all else in a group of its own."""
    pens = _pens(scene, draw)
    for thing, pen in zip(scene.things, pens):
        FIGURES[thing.kind](pen, draw)
    parts = [(pen, part) for pen in pens for part in pen.parts]
    late = [(pen, part) for pen, part in parts if part.late]
    forgotten = [draw.choice(late)] if late and draw.random() < last else []
    first = [pen.group(*(part for part in pen.parts if (pen, part) not in forgotten)) for pen in pens]
    return (*first, *(pen.group(part) for pen, part in forgotten))


def _pens(scene: Scene, draw: random.Random) -> list[Pen]:
    """A pen in a square of its own for each thing: in the middle of the grid, or of half of it. What stands side by
    side stands on the same ground."""
    room = ROOM if len(scene.things) == 1 else HALF
    sizes = [round(room * SHARES[thing.size]) for thing in scene.things]
    middle, quarter, ground = GRID // 2, GRID // 4, (GRID + HALF) // 2
    if len(sizes) == 1:
        places = [(middle, middle + sizes[0] // 2)]
    elif scene.relation in ("above", "below"):
        upper, lower = sizes if scene.relation == "above" else sizes[::-1]
        places = [(middle, quarter + upper // 2), (middle, GRID - quarter + lower // 2)]
    else:
        places = [(quarter, ground), (GRID - quarter, ground)]
    if scene.relation in ("right", "below"):
        places.reverse()
    return [Pen((x - size // 2, bottom - size), size, draw.random() < 0.5, _colour(thing, draw))
            for thing, (x, bottom), size in zip(scene.things, places, sizes)]  # fmt: skip


def _colour(thing: Thing, draw: random.Random) -> str:
    usual = USUAL.get(thing.kind, COLOURS)
    return thing.colour or draw.choice([name for name in usual if not is_rare(thing.kind, name)])


def scenes(seed: str, new: bool) -> Iterator[Scene]:
    """Scenes without end.   new: all with a combination that no training drawing has; otherwise none."""
    draw = random.Random(seed)
    colours, sizes = ("", "", *COLOURS), ("", "", *SIZES)
    while True:
        things = [Thing(draw.choice(KINDS), draw.choice(colours), draw.choice(sizes))
                  for _ in range(1 if draw.random() < 0.3 else 2)]  # fmt: skip
        relation = draw.choice(("", *RELATIONS)) if len(things) == 2 else ""
        scene = Scene(tuple(things), relation)
        if is_new(scene) == new:
            yield scene


def examples(count: int, seed: int, held_out: bool = False) -> list[dict]:
    """{"caption", "program" (TikZ)}: `count` of them, those held out each with a combination that is new."""
    draw, told = random.Random(f"drawings {seed}"), scenes(f"scenes {seed}", held_out)
    return [{"caption": say(scene, draw), "program": tikz.write(drawn(scene, draw))}
            for scene in itertools.islice(told, count)]  # fmt: skip
