"""All pictures: the losses of a run, the curves of a comparison, which label was taken for which.

Each is written as a PNG and answers True; where matplotlib is not installed nothing is drawn, the answer is False, and
HINT says how to get it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.files import replace_file
from train.tasks import Task, metrics

HINT = "for pictures: pip install matplotlib"


def new_figure(width: float, height: float):
    """An empty figure of so many inches; None where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure  # here, as it takes a second to load
    except ImportError:
        return None
    return Figure(figsize=(width, height), layout="constrained")


def draw_losses(path: Path, lines: list[dict], axis: str, floor: float | None = None) -> bool:
    """The training and held-out losses in the lines of a metrics.jsonl over the steps.

    axis: what the losses are.   floor: a horizontal line at the entropy of the text.
    """
    figure = new_figure(8, 4.5)
    if figure is None:
        return False
    axes = figure.subplots()
    trained = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    held_out = [(line["step"], line["val_loss"]) for line in lines if "val_loss" in line]
    if trained:
        axes.plot(*zip(*trained), color="#9ecae1", linewidth=1, label="training")
    if held_out:
        axes.plot(*zip(*held_out), color="#08519c", linewidth=2, marker="o", markersize=3, label="held out")
    if floor is not None:
        axes.axhline(floor, color="#d94801", linestyle="--", linewidth=1.5, label="entropy of the text")
    return _finish(path, figure, "step", axis, f"{path.parent.name}: training and held-out loss")


def draw_curves(path: Path, curves: dict[str, list[tuple]], x: str, y: str, title: str) -> bool:
    """Curves by name, each a list of (x, y) or (x, y, error)."""
    figure = new_figure(8, 4.5)
    if figure is None:
        return False
    axes = figure.subplots()
    for name, points in curves.items():
        xs, ys, *errors = zip(*points)
        style = dict(marker="o", markersize=4, linewidth=1.5 if len(points) > 1 else 0, label=name)
        axes.errorbar(xs, ys, yerr=errors[0] if errors else None, capsize=3, **style)
    if y == "perplexity":
        heights = [point[1] for points in curves.values() for point in points]
        if max(heights) > 2 * min(heights):  # beyond twice the best nobody wants the model
            axes.set_ylim(min(heights) * 0.97, min(heights) * 2)
    return _finish(path, figure, x, y, title)


def draw_confusion(path: Path, task: Task, examples: list[dict], answers: list) -> bool:
    """Rows are the truth, columns what the model said; of tasks with labels or tags, and False for the others."""
    found = task.labelled(examples, answers)
    if found is None:
        return False
    labels, truth, said = found
    size = max(4.0, 0.7 * len(labels) + 2)
    figure = new_figure(size, size)
    if figure is None:
        return False
    table = metrics.confusion(truth, said, labels)
    share = table / np.maximum(1, table.sum(axis=1, keepdims=True))
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    for i, j in np.ndindex(table.shape):
        axes.text(j, i, table[i, j], ha="center", va="center", color="white" if share[i, j] > 0.5 else "black")
    right = np.trace(table) / max(1, table.sum())
    return _finish(path, figure, "the model said", "the truth", f"{path.parent.name}: {right:.1%} right")


def _finish(path: Path, figure, x: str, y: str, title: str) -> bool:
    (axes,) = figure.axes
    axes.set(xlabel=x, ylabel=y, title=title)
    if axes.lines:
        axes.grid(alpha=0.3)
        axes.legend()
    replace_file(path, lambda beside: figure.savefig(beside, format="png", dpi=120))
    return True
