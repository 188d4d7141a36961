"""The unicorn of Bubeck et al. 2023 ("Sparks of artificial general intelligence", arXiv:2303.12712, figures 1.3, 1.4).

They asked GPT-4 three times in a month, while it was being trained, for a unicorn in TikZ, and it got better; and they
took the horn out of a program, and asked for it again. Here the same is done to a model of a few minutes: its unicorn
at three steps of one run, then without the horn, and then what it adds to that.
"""

import random
from dataclasses import replace
from itertools import islice
from pathlib import Path

from models.files import write_text
from train.drawing import svg, tikz
from train.drawing.looking import found
from train.drawing.scenes import drawn, say, scenes
from train.drawing.score import beginning, readable
from train.drawing.shapes import Drawing, Group
from train.drawing.sheet import strip
from train.finetune import FineTuned, FineTuneReport

CAPTION, HORN, HORNS = "a unicorn", "gold", 100  # nothing but a horn is golden


def program(tuned: FineTuned, start: str = "") -> str:
    """The unicorn that a model draws now, or how it goes on with a start."""
    return tuned.answers([{"caption": CAPTION, "start": start}])[0]


def without_horn(drawing: Drawing) -> Drawing:
    kept = []
    for one in drawing:
        if isinstance(one, Group):
            shapes = tuple(shape for shape in one.shapes if shape.colour != HORN)
            kept += [replace(one, shapes=shapes)] if shapes else []
        elif one.colour != HORN:
            kept.append(one)
    return tuple(kept)


def horns_put_back(tuned: FineTuned, things: int, count: int = HORNS) -> float:
    """The share of unicorns that are some again after their horns were taken out and the model went on, alone (things:
    1) or beside another thing (2), where that makes a combination that the model never saw."""
    draw, told = random.Random("horns"), scenes("horns", new=things == 2)
    kinds = lambda scene: [thing.kind for thing in scene.things]
    with_one = lambda scene: len(scene.things) == things and kinds(scene).count("unicorn") == 1
    asked, right = list(islice(filter(with_one, told), count)), 0
    examples = [{"caption": say(scene, draw), "start": tikz.write(without_horn(drawn(scene, draw)))} for scene in asked]
    for scene, written in zip(asked, tuned.answers(examples)):
        right += found(scene, readable(written) or ())[f"{1 + kinds(scene).index('unicorn')} kind unicorn"]
    return right / count


def leave(run: Path, report: FineTuneReport) -> str:
    """Write the unicorns of a run into its folder, each as TikZ and SVG, and side by side as a picture; says so."""
    kept = report.samples or [(report.steps, program(report.tuned))]
    steps = [kept[n] for n in sorted({0, min(1, len(kept) - 1), len(kept) - 1})]
    drawings = [(f"step {step}", beginning(text)) for step, text in steps]
    last = drawings[-1][1]
    hornless = without_horn(last)
    again = beginning(program(report.tuned, tikz.write(hornless)))
    for name, drawing in (*drawings, ("without horn", hornless), ("asked again", again)):
        path = run / f"unicorn-{name.replace(' ', '-')}"
        write_text(path.with_suffix(".svg"), svg.write(drawing))
        write_text(path.with_suffix(".tex"), tikz.document(drawing))
    both = [("its horn removed", hornless), ("asked for again", again)]
    strip(run / "unicorns.png", [*drawings, *both], f'{run.name}: "{CAPTION}" as the model learns to draw')
    alone, beside = (horns_put_back(report.tuned, things) for things in (1, 2))
    horns = f"of {HORNS} horns each, put back {alone:.0%} alone, {beside:.0%} beside another thing"
    return f"the unicorns are in {run}/unicorn-*.svg and .tex; {horns}"
