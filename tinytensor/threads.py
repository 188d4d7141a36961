"""Ranks that see each other's memory; here as threads of one process, in processes.py as processes.

Threads share an interpreter, which only one of them can run Python code in at a time; processes do not, and are faster
for small models.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from tinytensor.distributed import Communicator, blas_threads


class Neighbours(Communicator):
    """Ranks that read each other's arrays where they lie.

    _calls: what each of all ranks calls, by its number among all. As a rank is in one collective at a time, and leaves
    it together with the others, the groups that it is a member of can share that.
    """

    def _ranks(self) -> list:
        """The communicators of all ranks."""
        ranks = [copy.copy(self) for _ in range(self.size)]
        for number, rank in enumerate(ranks):
            rank.rank = number
        return ranks

    def _meet(self, what: str, array: np.ndarray) -> None:
        """A barrier for ranks that all call the same; ValueError if they do not."""
        if not array.flags.c_contiguous:
            raise ValueError(f"a collective needs a C-contiguous array; make one of this {array.shape} with .copy()")
        self._say(what, array)
        self.barrier()
        calls = [str(self._calls[member]) for member in self._members]
        for rank, call in enumerate(calls):
            if call != calls[0]:
                both = f"rank 0 has {calls[0]}, rank {rank} {call}"
                raise ValueError(f"ranks must call the same with equal shapes: {both}")

    def _say(self, what: str, array: np.ndarray) -> None:
        self._calls[self._members[self.rank]] = f"{what} of {array.shape} {array.dtype}"


class Threads(Neighbours):
    """Threads of one process."""

    def run(self, work: Callable[[Communicator], object]):
        self._calls, self._arrays = [""] * self.size, [None] * self.size  # what each rank calls, and with what
        self._meeting, self._meetings = threading.Barrier(self.size), {}  # that of all, and those of groups
        errors: list[BaseException] = []

        def guarded(comm: Threads):
            try:
                return work(comm)
            except threading.BrokenBarrierError:
                pass  # another rank failed; its error is in the list
            except BaseException as error:
                errors.append(error)
                for meeting in (self._meeting, *self._meetings.values()):
                    meeting.abort()

        leader, *others = self._ranks()
        threads = [threading.Thread(target=guarded, args=(comm,), daemon=True) for comm in others]
        with blas_threads(1):
            for thread in threads:
                thread.start()
            result = guarded(leader)
            for thread in threads:
                thread.join()
        if errors:
            raise errors[0]
        return result

    def barrier(self) -> None:
        self._meeting.wait()

    def _set_up_barrier(self) -> None:
        self._meeting = self._meetings.setdefault(tuple(self._members), threading.Barrier(self.size))

    @contextmanager
    def _everyones(self, what: str, array: np.ndarray, parts: list | None = None) -> Iterator[list[np.ndarray]]:
        self._arrays[self._members[self.rank]] = array
        self._meet(what, array)
        yield [self._arrays[member] for member in self._members]
        self.barrier()
