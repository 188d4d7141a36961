"""Which run is read where none is named, and which files may be written where the user says."""

import re
from collections.abc import Iterable
from pathlib import Path

from models.files import checksums
from train.runs import check_apart


def newest_run(family: str, runs: Path = Path("runs")) -> Path:
    """The folder runs/FAMILY-N with the highest N: which run is meant when none is named."""
    numbers = [int(m[1]) for path in runs.glob(f"{family}-*") if (m := re.fullmatch(rf"{family}-(\d+)", path.name))]
    if not numbers:
        raise ValueError(f"there is no run in {runs}/{family}-N; make one with: python -m train {family}")
    return runs / f"{family}-{max(numbers)}"


def check_output(file: Path, overwrite: bool, sources: Iterable[str | Path | None], flag: str = "--out") -> None:
    """Refuse, before any work, to write a file that is a source, is there already, or belongs to a run."""
    check_apart(file, sources, flag)
    if file.name in (checksums(file.parent) or {}):
        raise ValueError(f"{flag} {file} is a file of the run {file.parent}; choose another {flag}")
    if file.exists() and not overwrite:
        raise ValueError(f"{file} exists already; choose another {flag}, or --overwrite it")
