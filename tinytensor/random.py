"""The seeded stream behind initialization, dropout, shuffling and sampling: the only source of chance in the project.

Every thread has a stream of its own. `manual_seed(7)` starts it anew; `seeded(7, step, worker)` does so for the length
of a block. The trainer opens such a block for each step, so the chance in a step is a function of the seed, the step
and the worker: a resumed run needs no saved state to draw the same numbers as one that never stopped.
"""

import contextlib
import copy
import threading
from collections.abc import Iterator

import numpy as np


def _stream(*key: int) -> np.random.Generator:
    """The stream of a key. Its length counts too: NumPy alone would give (7,) and (7, 0) the same one."""
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence((len(key), *key))))


class _Current(threading.local):
    def __init__(self):
        self.generator = _stream(0)


_current = _Current()


def generator() -> np.random.Generator:
    """This thread's stream."""
    return _current.generator


def manual_seed(*key: int) -> None:
    """Start this thread's stream anew. The key is one or several integers >= 0; equal keys give equal streams."""
    _current.generator = _stream(*key)


@contextlib.contextmanager
def drawn_from(stream) -> Iterator[np.random.Generator]:
    """Inside this block the thread draws from this stream; afterwards it goes on where it was."""
    before, _current.generator = _current.generator, stream
    try:
        yield stream
    finally:
        _current.generator = before


def seeded(*key: int):
    """Inside this block the thread draws from the stream of this key; afterwards it goes on where it was."""
    return drawn_from(_stream(*key))


def replayed(state: dict):
    """Inside this block the thread draws again what it drew after `state`, a generator's `bit_generator.state`."""
    again = copy.deepcopy(_current.generator)
    again.bit_generator.state = state
    return drawn_from(again)
