"""The confusion matrix as a picture: rows are the truth, columns what the model said."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models.files import replace_file
from train.tasks import metrics
from train.tasks.tag import listed


def draw_confusion(task, examples: list[dict], answers: list, path: Path) -> bool:
    """Draw it for tasks with labels or tags; False for other tasks, or if matplotlib is not installed."""
    if task.kind == "classify":
        labels, truth, said = task.labels, [str(e["label"]) for e in examples], answers
    elif task.kind == "tag":
        labels = task.tags
        truth = [tag for e in examples for tag in listed(e, "tags")]
        said = [tag for answer in answers for tag in answer]
    else:
        return False
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    table = metrics.confusion(truth, said, labels)
    share = table / np.maximum(1, table.sum(axis=1, keepdims=True))
    size = max(4.0, 0.7 * len(labels) + 2)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=45, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    for i, j in np.ndindex(table.shape):
        axes.text(j, i, table[i, j], ha="center", va="center", color="white" if share[i, j] > 0.5 else "black")
    axes.set_xlabel("the model said")
    axes.set_ylabel("the truth")
    axes.set_title(f"{path.parent.name}: {np.trace(table) / max(1, table.sum()):.1%} right")
    replace_file(path, lambda temporary: figure.savefig(temporary, format="png", dpi=120))
    return True
