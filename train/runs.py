"""The life of a run: its folder is made, or not at all; it trains to its end, or says how to go on."""

import contextlib
import itertools
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from models.files import checksums, write_checksums
from train import overwrite
from train.checkpoint import Folder
from train.report import energy_in_words
from train.trainer import Trainer


@contextlib.contextmanager
def new_run(out: Path | None, name: str, replace: bool, sources: Iterable[str | Path | None] = ()) -> Iterator[Folder]:
    """A new, empty folder, `out` or the first free runs/NAME-N; gone again after an error before anything was learned.

    replace: take the place of a run that `out` is, but not before the first checkpoint.   sources: what is read.
    """
    with gone_unless_learned(_make_folder(out, name, replace, sources)) as folder:
        write_checksums(folder.path, {})  # first: it says that this is a run's
        yield folder


@contextlib.contextmanager
def gone_unless_learned(folder: Folder) -> Iterator[Folder]:
    """Let a folder go after an error, and take it away if there is no checkpoint in it."""
    try:
        yield folder
    except BaseException:
        with contextlib.suppress(ValueError):
            folder.check()
            if not any(re.match(r"(model|train).*\.safetensors", name) for name in checksums(folder.path) or ()):
                shutil.rmtree(folder.path, ignore_errors=True)
        folder.close()
        raise


def _make_folder(out: Path | None, name: str, replace: bool, sources: Iterable[str | Path | None]) -> Folder:
    for path in [out] if out else (Path(f"runs/{name}-{number}") for number in itertools.count(1)):
        if out or not path.exists():  # a free name is looked for beside the run that is read
            check_apart(path, sources)
        try:
            path.mkdir(parents=True)
            return Folder(path)
        except FileExistsError:
            if out and replace:
                return overwrite.folder_beside(path)
        except OSError as error:
            raise ValueError(f"{path} cannot be written: {error.strerror or error}") from None
        except KeyboardInterrupt:  # what was just made is empty; anything else stays
            with contextlib.suppress(OSError):
                path.rmdir()
            raise
    raise ValueError(f"{out} exists already; choose another --out, go on with --resume, or --overwrite it")


def check_apart(out: Path, sources: Iterable[str | Path | None], flag: str = "--out") -> None:
    """Refuse to write where the sources of a command are, above or below."""
    place = Path(os.path.realpath(out))
    for source in filter(None, sources):
        real = Path(os.path.realpath(source))
        if place == real or place in real.parents or real in place.parents:
            raise ValueError(f"{flag} {out} is, holds or lies in {source}, which is read; choose another {flag}")


def train(trainer: Trainer) -> bool:
    """Train to the end and draw the losses; False if the user stopped it before."""
    report = trainer.report
    with gone_unless_learned(trainer.folder):
        report.start(trainer.progress.step, trainer.config.device)
        try:
            progress = trainer.train()
            report.write(step=progress.step, **(used := report.meter.read()))
        finally:
            report.close()
        report.draw(trainer.run / "loss.png")
        print(f"energy: {energy_in_words(used)}")
    return progress.step >= trainer.config.steps
