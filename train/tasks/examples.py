"""Where the examples of a task come from: the user's files, the stories, or a toy."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

from train.data import toys
from train.data.stories import tasks as stories_tasks
from train.tasks import TASKS, Text2Text
from train.tasks.files import read_examples


def examples_of(
    task: str, data: Path | None = None, held_out: Path | None = None, examples: int = 1000, **_
) -> tuple[str, list[dict], list[dict]]:
    """(kind of task, training examples, held-out examples): of files, or made (`examples` of them).

    Takes the record of a run as keywords; what else is in it does not matter.
    """
    if data:
        if task not in TASKS:
            raise ValueError(f"unknown --task {task!r}; with --data choose from {', '.join(TASKS)}")
        read = read_examples(data, task)
        if held_out:
            return task, read, read_examples(held_out, task)
        if len(read) < 10:
            raise ValueError(f"{data} has {len(read)} examples, too few to hold some out; give --held-out")
        return task, [e for i, e in enumerate(read) if i % 10 != 9], read[9::10]
    counts = examples, max(20, min(500, examples // 2))
    if task in toys.TOYS:
        return Text2Text.kind, *toys.examples(task, *counts)
    if task not in stories_tasks.SETS:
        raise ValueError(
            f"unknown --task {task!r}; choose from {', '.join((*stories_tasks.SETS, *toys.TOYS))}, "
            f"or give --data and one of {', '.join(TASKS)}"
        )
    # Seeds that no pretraining corpus has.
    kind, _ = stories_tasks.SETS[task]
    made = [stories_tasks.examples(task, count, seed) for seed, count in enumerate(counts, start=1)]
    return kind, *made


def checksum(examples: tuple) -> int:
    """A number that tells these examples from others, so that a run goes on with those it was begun with."""
    return zlib.crc32(json.dumps(examples).encode())
