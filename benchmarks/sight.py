"""What a model that reads pictures answers: a table, form by form, and a picture of some scenes with its answers.

    python -m train sight --out runs/sight
    python -m benchmarks.sight runs/sight --picture sight.png      (the picture takes matplotlib)

Every form is asked as often as any other, each of its answers alike, about scenes that no run learns from, and once
more about colours of things that are in no scene that is learned from. "blind" is the same model's answer to the same
question before another picture, "chance" that of one who guesses among the form's answers.
"""

import argparse
import textwrap
from pathlib import Path

import numpy as np

from train import seeing
from train.data.pictures import draw
from train.data.questions import FORMS, KINDS, examination
from train.objectives.pictured import Pictured
from train.tables import markdown


def by_form(model, objective: Pictured, each: int) -> str:
    """A line for each form, and one for the mean of each kind."""
    seen = seeing.examine(model, objective, each, 1)
    unseen = seeing.examine(model, objective, each, 2, unseen=True)
    rows = [("asked", "right", "blind", "unseen pairs", "blind", "chance", "standard error")]
    line = lambda name, cells, chance, error: (
        name, *(f"{100 * cell:.1f}" for cell in cells), f"{100 * chance:.1f}", f"{100 * error:.1f}")  # fmt: skip
    for kind in KINDS:
        forms = [form for form in FORMS if FORMS[form][0] == kind]
        cells = [np.concatenate([seen[form], unseen[form]]) for form in forms]
        chances = [1 / len(FORMS[form][2]) for form in forms]
        error = lambda cell, n: np.sqrt(cell[0] * (1 - cell[0]) / n)
        mean = np.mean(cells, axis=0)
        rows.append(line(f"**{kind}**", mean, np.mean(chances), error(mean, each * len(forms))))
        rows += [line(form, cell, chance, error(cell, each)) for form, cell, chance in zip(forms, cells, chances)]
    return markdown(rows)


def picture(model, tokenizer, path: Path, unseen: bool = False) -> None:
    """A row of scenes for each kind of question, what was asked and answered below; wrong answers are red."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    asked = [*examination(3, 4, unseen=unseen)]
    columns = 6
    shown = [[pair for pair in asked if pair[1].kind == kind][:columns] for kind in KINDS]
    figure, axes = plt.subplots(len(KINDS), columns, figsize=(13, 13.5))
    for kind, row, some in zip(KINDS, axes, shown):
        for axis in row:
            axis.axis("off")
        for axis, (scene, question) in zip(row, some):
            said = "".join(seeing.answers(model, tokenizer, draw(scene, model.config.side), question.text))
            right = said == question.answer
            axis.imshow(draw(scene, 128))
            told = said if right else f"{said} (right: {question.answer})"
            below = "\n".join([*textwrap.wrap(question.text, 32), told])
            axis.text(0.5, -0.03, below, transform=axis.transAxes, ha="center", va="top", fontsize=8.5,
                      color="black" if right else "firebrick")  # fmt: skip
        row[0].text(-0.08, 0.5, kind, transform=row[0].transAxes, rotation=90, va="center", fontsize=11)
    figure.subplots_adjust(left=0.03, right=0.99, top=0.99, bottom=0.05, hspace=0.35, wspace=0.08)
    figure.savefig(path, dpi=75)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path)
    parser.add_argument("--each", metavar="N", type=int, default=400, help="questions of each form [400]")
    parser.add_argument("--no-table", action="store_true", help="draw the picture only")
    parser.add_argument("--picture", metavar="FILE", type=Path, help="where to draw scenes with its answers")
    args = parser.parse_args()
    model, tokenizer = seeing.open_run(args.run)
    if args.picture:
        picture(model, tokenizer, args.picture)
    if not args.no_table:
        print(by_form(model, Pictured(tokenizer, model.config.side, model.config.context, 8), args.each))


if __name__ == "__main__":
    main()
