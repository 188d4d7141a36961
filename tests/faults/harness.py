"""What every fuzzer here asks of the program, whatever it is given: an answer, or one sentence about what is wrong.

No other error, nothing over ten seconds or a gigabyte more than before, no file opened outside of the folder and the
program's own. Everything is drawn from a seeded generator, so a trial can be repeated by its number.
"""

import contextlib
import copy
import io
import os
import random
import resource
import signal
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

SHARE = float(os.environ.get("TINYTENSOR_FAULTS", "1"))  # of the trials
SECONDS, BYTES = 10, 2**30
OWN = tuple(map(str, (Path(__file__).parents[2], sysconfig.get_paths()["stdlib"], sys.prefix, sys.base_prefix,
                      "/proc", "/sys", "/usr", "/etc", "/dev/")))  # fmt: skip
VALUES = [None, True, False, 0, 1, -1, 2, 1.5, -0.0, 10**9, 2**31, 2**63, 10**30, -(10**9), 1e308, float("nan"),
          float("inf"), float("-inf"), "", "x", "1", "gpt", "\x00", "../x", "/etc/passwd", "a" * 100_000, [], {}, [1],
          [[1, 2]], [None], ["x", "x"], {"x": 1}, {"": None}, [0] * 1000, "\U0001f600"]  # fmt: skip
_allowed: list[Path] = []


class TooSlow(BaseException):
    """Not an Exception, so that nobody takes it for a damaged file."""


def trials(count: int, seed: int) -> Iterator[random.Random]:
    """A generator of its own for each trial."""
    return (random.Random(seed * 1_000_003 + number) for number in range(max(1, round(SHARE * count))))


def outcome(call: Callable[[], object], folder: Path) -> str:
    """What comes of a call: "" if it worked, else its one sentence. Anything else is an error of the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, hard))
    before = signal.signal(signal.SIGALRM, _too_slow)
    signal.alarm(SECONDS)
    _allowed.append(folder.resolve())
    try:
        with (contextlib.redirect_stderr(io.StringIO()) as errors, contextlib.redirect_stdout(io.StringIO()),
              np.errstate(all="ignore")):  # fmt: skip
            status = call()
        if status is None or status == 0 or not isinstance(status, int):
            return ""
        sentence = errors.getvalue().rpartition("error: ")[2].strip()  # argparse puts the usage before it
    except ValueError as error:
        sentence = str(error)
    finally:
        _allowed.pop()
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert sentence and len(sentence) < 2000, f"no sentence: {sentence[:300]!r}"
    return sentence


def _too_slow(number, frame):
    raise TooSlow


def _see(event: str, arguments: tuple) -> None:
    """Every file that is opened while a trial runs lies in its folder."""
    if event != "open" or not _allowed or not isinstance(arguments[0], (str, bytes)):
        return
    path = os.path.realpath(os.fsdecode(arguments[0]))
    assert path.startswith((*map(str, _allowed), *OWN)), f"{path} was opened"


tempfile.gettempdir()  # which looks for a place by writing, once
sys.addaudithook(_see)


def changed(value, draw: random.Random):
    """A JSON value with one thing in it replaced, taken away, doubled or renamed, somewhere."""
    whole = copy.deepcopy({"": value})
    places = [(whole, "")]
    for holder, key in places:
        inner = holder[key]
        keys = inner if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ()
        places += [(inner, key) for key in list(keys)[:200]]
    holder, key = draw.choice(places[1:] or places)
    match draw.randrange(8):
        case 0 if isinstance(holder, dict):
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[draw.choice(["x", key + "x", "", "layers"])] = holder.pop(key)
        case 2 if isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool):
            holder[key] = draw.choice([holder[key] + 1, holder[key] * 1000, -holder[key], holder[key] / 3])
        case 3:
            holder[key] = [holder[key]]
        case 4:
            for _ in range(draw.choice([2, 60, 500])):
                holder[key] = [holder[key]]
        case _:
            holder[key] = copy.deepcopy(draw.choice(VALUES))
    return whole.get("", {})


def flipped(data: bytes, draw: random.Random) -> bytes:
    """Bytes with some bits turned, or with a part cut out, doubled or overwritten."""
    data = bytearray(data)
    for _ in range(draw.choice([1, 1, 1, 3, 10])):
        place = draw.randrange(len(data)) if data else 0
        match draw.randrange(6):
            case 0 | 1 | 2 if data:
                data[place] ^= 1 << draw.randrange(8)
            case 3:
                del data[place : place + draw.choice([1, 4, 100, 10**6])]
            case 4:
                data[place:place] = data[place : place + draw.choice([1, 4, 100])]
            case _:
                data[place : place + 4] = draw.choice([b"\xff" * 4, bytes(4), draw.randbytes(4)])
    return bytes(data)


def try_damaged(files: list[Path], draws: Iterable, written: Callable, used: Callable, folder: Path) -> None:
    """For each draw one of the files holds written(path, draw) while used(path) reads it, and is whole again after.

    Some must be refused in a sentence, and some read.
    """
    refused, well = 0, 0
    for draw in draws:
        path = draw.choice(files)
        whole = path.read_bytes()
        try:
            path.write_bytes(written(path, draw))
            if outcome(partial(used, path), folder):
                refused += 1
            else:
                well += 1
        finally:
            path.write_bytes(whole)
    assert well and refused
