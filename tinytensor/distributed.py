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

Where ranks can read each other's memory all of them are made of one step: show the others an array, meet, read theirs,
meet again. How they meet and show differs from kind to kind: threads.py, processes.py. Here a rank is alone.

The kernels use one core each; all cores are used by cutting the batch instead.
"""

from __future__ import annotations

import copy
import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import threadpoolctl

# Inside `with blas_threads(n)` matrix products use n threads. Ranks use one each.
blas_threads = functools.partial(threadpoolctl.threadpool_limits, user_api="blas")


def core_count() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share(n: int, rank: int, size: int) -> slice:
    """The part of n things in a row that `rank` of `size` has; together the parts are all of them."""
    return slice(n * rank // size, n * (rank + 1) // size)


class Communicator:
    """One rank's view of all of them. The one that is made is for all: it gives out `shared` arrays and starts `run`.

    Every rank calls the same collectives in the same order, with C-contiguous arrays of one shape and dtype; otherwise
    all get a ValueError that says who gave what. Equal arrays on equally many ranks give equal bits, on all ranks, and
    when a call returns the array may be changed.
    parts: one slice of the array's first axis for each rank, in order, together all of it; by default equal shares.

    This one is alone. A kind of ranks says how they start (`run`), meet (`barrier`) and show their arrays: each has a
    slot, in which the others find what it calls, and with what.
    """

    kind = "threads"

    def __init__(self, size: int = 1):
        self.rank, self.size = 0, size  # rank 0 leads
        self._members = list(range(size))  # the ranks' numbers among all that there are
        self._shared: list[np.ndarray] = []

    def run(self, work: Callable[[Communicator], object]):
        """Do work(communicator) at every rank at once, at rank 0 right here; returns what rank 0's returned.

        If any fails, all end, and its error is raised here.
        """
        with blas_threads(1):
            return work(self)

    def barrier(self) -> None:
        """Wait until every rank is here."""

    def zeros(self, n: int, dtype=np.float32) -> np.ndarray:
        """An array (n,) of this rank's own that the others can see, so that collectives need not copy it first."""
        return np.zeros(n, dtype)

    def split(self, color: int) -> Communicator:
        """Ranks of one color as a group of their own, in the same order. All ranks must call it, within `run`."""
        colors = np.zeros(self.size, int)
        colors[self.rank] = color
        members = np.flatnonzero(self.all_gather(colors) == color).tolist()
        group = copy.copy(self)
        group.rank, group.size = members.index(self.rank), len(members)
        group._members = [self._members[rank] for rank in members]
        group._set_up_barrier()
        self.barrier()
        return group

    @contextmanager
    def _everyones(self, what: str, array: np.ndarray, parts: list | None = None) -> Iterator[list[np.ndarray]]:
        """Inside this block: the arrays of all ranks, of which each shows its part of `parts`, or all.

        Nobody may write where another still reads before the block has ended.
        """
        yield [array]

    def _set_up_barrier(self) -> None:
        """What the ranks of a group need to meet among themselves."""

    def shared(self, n: int, dtype=np.float32) -> np.ndarray:
        """An array (n,) of zeros for what is to be equal on all ranks, such as parameters: one and the same for all.

        Its all_gather and broadcast only wait. It must be made before the ranks start.
        """
        self._shared.append(self.zeros(n, dtype))
        return self._shared[-1]

    def all_reduce(self, array: np.ndarray) -> np.ndarray:
        """The sum of all ranks' arrays, in place; returns the array."""
        with self._everyones("all_reduce", array) as arrays:
            total = arrays[0].copy()
            for other in arrays[1:]:  # in the same order on all ranks, so that their sums have the same bits
                total += other
        array[...] = total
        return array

    def reduce_scatter(self, array: np.ndarray, parts: list[slice] | None = None) -> np.ndarray:
        """Returns this rank's part of the array, a view that now holds the sum; the rest is of no more use."""
        part = self._checked(parts, array)[self.rank]
        own = array[part]
        with self._everyones("reduce_scatter", array) as arrays:
            for rank, other in enumerate(arrays):
                if rank != self.rank:
                    own += other[part]
        return own

    def all_gather(self, array: np.ndarray, parts: list[slice] | None = None) -> np.ndarray:
        """Fill in the other ranks' parts with what they have there, in place; returns the array."""
        parts = self._checked(parts, array)
        if self._is_shared(array):
            self.barrier()
            return array
        with self._everyones("all_gather", array, parts) as arrays:
            for rank, (part, other) in enumerate(zip(parts, arrays)):
                if rank != self.rank:
                    array[part] = other[part]
        return array

    def all_to_all(self, array: np.ndarray) -> np.ndarray:
        """(n, ...) -> (size, own share of n, ...): from each rank, those rows of its array that are this rank's."""
        own = share(len(array), self.rank, self.size)
        with self._everyones("all_to_all", array) as arrays:
            return np.stack([other[own] for other in arrays])

    def broadcast(self, array: np.ndarray, root: int = 0) -> np.ndarray:
        """Overwrite the array with rank root's; returns it."""
        if self._is_shared(array):
            self.barrier()
            return array
        with self._everyones("broadcast", array) as arrays:
            if self.rank != root:
                array[...] = arrays[root]
        return array

    def _is_shared(self, array: np.ndarray) -> bool:
        """Whether the array is one that all ranks have in common."""
        return any(np.may_share_memory(array, one) for one in self._shared)

    def _checked(self, parts: list[slice] | None, array: np.ndarray) -> list[slice]:
        if parts is None:
            return [share(len(array), rank, self.size) for rank in range(self.size)]
        ends = [0, *(part.stop for part in parts)]
        if len(parts) != self.size or [part.start for part in parts] != ends[:-1] or ends[-1] != len(array):
            raise ValueError(f"{parts} do not cut {len(array)} rows into a part for each of {self.size} ranks in turn")
        return parts
