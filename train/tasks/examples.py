"""Where the examples of a task come from: the user's files, the stories, or a toy.

Files hold JSON lines, or a table (CSV or TSV) with a line of column names first.
"""

import json
import re
import zlib
from pathlib import Path

from models.files import parse_json, read_text
from train.data import toys
from train.data.records import lines_of
from train.data.stories import beliefs, dialogues
from train.data.stories import tasks as stories_tasks
from train.drawing import scenes as drawings
from train.tasks import TASKS, Draw, Text2Text
from train.tasks.tables import SEPARATORS, rows_of

HELD_OUT = 200  # drawings at most, as each is written anew at every evaluation


def examples_of(task: str, data: Path | None = None, held_out: Path | None = None, examples: int = 1000,
                write: dialogues.Writer | None = None, **_) -> tuple[str, list[dict], list[dict]]:  # fmt: skip
    """(kind of task, training examples, held-out examples): of files, or made (`examples` of them).

    write: the talker whose replies are put in order, where preferences are made.

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
    if task == drawings.SET:
        return Draw.kind, drawings.examples(examples, 1), drawings.examples(min(HELD_OUT, counts[1]), 2, held_out=True)
    if task in dialogues.SETS:
        kind, make = dialogues.SETS[task]
        of_talker = {"write": write} if write else {}
        return kind, *(make(count, seed, **of_talker) for seed, count in enumerate(counts, start=1))
    if task in beliefs.SETS:
        return beliefs.SETS[task][0], *beliefs.training_and_test(task, *counts)
    if task not in stories_tasks.SETS:
        names = ", ".join((*stories_tasks.SETS, *dialogues.SETS, *beliefs.SETS, drawings.SET, *toys.TOYS))
        raise ValueError(f"unknown --task {task!r}; choose from {names}, or give --data and one of {', '.join(TASKS)}")
    # Seeds that no pretraining corpus has.
    kind, _ = stories_tasks.SETS[task]
    made = [stories_tasks.examples(task, count, seed) for seed, count in enumerate(counts, start=1)]
    return kind, *made


def checksum(examples: tuple) -> int:
    """A number that tells these examples from others, so that a run goes on with those it was begun with."""
    return zlib.crc32(json.dumps(examples).encode())


def read_examples(path: str | Path, kind: str, answered: bool = True) -> list[dict]:
    """The examples of a .jsonl, .json, .csv or .tsv file, as dicts with the names that the task of this kind knows.

    answered: whether they must have their labels; to ask, only what poses the question is needed.
    """
    path = Path(path)
    packed = path.name.endswith(".jsonl.gz")
    text = "".join(lines_of(path)) if packed else read_text(path, "a file of examples")
    text = text.removeprefix("\ufeff")  # the mark some editors put at the front
    if path.suffix not in (".jsonl", ".json", *SEPARATORS) and not packed:
        raise ValueError(f"{path} must end in .jsonl (JSON lines), .csv or .tsv (with a line of column names)")
    if path.suffix in SEPARATORS:
        found = rows_of(text, path.suffix, path)
    else:
        lines = enumerate(re.split("\r\n|\r|\n", text), start=1)  # splitlines would also cut inside of texts
        found = [(where := f"line {n} of {path}", _from_json(where, line)) for n, line in lines if line.strip()]
    if not found:
        raise ValueError(f"{path} holds no examples")
    task, has = TASKS[kind], found[0][1]
    if not set(task.columns) & has.keys():
        raise ValueError(f"{path} has {', '.join(has)}; a task of the kind {kind} needs {', '.join(task.columns)}")
    wanted = [(where, made) for where, example in found if (made := task.read(example, where)) is not None]
    if passed := len(found) - len(wanted):
        print(f"note: {passed} of {len(found)} examples of {path} were passed over: they have no reply, or none better")
    if not wanted:
        raise ValueError(f"{path} holds no examples of the kind {kind}")
    needed = (*task.asks[: task.least], *(("label", "score", "tags", "target") if answered else ()))
    return [_trimmed([name for name in needed if name in task.columns], *each) for each in wanted]


def _trimmed(needed: list[str], where: str, example: dict) -> dict:
    """The example with nothing around its label. A cell or text that is empty where one is needed is named."""
    if isinstance(label := example.get("label"), str):
        example = example | {"label": label.strip()}
    for name in needed:
        if isinstance(value := example.get(name), str) and not value.strip():
            raise ValueError(f"{where} has an empty {name}; fill it in, or take the line out")
    return example


def _from_json(where: str, line: str) -> dict:
    example = parse_json(line, where)
    if not isinstance(example, dict):
        raise ValueError(f"{where} is no JSON object: {line[:60]}")
    return example
