"""How a command ends that does not come to its end: with one sentence and a status for whoever called it."""

import argparse
import contextlib
import errno
import os
import signal
import sys

from tinytensor.processes import WorkerDied
from train.precision import lack_of_memory
from train.resume import Stopped


def status_after(end: BaseException) -> int:
    """The exit status; what is none of the user's doing is raised again."""
    if isinstance(end, Stopped):
        return say(f"{end}", 0)
    if isinstance(end, KeyboardInterrupt):  # by a signal: Ctrl-C, or the one that it was given
        return say("interrupted", 128 + (end.args[0] if end.args else signal.SIGINT))
    if isinstance(end, (ValueError, argparse.ArgumentError, WorkerDied, FloatingPointError)):
        return say(f"error: {end}", 2)
    if isinstance(end, OSError) and end.filename is None and end.errno in (errno.EPIPE, errno.EIO):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # who read is gone: `head`, or the terminal
        return 128 + signal.SIGPIPE
    if isinstance(end, OSError):
        return say(f"error: {end.filename or 'standard output'}: {end.strerror or end}", 2)
    if isinstance(end, MemoryError):
        what = f"out of memory ({end}); try a smaller model, --batch, --context or --tokens"
        return say(f"error: {lack_of_memory(end) if type(end).__module__.startswith('cupy') else what}", 2)
    raise end


def say(sentence: str, status: int) -> int:
    """A last sentence, where there is still somebody to read it."""
    with contextlib.suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)
    return status
