"""Ranks that compute together, and the collectives: the few ways in which all of them exchange arrays.

A rank is one of `size` workers that run the same program, each on its part of the data. The names are MPI's and NCCL's:

    all_reduce        every rank gets the sum of all ranks' arrays
    reduce_scatter    every rank gets its own part of that sum
    all_gather        every rank gets all parts, each of which another rank has made
    all_to_all        every rank sends each other rank a part of its array
    broadcast         every rank gets the array of one
    barrier           nobody goes on before all have come

A reduce_scatter followed by an all_gather is an all_reduce, and in between each rank can do its part of the work on the
sum: so an optimizer's state is split among the ranks (ZeRO stage 1, Rajbhandari et al. 2020, arXiv:1910.02054).

`Communicator` says what a rank may ask. Two kinds are here: threads, and processes forked on one machine.
"""

from __future__ import annotations

import copy
import math
import mmap
import multiprocessing
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np

WINDOW = 1 << 19  # bytes of an array that are looked at together: they stay in a core's cache
SPINS = 2000  # attempts before a waiting process lets the system put it to sleep
PATIENCE = 0.2  # seconds of sleep between looks at whether the others still live


def core_count() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share(n: int, rank: int, size: int) -> slice:
    """The part of n things in a row that `rank` of `size` has; together the parts are all of them."""
    return slice(n * rank // size, n * (rank + 1) // size)


class Communicator(Protocol):
    """One rank's view of all of them.

    Every rank calls the same collectives in the same order, with C-contiguous arrays of one shape and dtype; otherwise
    all get a ValueError that says who gave what. Equal arrays on equally many ranks give equal bits, on all ranks, and
    when a call returns the array may be changed.
    parts: one slice of the array's first axis for each rank, in order, together all of it; by default equal shares.
    """

    rank: int  # 0 leads
    size: int

    def all_reduce(self, array: np.ndarray) -> np.ndarray:
        """The sum of all ranks' arrays, in place; returns the array."""
        ...

    def reduce_scatter(self, array: np.ndarray, parts: list[slice] | None = None) -> np.ndarray:
        """Returns this rank's part of the array, a view that now holds the sum; the rest is of no more use."""
        ...

    def all_gather(self, array: np.ndarray, parts: list[slice] | None = None) -> np.ndarray:
        """Fill in the other ranks' parts with what they have there, in place; returns the array."""
        ...

    def all_to_all(self, array: np.ndarray) -> np.ndarray:
        """(n, ...) -> (size, own share of n, ...): from each rank, those rows of its array that are this rank's."""
        ...

    def broadcast(self, array: np.ndarray, root: int = 0) -> np.ndarray:
        """Overwrite the array with rank root's; returns it."""
        ...

    def barrier(self) -> None:
        """Wait until every rank is here."""
        ...

    def zeros(self, n: int, dtype=np.float32) -> np.ndarray:
        """An array (n,) of this rank's own that collectives need not copy first. To be asked for by all ranks alike."""
        ...

    def shared(self, n: int, dtype=np.float32) -> np.ndarray:
        """An array (n,) of zeros for what is to be equal on all ranks, such as parameters.

        Where ranks share memory it is one array for all, so that collectives only wait. It must be made before the
        workers start.
        """
        ...


class OneMachine(Communicator):
    """What threads and forked processes have in common: each rank reads the others' memory.

    The one that is made is for all, to ask for `shared` arrays; `ranks` gives each worker its own.
    """

    def __init__(self, size: int):
        self.rank, self.size = 0, size
        self._turn = 0
        self._shared: list[np.ndarray] = []

    def ranks(self) -> list[OneMachine]:
        """The communicator of each rank, for workers that are about to start."""
        self._open()
        members = [copy.copy(self) for _ in range(self.size)]
        for rank, member in enumerate(members):
            member.rank = rank
        return members

    def _open(self) -> None:
        """Make the place where the ranks of one start meet."""
        raise NotImplementedError

    def _exchange(self, what: str, array: np.ndarray, copied: bool = False) -> Iterator[tuple[int, list[np.ndarray]]]:
        """(start, windows), again and again: what lies from element `start` on in the flat array of each rank.

        Nobody may write where another still reads, until the end; with copied=True they read a copy.
        """
        raise NotImplementedError

    def all_reduce(self, array: np.ndarray) -> np.ndarray:
        if self.size > 1:
            flat = _flat(array)
            for start, windows in self._exchange("all_reduce", array, copied=True):
                total = windows[0].copy()
                for window in windows[1:]:  # in the same order on all ranks, so that their sums have the same bits
                    total += window
                flat[start : start + total.size] = total
        return array

    def reduce_scatter(self, array: np.ndarray, parts: list[slice] | None = None) -> np.ndarray:
        parts = self._checked(parts, array)
        if self.size > 1:
            flat, own = _flat(array), _elements(parts[self.rank], array)
            for start, windows in self._exchange("reduce_scatter", array):
                here, there = _overlap(own, start, windows[0].size)
                for rank, window in enumerate(windows):
                    if rank != self.rank:
                        flat[here] += window[there]
        return array[parts[self.rank]]

    def all_gather(self, array: np.ndarray, parts: list[slice] | None = None) -> np.ndarray:
        parts = self._checked(parts, array)
        if self._is_shared(array):
            self.barrier()
        elif self.size > 1:
            flat, places = _flat(array), [_elements(part, array) for part in parts]
            for start, windows in self._exchange("all_gather", array):
                for rank, window in enumerate(windows):
                    if rank != self.rank:
                        here, there = _overlap(places[rank], start, window.size)
                        flat[here] = window[there]
        return array

    def all_to_all(self, array: np.ndarray) -> np.ndarray:
        own = share(len(array), self.rank, self.size)
        received = np.empty((self.size, *array[own].shape), array.dtype)
        rows, place = received.reshape(self.size, -1), _elements(own, array)
        for start, windows in self._exchange("all_to_all", array):
            here, there = _overlap(place, start, windows[0].size)
            for row, window in zip(rows, windows):
                row[here.start - place.start : here.stop - place.start] = window[there]
        return received

    def broadcast(self, array: np.ndarray, root: int = 0) -> np.ndarray:
        if self._is_shared(array):
            self.barrier()
        elif self.size > 1:
            flat = _flat(array)
            for start, windows in self._exchange("broadcast", array):
                if self.rank != root:
                    flat[start : start + windows[root].size] = windows[root]
        return array

    def _is_shared(self, array: np.ndarray) -> bool:
        """Whether the array is one that all ranks have in common."""
        return self.size > 1 and any(np.may_share_memory(array, one) for one in self._shared)

    def _checked(self, parts: list[slice] | None, array: np.ndarray) -> list[slice]:
        if parts is None:
            return [share(len(array), rank, self.size) for rank in range(self.size)]
        ends = [0, *(part.stop for part in parts)]
        if len(parts) != self.size or [part.start for part in parts] != ends[:-1] or ends[-1] != len(array):
            raise ValueError(f"{parts} do not cut {len(array)} rows into a part for each of {self.size} ranks in turn")
        return parts

    def _next_turn(self) -> int:
        """0 or 1: in which of two places the ranks leave things for each other this time.

        Nobody can write over what is still being read, because a place comes up again only after another meeting.
        """
        self._turn = 1 - self._turn
        return self._turn


class Threads(OneMachine):
    """Threads of one process, which see all of each other's arrays."""

    def __init__(self, size: int):
        super().__init__(size)
        self._offers = [[("", None)] * size, [("", None)] * size]  # (what is called, the flat array) of each rank

    def _open(self) -> None:
        self._meeting = threading.Barrier(self.size)

    def abort(self) -> None:
        """Let all who wait for this rank fail."""
        self._meeting.abort()

    def barrier(self) -> None:
        if self.size > 1:
            self._meeting.wait()

    def zeros(self, n: int, dtype=np.float32) -> np.ndarray:
        return np.zeros(n, dtype)

    def shared(self, n: int, dtype=np.float32) -> np.ndarray:
        self._shared.append(np.zeros(n, dtype))
        return self._shared[-1]

    def _exchange(self, what: str, array: np.ndarray, copied: bool = False) -> Iterator[tuple[int, list[np.ndarray]]]:
        flat, offers = _flat(array), self._offers[self._next_turn()]
        offers[self.rank] = _call(what, array), flat.copy() if copied else flat
        self.barrier()
        _check_calls([call for call, _ in offers])
        arrays = [offered for _, offered in offers]
        for window in _windows(flat):
            yield window.start, [offered[window] for offered in arrays]
        if not copied:
            self.barrier()


class Processes(OneMachine):
    """Forked processes of one machine (Linux). They see each other's arrays from `zeros` and `shared`.

    Other arrays go through boxes in common memory, a window after the other.
    """

    def __init__(self, size: int):
        super().__init__(size)
        self.watch: Callable[[], None] = lambda: None  # called now and then while this rank waits; may raise
        self._calls = _common_zeros(2 * size, "S256").reshape(2, size)  # what each rank calls
        self._boxes = _common_zeros(2 * size * WINDOW, np.uint8).reshape(2, size, WINDOW)
        self._file = os.memfd_create("tinytensor")  # a file in memory: it can be made longer after the fork
        weakref.finalize(self, os.close, self._file)
        self._blocks: list[np.ndarray] = []  # what `zeros` made: (size, bytes), a row for each rank

    def _open(self) -> None:
        fork = multiprocessing.get_context("fork")
        self._arrived, self._released = fork.Semaphore(0), [fork.Semaphore(0) for _ in range(self.size)]

    def barrier(self) -> None:
        if self.rank == 0:
            for _ in range(self.size - 1):
                self._wait_for(self._arrived)
            for semaphore in self._released[1:]:
                semaphore.release()
        else:
            self._arrived.release()
            self._wait_for(self._released[self.rank])

    def _wait_for(self, semaphore) -> None:
        """Take from a semaphore: at first by trying again and again, which answers in a microsecond, then asleep."""
        for _ in range(SPINS):
            if semaphore.acquire(False):
                return
        while not semaphore.acquire(timeout=PATIENCE):
            self.watch()

    def zeros(self, n: int, dtype=np.float32) -> np.ndarray:
        nbytes, start = n * np.dtype(dtype).itemsize, sum(block.nbytes for block in self._blocks)
        row = max(1, math.ceil(nbytes / mmap.PAGESIZE)) * mmap.PAGESIZE
        if self.rank == 0:
            os.ftruncate(self._file, start + self.size * row)
        self.barrier()
        memory = mmap.mmap(self._file, self.size * row, offset=start)
        self._blocks.append(np.frombuffer(memory, np.uint8).reshape(self.size, row))
        return self._blocks[-1][self.rank, :nbytes].view(dtype)

    def shared(self, n: int, dtype=np.float32) -> np.ndarray:
        self._shared.append(_common_zeros(n, dtype))
        return self._shared[-1]

    def _exchange(self, what: str, array: np.ndarray, copied: bool = False) -> Iterator[tuple[int, list[np.ndarray]]]:
        arrays, where = (None, "") if copied else self._everyones(array)
        flat, call = _flat(array), _call(what, array) + where
        if arrays is None:
            for window in _windows(flat) or [slice(0, 0)]:
                boxes = self._boxes[self._meet(call, flat[window])]
                yield window.start, [box[: flat[window].nbytes].view(flat.dtype) for box in boxes]
        else:
            self._meet(call)
            for window in _windows(flat):
                yield window.start, [other[window] for other in arrays]
            self.barrier()

    def _meet(self, call: str, boxed: np.ndarray | None = None) -> int:
        """Leave word of a call, and perhaps a window of an array, and wait for the others'; returns where they lie."""
        turn = self._next_turn()
        self._calls[turn, self.rank] = call.encode()
        if boxed is not None:
            self._boxes[turn, self.rank, : boxed.nbytes] = boxed.view(np.uint8)
        self.barrier()
        _check_calls([other.decode() for other in self._calls[turn].tolist()])
        return turn

    def _everyones(self, array: np.ndarray) -> tuple[list[np.ndarray] | None, str]:
        """(the same stretch of what `zeros` gave to each rank, where it is); None where the array is another one."""
        for number, block in enumerate(self._blocks):
            offset = array.ctypes.data - block[self.rank].ctypes.data
            if 0 <= offset < block.shape[1]:
                rows = block[:, offset : offset + array.nbytes]
                return [row.view(array.dtype) for row in rows], f" at byte {offset} of array {number}"
        return None, ""


def _common_zeros(n: int, dtype) -> np.ndarray:
    """An array of zeros that processes forked from this one see each other's changes of."""
    dtype = np.dtype(dtype)
    return np.frombuffer(mmap.mmap(-1, max(1, n * dtype.itemsize)), dtype, n)


def _flat(array: np.ndarray) -> np.ndarray:
    """A view of all elements in a row."""
    if not array.flags.c_contiguous:
        raise ValueError(f"a collective needs a C-contiguous array; make one of this {array.shape} with .copy()")
    return array.reshape(-1)


def _windows(flat: np.ndarray) -> list[slice]:
    step = WINDOW // flat.itemsize
    return [slice(start, min(start + step, flat.size)) for start in range(0, flat.size, step)]


def _elements(part: slice, array: np.ndarray) -> slice:
    """The elements of the flat array that make up some of its rows."""
    width = math.prod(array.shape[1:])
    return slice(part.start * width, part.stop * width)


def _overlap(place: slice, start: int, n: int) -> tuple[slice, slice]:
    """What `place` and the n elements from `start` on have in common: (where that is in all, where among the n)."""
    low = min(max(place.start, start), start + n)
    high = max(low, min(place.stop, start + n))
    return slice(low, high), slice(low - start, high - start)


def _call(what: str, array: np.ndarray) -> str:
    return f"{what} of {array.shape} {array.dtype}"


def _check_calls(calls: list[str]) -> None:
    for rank, call in enumerate(calls):
        if call != calls[0]:
            raise ValueError(f"ranks must call the same with equal shapes: rank 0 has {calls[0]}, rank {rank} {call}")
