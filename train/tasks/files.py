"""Labelled examples from files: JSON lines, or TSV with a line of column names first."""

from __future__ import annotations

import json
from pathlib import Path

from train.tasks import TASKS


def read_examples(path: str | Path, kind: str) -> list[dict]:
    """The examples of a .jsonl, .json or .tsv file, as dicts with the names that the task of this kind knows."""
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # splitlines would also cut inside of texts
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read as UTF-8 text: {error}") from None
    read = {".jsonl": _json_lines, ".json": _json_lines, ".tsv": _tsv}.get(path.suffix)
    if read is None:
        raise ValueError(f"{path} must end in .jsonl (JSON lines) or .tsv (with a line of column names)")
    examples = read(path, lines)
    if not examples:
        raise ValueError(f"{path} holds no examples")
    wanted = TASKS[kind].columns
    if not set(wanted) & examples[0].keys():
        raise ValueError(f"{path} has {', '.join(examples[0])}; a task of the kind {kind} needs {', '.join(wanted)}")
    return examples


def _json_lines(path: Path, lines: list[str]) -> list[dict]:
    examples = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            example = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} of {path} is no JSON: {error}") from None
        if not isinstance(example, dict):
            raise ValueError(f"line {number} of {path} is no JSON object: {line[:60]}")
        examples.append(example)
    return examples


def _tsv(path: Path, lines: list[str]) -> list[dict]:
    names = lines[0].split("\t")
    examples = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        values = line.split("\t")
        if len(values) != len(names):
            raise ValueError(f"line {number} of {path} has {len(values)} columns; the first line names {len(names)}")
        examples.append(dict(zip(names, values)))
    return examples
