"""The unicorn of Bubeck et al. 2023 ("Sparks of artificial general intelligence", arXiv:2303.12712, figures 1.3, 1.4).

They asked GPT-4 three times in a month, while it was being trained, for a unicorn in TikZ, and it got better; and they
took the horn out of a program, and asked for it again. Here the same is done to a model of a few minutes: its unicorn
at three steps of one run, then without the horn, and then what it adds to that.
"""

import random
from itertools import islice
from pathlib import Path

from models.files import write_text
from train.drawing import svg, tikz
from train.drawing.looking import found
from train.drawing.scenes import drawn, say, scenes
from train.drawing.score import beginning, readable
from train.drawing.shapes import Drawing
from train.drawing.sheet import strip
from train.finetune import FineTuned, FineTuneReport

CAPTION, HORN, HORNS = "a unicorn", "gold", 100  # nothing but a horn is golden


def program(tuned: FineTuned, start: str = "") -> str:
    """The unicorn that a model draws now, or how it goes on with a start."""
    return tuned.answers([{"caption": CAPTION, "start": start}])[0]


def without_horn(drawing: Drawing) -> Drawing:
    return tuple(shape for shape in drawing if shape.colour != HORN)


def horns_put_back(tuned: FineTuned, count: int = HORNS) -> float:
    """The share of held-out scenes with a unicorn, drawn by the rules, that show all that is asked again after their
    horns were taken out and the model went on."""
    draw = random.Random("horns")
    told = (scene for scene in scenes("horns", new=True) if any(thing.kind == "unicorn" for thing in scene.things))
    asked, right = list(islice(told, count)), 0
    starts = [tikz.write(without_horn(drawn(scene, draw))) for scene in asked]
    examples = [{"caption": say(scene, draw), "start": start} for scene, start in zip(asked, starts)]
    for scene, written in zip(asked, tuned.answers(examples)):
        right += all(found(scene, readable(written) or ()).values())
    return right / count


def leave(run: Path, report: FineTuneReport) -> str:
    """Write the unicorns of a run into its folder, each as TikZ and SVG, and side by side as a picture; says so."""
    kept = report.samples or [(report.steps, program(report.tuned))]
    steps = [kept[n] for n in sorted({0, len(kept) // 3, len(kept) - 1})]
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
    back = horns_put_back(report.tuned)
    return f"the unicorns are in {run}/unicorn-*.svg and .tex; of {HORNS} others, horns put back: {back:.0%}"
