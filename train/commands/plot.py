"""Draw again what a run can show, at its end or while it trains: its losses, and which label was taken for which.

  python -m train plot runs/gpt-1
  python -m train plot runs/finetune-1                   also the confusions of a fine-tuned model's answers
"""

import argparse
from pathlib import Path

from models.families import FAMILIES
from train import checkpoint, finetune
from train.compression.distill import TaughtReport
from train.data.corpus import open_corpus
from train.plots import draw_confusion
from train.recipes import OBJECTIVES
from train.report import Report
from train.resume import COMMAND, begun_by
from train.tasks import TASKS
from train.tasks.examples import examples_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run")


def main(args: argparse.Namespace) -> None:
    run, family = args.run, checkpoint.read_config(args.run).get("family")
    if not (metrics := sorted(run.glob("metrics*.jsonl"), key=lambda path: path.stat().st_mtime)):
        raise ValueError(f"{run} has no metrics.jsonl to draw; was it trained here?")
    distilled = (run / COMMAND).exists() and begun_by(run).command == "distill" and metrics[-1].name == "metrics.jsonl"
    report = (TaughtReport if distilled else Report)(run, 0, _floor(run, family), metrics[-1].name)
    report.axis = "loss" if family == "finetuned" else Report.axis
    if not report.draw(run / "loss.png"):
        raise ValueError(f"pictures need matplotlib: pip install matplotlib, then again: python -m train plot {run}")
    drawn = ["loss.png"]
    if family == "finetuned" and (run / checkpoint.WEIGHTS["last"]).exists():
        tuned = finetune.load(run)
        kind, *examples = examples_of(**finetune.read_record(run))
        _, _, held_out = finetune.put_for(tuned.family, TASKS[kind].of(*examples), *examples)
        if draw_confusion(run / "confusion.png", tuned.task, held_out, tuned.answers(held_out)):
            drawn.append("confusion.png")
    print(f"drawn: {', '.join(str(run / name) for name in drawn)}")


def _floor(run: Path, family: str | None) -> float | None:
    """The entropy that bounds the losses, where it is known and each token is predicted once."""
    if family not in FAMILIES or not OBJECTIVES[FAMILIES[family].objective].plain or not (run / "corpus.json").exists():
        return None
    return open_corpus(run).val_split.floor
