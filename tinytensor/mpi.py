"""Ranks that MPI has started, on one machine or on several. mpi4py is imported here and nowhere else.

Rank 0 leads: it alone runs the user's command. The others `follow`: whenever the leader calls `run` they get a copy of
the work, as forked processes would have it, do it, and wait for more.

On one machine they share memory and meet as forked processes do, which is faster than any message, and gives the same
bits; MPI only brings them together. Between machines it carries arrays: each rank has a counterpart on every other
machine, which alone hears from it, and writes what it hears into the memory of its machine. So gradients are summed
within machines first, and every sum crosses the network once.
"""

import contextlib
import functools
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator

import numpy as np
from mpi4py import MPI

from tinytensor.distributed import Communicator, blas_threads
from tinytensor.processes import CALL, PATIENCE, SPINS, Processes, WorkerDied, leave_stopping_to_the_leader
from tinytensor.travel import pack, unpack

COMMAND, NEWS, WAKE, ARRAY = 1, 2, 3, 4  # what messages are about
IDLE = 0.002  # seconds of sleep between two looks for a message
LAST = 10  # seconds until a rank that nobody listens to ends all
PRETEND = "TINYTENSOR_MACHINES"  # for tests: the number of the machine that each rank is to think it is on: 0,0,1


class Stopped(Exception):
    """The leader has given up what this rank takes part in."""


def world() -> MPI.Intracomm:
    return MPI.COMM_WORLD


def check_world(size: int) -> None:
    """ValueError unless MPI knows of as many ranks as the launcher's variables say."""
    if (found := world().size) != size:
        library = MPI.Get_library_version().partition("\n")[0].strip("\0 \t")
        wrong = f"the launcher has started {size} ranks, but for MPI ({library}) there are {found}"
        beside = os.path.join(os.path.dirname(sys.executable), "mpiexec")
        raise ValueError(f"{wrong}: it belongs to another MPI; start them with {beside}, or srun with a fitting --mpi")


def follow() -> int:
    """What ranks other than 0 do all the time. Returns the exit status."""
    leave_stopping_to_the_leader()
    try:
        while True:
            while not world().iprobe(0, COMMAND):
                time.sleep(IDLE)
            told = world().recv(None, 0, COMMAND)
            if told is None:
                _part()
                return 0
            kind, *how = told
            kind().follow(*how)
    except BaseException:
        traceback.print_exc()
        world().Abort(1)


def dismiss(status: int) -> None:
    """The end of rank 0's command: the others go home."""
    for rank in range(1, world().size):
        world().send(None, rank, COMMAND)
    if not _part():
        world().Abort(status or 1)


def _part() -> bool:
    """Whether all have come here within a few seconds."""
    meeting, end = world().Ibarrier(), time.monotonic() + LAST
    while not (met := meeting.Test()) and time.monotonic() < end:
        time.sleep(IDLE)
    while world().iprobe(tag=NEWS):
        world().recv(tag=NEWS)  # that nobody had to hear any more
    if met:
        MPI.Finalize()  # from here on a status other than 0 is no reason to abort
    return met


class Ranks(Processes):
    """MPI's ranks.

    _machines: the machine of each of all ranks; _homes: the ranks of this group machine by machine, this one's first.
    """

    kind = "MPI ranks"

    def __init__(self):
        super().__init__(world().size)
        self.rank, self._first = world().rank, self._begin
        self._work = 0  # a number of the work that is being done

    def run(self, work: Callable[[Communicator], object]):
        """To be called by rank 0, while the others follow."""
        begin = self._begin = self._ends[0]  # what was given until now is shared
        packed = pack(work, self, self._place_of)
        self._work = time.monotonic_ns()
        for rank in range(1, self.size):
            world().send((type(self), self._work, self._rows.shape[1], begin), rank, COMMAND)
        self._join(begin)
        world().bcast(packed)
        try:
            with blas_threads(1):
                result = work(self)
            self.barrier()
            self._network.Free()
            return result
        except BaseException:
            self._tell(range(1, self.size), "")
            raise
        finally:
            self._ends[0] = begin

    def follow(self, work: int, length: int, begin: int) -> None:
        """Take part in the leader's work.   length: of its rows; begin: where what is shared ends in them."""
        self._work = work
        self._join(begin, length)
        packed = world().bcast(None)
        try:
            with blas_threads(1):
                unpack(packed, self, self._memory)(self)
                self.barrier()
                self._network.Free()
        except (Stopped, WorkerDied):
            pass
        except BaseException as error:
            self._tell([0], f"{type(error).__name__}: {error}")
            with contextlib.suppress(Stopped):
                self._until(lambda: False, LAST)
                traceback.print_exception(error)
                world().Abort(1)
        finally:
            self._give_back(self.rank, begin)

    def _join(self, begin: int, length: int = 0) -> None:
        """Find out who is on which machine, and see its memory, that of its first rank."""
        pretended = os.environ.get(PRETEND)
        near = world().Split(int(pretended.split(",")[self.rank])) if pretended else None
        near = near or world().Split_type(MPI.COMM_TYPE_SHARED)
        if self.rank and near.rank == 0:
            self._map(os.memfd_create("tinytensor"), length)
        pid, file = near.bcast((os.getpid(), self._file))
        if near.rank:
            self._map(os.open(f"/proc/{pid}/fd/{file}", os.O_RDWR), length)
        else:
            self._close_semaphores()
        self._machines = world().allgather(near.bcast(self.rank))
        self._begin, self._ends = begin, [begin]
        self._set_up_barrier()
        self._shared = [self._rows[0, self._first : begin]]
        firsts = world().Split(near.rank == 0)
        if near.rank == 0:  # all machines begin with what rank 0 has
            firsts.Bcast([self._shared[0], MPI.BYTE])
        self._network = world().Dup()  # its own, as messages of work that failed may be left in another
        near.Free()
        firsts.Free()

    def _set_up_barrier(self) -> None:
        homes: dict[int, list[int]] = {self._machines[self._members[self.rank]]: []}
        for rank, member in enumerate(self._members):
            homes.setdefault(self._machines[member], []).append(rank)
        self._homes = list(homes.values())

    def _place_of(self, array: np.ndarray) -> int | None:
        place = array.__array_interface__["data"][0] - self._rows.ctypes.data
        return place if 0 <= place < self._rows.nbytes else None

    def _tell(self, ranks, words: str) -> None:
        """The leader, why this rank fails; or the others, that the leader does."""
        for rank in ranks:
            world().send((self._work, self.rank, words), rank, NEWS)

    def _look_around(self) -> None:
        while world().iprobe(tag=NEWS):
            work, rank, words = world().recv(tag=NEWS)
            if work == self._work:
                raise WorkerDied(f"worker {rank} failed: {words}") if words else Stopped

    def _until(self, done: Callable[[], bool], seconds: float = float("inf")) -> None:
        """Wait until something is done: at first awake, then looking now and then."""
        for _ in range(SPINS):
            if done():
                return
        looked, end = 0.0, time.monotonic() + seconds
        while not done() and (now := time.monotonic()) < end:
            if now > looked + PATIENCE:
                self._look_around()
                looked = now
            time.sleep(IDLE / 20)

    # Between machines.

    def _elsewhere(self, member: int) -> bool:
        return self._machines[member] != self._machines[self._members[self.rank]]

    def _wake(self, rank: int) -> None:
        if self._elsewhere(rank):
            self._network.Send([b"", MPI.BYTE], rank, WAKE)
        else:
            super()._wake(rank)

    def _wait_for(self, rank: int) -> None:
        if self._elsewhere(rank):
            self._complete([self._network.Irecv([bytearray(), MPI.BYTE], rank, WAKE)], [])
        else:
            super()._wait_for(rank)

    def _counterparts(self, rank: int) -> list[int]:
        """Those that a rank has on the other machines; on its own it is itself."""
        place = next(home.index(rank) for home in self._homes if rank in home)
        return [home[place % len(home)] for home in self._homes if rank not in home]

    def _cross(self, given: list[np.ndarray]) -> None:
        """given: an array of each rank, as this machine has it. Fill in those of the ranks elsewhere."""
        away = [rank for home in self._homes[1:] for rank in home if self.rank in self._counterparts(rank)]
        self._exchange([(given[self.rank], to) for to in self._counterparts(self.rank)],
                       [(given[rank], rank) for rank in away])  # fmt: skip

    def _exchange(self, sent: list[tuple[np.ndarray, int]], received: list[tuple[np.ndarray, int]]) -> None:
        """Messages to and from ranks of this group: (array, rank)."""
        raw = lambda array: [array.reshape(-1).view(np.uint8), MPI.BYTE]
        network, members = self._network, self._members
        arriving = [network.Irecv(raw(array), members[rank], ARRAY) for array, rank in received if array.size]
        leaving = [network.Isend(raw(array), members[rank], ARRAY) for array, rank in sent if array.size]
        self._complete(arriving, leaving)

    def _complete(self, arriving: list[MPI.Request], leaving: list[MPI.Request]) -> None:
        try:
            self._until(lambda: MPI.Request.Testall(arriving + leaving))
        except BaseException:
            for request in arriving:  # what will not come any more
                request.Cancel()
                request.Wait()
            raise

    def _meet(self, what: str, array: np.ndarray) -> None:
        if len(self._homes) > 1:
            self._say(what, array)
            self._cross([self._rows[member, : 4 * CALL + 8] for member in self._members])
        super()._meet(what, array)

    @contextlib.contextmanager
    def _everyones(self, what: str, array: np.ndarray, parts: list | None = None) -> Iterator[list[np.ndarray]]:
        with super()._everyones(what, array, parts) as arrays:
            if len(self._homes) > 1:
                self._cross([each[part] for each, part in zip(arrays, parts or [...] * self.size)])
                self.barrier()
            yield arrays

    def reduce_scatter(self, array: np.ndarray, parts: list[slice] | None = None) -> np.ndarray:
        """Sums within the machine go to the ranks elsewhere that they are for."""
        if len(self._homes) == 1:
            return super().reduce_scatter(array, parts)
        parts = self._checked(parts, array)
        own = array[parts[self.rank]]
        with super()._everyones("reduce_scatter", array) as arrays:
            here = [arrays[rank] for rank in self._homes[0]]
            summed = lambda rank: functools.reduce(np.add, [each[parts[rank]] for each in here])
            away = [rank for home in self._homes[1:] for rank in home if self.rank in self._counterparts(rank)]
            arriving = [(np.empty_like(own), rank) for rank in self._counterparts(self.rank)]
            self._exchange([(np.ascontiguousarray(summed(rank)), rank) for rank in away], arriving)
            own[...] = functools.reduce(np.add, [each for each, _ in arriving], summed(self.rank))
        return own

    def all_gather(self, array: np.ndarray, parts: list[slice] | None = None) -> np.ndarray:
        if len(self._homes) > 1 and self._is_shared(array):
            self._cross([array[part] for part in self._checked(parts, array)])
        return super().all_gather(array, parts)

    def broadcast(self, array: np.ndarray, root: int = 0) -> np.ndarray:
        if len(self._homes) > 1 and self._is_shared(array):
            self.barrier()  # nobody is still reading it
            self._cross([array if rank == root else array[:0] for rank in range(self.size)])
        return super().broadcast(array, root)
