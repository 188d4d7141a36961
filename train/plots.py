"""Pictures of results: curves, and which label was taken for which. They answer as `picture` does (train/report.py)."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from train.report import picture
from train.tasks import Task, metrics

MOST, LETTERS = 30, 24  # labels in a picture of confusions, and what is shown of each


def draw_curves(path: Path, curves: dict[str, list[tuple]], x: str, y: str, title: str) -> bool:
    """Curves by name, each a list of (x, y) or (x, y, error). An axis whose numbers differ much is logarithmic."""

    def draw(axes) -> None:
        for name, points in curves.items():
            xs, ys, *errors = zip(*points)
            style = dict(markersize=4, linewidth=1.5)
            if len(points) == 1:  # a ring, through which a curve can be seen
                style = dict(markersize=9, linewidth=0, markerfacecolor="none", markeredgewidth=1.5, zorder=3)
            axes.errorbar(xs, ys, yerr=errors[0] if errors else None, capsize=3, marker="o", label=name, **style)
        points = [point for several in curves.values() for point in several]
        if x == "parameters":
            _spread_out(axes.set_xscale, axes.xaxis, [point[0] for point in points])
        if y in ("perplexity", "squared error"):
            _spread_out(axes.set_yscale, axes.yaxis, [point[1] for point in points])

    return picture(path, draw, x, y, title)


def _spread_out(set_scale: Callable, axis, values: list[float]) -> None:
    """A logarithmic axis with numbers that people read, where the values are positive and the largest is twice the
    smallest."""
    if min(values) > 0:
        if max(values) > 2 * min(values):
            from matplotlib.ticker import LogFormatter  # here, as it takes a second to load

            set_scale("log")
            axis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
        axis.set_major_formatter("{x:,g}")


def draw_side_by_side(path: Path, panels: list[tuple[dict[str, list[tuple]], str]], y: str, title: str) -> bool:
    """Panels of curves, (x, y, error) each, beside one another, with the names of their logarithmic x axes."""

    def draw(axes) -> None:
        places = axes.figure.add_gridspec(1, len(panels))
        axes.set_subplotspec(places[0])
        others = [axes.figure.add_subplot(places[i], ylabel=y) for i in range(1, len(panels))]
        for panel, (curves, x) in zip([axes, *others], panels):
            for name, points in curves.items():
                xs, ys, errors = zip(*points)
                panel.errorbar(xs, ys, yerr=errors, marker="o", markersize=4, capsize=3, label=name)
            panel.set_xscale("log", base=2)
            panel.xaxis.set_major_formatter("{x:,g}")
            panel.set_xlabel(x)
            panel.grid(alpha=0.3)
        axes.figure.suptitle(title)

    return picture(path, draw, panels[0][1], y, "", (10, 4.5))


def draw_confusion(path: Path, task: Task, examples: list[dict], answers: list) -> bool:
    """Rows are the truth, columns what the model said; of tasks with labels or tags, and False for the others.

    Of many labels only those that are most often taken for others, or others for them: a picture has so much room.
    """
    found = task.labelled(examples, answers)
    if found is None:
        return False
    labels, truth, said = found
    wrong = Counter(label for pair in zip(truth, said) if pair[0] != pair[1] for label in pair)
    chosen = set(sorted(labels, key=lambda label: -wrong[label])[:MOST])
    kept = [label for label in labels if label in chosen]
    pairs = [pair for pair in zip(truth, said) if chosen.issuperset(pair)]
    table = metrics.confusion(*zip(*pairs), kept) if pairs else np.zeros((len(kept), len(kept)), int)
    names = [label.encode("utf-8", "replace").decode()[:LETTERS] for label in kept]
    share = table / np.maximum(1, table.sum(axis=1, keepdims=True))

    def draw(axes) -> None:
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", parse_math=False)
        axes.set_yticks(range(len(names)), names, parse_math=False)
        for i, j in np.ndindex(table.shape):
            axes.text(j, i, table[i, j], ha="center", va="center", color="white" if share[i, j] > 0.5 else "black")

    some = f", the {len(kept)} most confused of {len(labels)} labels" if len(kept) < len(labels) else ""
    title = f"{path.parent.name}: {metrics.accuracy(truth, said):.1%} of {len(truth):,} held out right{some}"
    size = max(4.0, 0.5 * len(kept) + 2)
    return picture(path, draw, "the model said", "the truth", title, (size, size))


def draw_panels(path: Path, panels: list[tuple[dict[str, list[tuple]], str]], x: str, title: str) -> bool:
    """Panels of curves of (x, y), two beside one another, each with a y axis of its own name."""
    rows = -(-len(panels) // 2)

    def draw(axes) -> None:
        places = axes.figure.add_gridspec(rows, 2)
        axes.set_subplotspec(places[0, 0])
        others = [axes.figure.add_subplot(places[i // 2, i % 2]) for i in range(1, len(panels))]
        for panel, (curves, y) in zip([axes, *others], panels):
            for name, points in curves.items():
                panel.plot(*zip(*points), marker="o" if len(points) < 20 else "", markersize=4, label=name)
            panel.set(xlabel=x, ylabel=y)
            panel.grid(alpha=0.3)
            panel.legend()
        axes.figure.suptitle(title)

    return picture(path, draw, x, panels[0][1], "", (10, 3 * rows))
