"""Which run is meant when none is named."""

from __future__ import annotations

import re
from pathlib import Path


def newest_run(family: str, runs: Path = Path("runs")) -> Path:
    """The folder runs/FAMILY-N with the highest N."""
    numbers = [int(m[1]) for path in runs.glob(f"{family}-*") if (m := re.fullmatch(rf"{family}-(\d+)", path.name))]
    if not numbers:
        raise ValueError(f"there is no run in {runs}/{family}-N; make one with: python -m train {family}")
    return runs / f"{family}-{max(numbers)}"
