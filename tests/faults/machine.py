"""A machine that fails: every call that changes the disk is counted, and one of them is the last that is made.

A kill stops the program there, and nothing that it does afterwards reaches the disk; a full disk lets it go on, but
takes no more data.
"""

import builtins
import contextlib
import errno
import gc
import io
import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from train import plots, repair, report
from train.__main__ import main
from train.commands import gpt
from train.compression import measure

CALLS = [(os, name) for name in ("replace", "rename", "unlink", "rmdir", "mkdir", "fsync", "chmod")] + [
    (builtins, "open"), (io, "open"), (safetensors.numpy, "save_file"), (repair, "exchange")]  # fmt: skip
DATA = ("open", "save_file", "fsync", "mkdir")  # those that need room
WRITING = set("wax+")


class Killed(BaseException):
    """The program is no more."""


class Machine:
    """at: the number of the call that fails, from 1 on, or 0 for none; `calls` were made."""

    def __init__(self, at: int = 0, full: bool = False):
        self.at, self.full, self.calls = at, full, 0

    def wrapped(self, name: str, function):
        def call(*args, **kwargs):
            mode = kwargs.get("mode", args[1] if len(args) > 1 else "r") if name == "open" else "w"
            if not WRITING & {*str(mode)} or (self.full and name not in DATA):
                return function(*args, **kwargs)
            self.calls += 1
            if self.at and self.calls >= self.at:
                if name == "save_file" and self.calls == self.at:  # in the middle of it
                    function(*args, **kwargs)
                    os.truncate(args[1], Path(args[1]).stat().st_size // 2)
                if self.full:
                    raise OSError(errno.ENOSPC, "No space left on device")
                raise Killed
            return function(*args, **kwargs)

        return call


@contextlib.contextmanager
def machine(at: int = 0, full: bool = False) -> Iterator[Machine]:
    """While this lasts all files are written on a machine that fails; a kill ends it."""
    one = Machine(at, full)
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
        for module, name in CALLS:
            patch.setattr(module, name, one.wrapped(name, vars(module)[name]))
        yield one


def interrupted(command: list[str], at: int, full: bool) -> None:
    """Run a command on a machine that fails at that call."""
    with machine(at, full):
        assert main(command) in (0, 2)
    gc.collect()  # a process that is gone holds no lock


@pytest.fixture
def quick(monkeypatch):
    """What takes time and changes nothing is left out: pictures, timing, long samples."""

    def picture(path, *_):
        report.replace_file(path, lambda new: new.write_text("a picture"))
        return True

    monkeypatch.setattr(report, "picture", picture)
    monkeypatch.setattr(plots, "picture", picture)
    monkeypatch.setattr(measure, "time_losses", lambda models, batch, clock: dict.fromkeys(models, np.ones(5)))
    monkeypatch.setattr(gpt._written, "__defaults__", (1, 4))


def chosen(calls: int, number: int, seed: int) -> list[int]:
    """Calls to fail at: all of 1 to `calls`, or as many as asked for, the last ones among them."""
    numbers = range(1, calls + 1)
    last = numbers[-number // 2 :]
    return sorted({*last, *random.Random(seed).sample(numbers, min(number // 2, calls))}) if number < calls else numbers


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
