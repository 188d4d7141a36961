"""What a process that was killed left behind in a run is completed, or taken away, by the next one to open it.

And how one folder takes the place of another, which leaves nothing behind in between.
"""

import contextlib
import ctypes
import fcntl
import os
import shutil
import time
from pathlib import Path

from models.files import CHECKSUMS, GONE, UNFINISHED, WAITS, beside, checksum, checksums, read_json, sync_folder

HERE, EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


def settle(run: Path) -> None:
    """Put in order a run in which writing was interrupted, and in which nobody writes now.

    New files that its checksums tell of take their places: the step that brought them was made. All others go, and so
    do old ones that this step was to take away.
    """
    sums = checksums(run) or {}
    for new in run.glob(f".*{UNFINISHED}"):
        place = run / new.name[1 : -len(UNFINISHED)]
        if sums.get(place.name) == checksum(new):
            os.replace(new, place)
        else:
            new.unlink()
    for name, crc in sums.items():
        if crc == GONE:
            (run / name).unlink(missing_ok=True)
    sync_folder(run)


def tidy(run: Path) -> None:
    """Settle a run, and take away what was to replace it, unless somebody goes on writing there."""
    replacing = beside(Path(os.path.abspath(run)))
    for seconds in WAITS:  # a trainer that was killed lets go of its run a moment after its end
        time.sleep(seconds)
        with contextlib.suppress(OSError):  # in use, not ours to write, or on a file system without locks
            held = os.open(run, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if checksums(run) is not None:
                    settle(run)
                if replacing.is_dir():
                    shutil.rmtree(replacing)
                return
            finally:
                os.close(held)
        if not any(run.glob(f".*{UNFINISHED}")):
            return


def exchange(new: Path, old: Path) -> None:
    """Let two folders change places: in one step where the system can, as Linux can on most disks; else in three."""
    with contextlib.suppress(AttributeError):  # where the system's library has no such function
        swap = ctypes.CDLL(None).renameat2
        if swap(HERE, os.fsencode(new), HERE, os.fsencode(old), EXCHANGE) == 0:
            return sync_folder(old.parent)
    aside = beside(beside(old))
    os.rename(old, aside)
    try:
        os.rename(new, old)
    except OSError:
        os.rename(aside, old)
        raise
    os.rename(aside, new)
    sync_folder(old.parent)


def why_no_run(folder: Path) -> str:
    """Why a folder without a config.json cannot be opened, and what to do."""
    if checksums(folder) is None:
        return f"{folder} is not a run: it has no config.json"
    return f"{folder} was stopped before its first step; begin it anew with --overwrite"


def why_not(path: Path) -> str:
    """Why a file of arrays cannot be had from a run, and what to do."""
    run, last = path.parent, path.with_name("model.safetensors")
    if path.exists():
        return f"{path} is none of the files that this run wrote ({CHECKSUMS} has no such name)"
    if (run / "command.json").exists() and path == last:
        command = read_json(run / "command.json").get("command")
        return f"{run} was stopped before its end; go on with: python -m train {command} --resume {run}"
    if last.exists():
        what = "only the last weights; leave out --best" if path.name == "best.safetensors" else "so it cannot go on"
        return f"{run} has no {path.name}, {what}"
    return f"{run} has no {path.name}: the run was stopped before its first checkpoint; begin it anew with --overwrite"
