"""How good drawings are: the share that can be read, of what was asked the share that is there, and pixels.

A program that cannot be read to its end shows nothing and covers nothing; no half of it counts.
"""

from collections.abc import Sequence

import numpy as np

from train.drawing import tikz
from train.drawing.looking import found
from train.drawing.scenes import understand
from train.drawing.shapes import Drawing, paint

SAME = 0.1  # of 1: colours that differ by less are one


def readable(program: str) -> Drawing | None:
    """The drawing that a program is; None where it is none, or has no shape."""
    try:
        return tikz.read(program) or None
    except ValueError:
        return None


def beginning(program: str) -> Drawing:
    """The shapes before the first command that cannot be read, to look at; they count for nothing."""
    commands = program.split(";")
    for number in range(len(commands), 0, -1):
        begun = ";".join(commands[:number])
        for end in ("", ";", f";{tikz.CLOSE}"):
            if drawing := readable(begun + end):
                return drawing
    return ()


def overlap(one: Drawing, other: Drawing) -> float:
    """Of the pixels that either paints, the share that both paint in the same colour: 1 for the same drawing."""
    paper, *painted = (paint(drawing) for drawing in ((), one, other))
    differ = lambda a, b: np.abs(a - b).max(axis=2) >= SAME
    either = differ(painted[0], paper) | differ(painted[1], paper)
    return float((either & ~differ(*painted)).sum() / max(1, either.sum()))


def score(captions: Sequence[str], programs: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """attributes: of all kinds, colours, sizes and relations that the captions ask for, the share that is there.
    parsed: the share of the programs that can be read.   overlap: with the reference drawings, the mean."""
    there, covered, parsed = [], [], 0
    for caption, program, reference in zip(captions, programs, references):
        scene, drawing, wanted = understand(caption), readable(program), readable(reference)
        parsed += drawing is not None
        there += found(scene, drawing or ()).values()
        if wanted:
            covered.append(overlap(drawing, wanted) if drawing else 0.0)
    mean = lambda values: sum(values) / max(1, len(values))
    return {"attributes": mean(there), "parsed": parsed / max(1, len(captions)), "overlap": mean(covered)}
