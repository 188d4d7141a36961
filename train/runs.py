"""The life of a run: its folder is made, or not at all; it trains to its end, or says how to go on."""

import contextlib
import itertools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from train import checkpoint
from train.report import energy_in_words
from train.trainer import Trainer


def newest_run(family: str, runs: Path = Path("runs")) -> Path:
    """The folder runs/FAMILY-N with the highest N: which run is meant when none is named."""
    numbers = [int(m[1]) for path in runs.glob(f"{family}-*") if (m := re.fullmatch(rf"{family}-(\d+)", path.name))]
    if not numbers:
        raise ValueError(f"there is no run in {runs}/{family}-N; make one with: python -m train {family}")
    return runs / f"{family}-{max(numbers)}"


@contextlib.contextmanager
def new_run(out: Path | None, name: str, overwrite: bool) -> Iterator[Path]:
    """A new, empty folder: `out`, or the first runs/NAME-N that is free.

    It is gone again if this block ends with an error before anything was learned.
    """
    folder = _make_folder(out, name, overwrite)
    try:
        yield folder
    except BaseException:
        if not (folder / checkpoint.TRAINER).exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _make_folder(out: Path | None, name: str, overwrite: bool) -> Path:
    numbered = (Path(f"runs/{name}-{number}") for number in itertools.count(1))
    out = out or next(path for path in numbered if not path.exists())
    try:
        if out.exists():
            if not overwrite:
                raise ValueError(f"{out} exists already; choose another --out, go on with --resume, or --overwrite it")
            if any(out.iterdir()) and checkpoint.family_in(out) is None:
                raise ValueError(f"{out} does not look like a run, so it is not overwritten; choose another --out")
            shutil.rmtree(out)
        out.mkdir(parents=True)
    except OSError as error:
        raise ValueError(f"{out} cannot be written: {error.strerror}") from None
    return out


def train(trainer: Trainer) -> bool:
    """Train to the end and draw the losses; False if the user stopped it before."""
    report = trainer.report
    report.start(trainer.progress.step, trainer.config.device)
    try:
        progress = trainer.train()
        report.write(step=progress.step, **(used := report.meter.read()))
    finally:
        report.close()
    report.draw(trainer.run / "loss.png")
    print(f"energy: {energy_in_words(used)}")
    return progress.step >= trainer.config.steps
