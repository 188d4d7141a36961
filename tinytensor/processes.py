"""Ranks that are processes, forked on one machine: they compute at once where threads share one Python interpreter.

They see each other's arrays in a file that lies in memory, with an equally long row for each, and meet at semaphores
there. If one fails or dies all end, and the error says which one and why. They need Linux.
"""

import contextlib
import ctypes
import mmap
import os
import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterator

import numpy as np

from tinytensor.distributed import Communicator, blas_threads
from tinytensor.threads import Neighbours

CALL = 128  # letters at the beginning of a row that say what its rank calls; then 8 bytes, where its array lies
SEMAPHORES, SEMAPHORE = 1024, 32  # the byte of a row at which those begin that its rank waits at, and the size of one
SPINS = 300  # attempts before a waiting process lets the system put it to sleep
PATIENCE = 0.2  # seconds of sleep between looks at whether the others still live

if sys.platform == "linux":
    LIBC, QUICK = ctypes.CDLL(None), ctypes.PyDLL(None)  # QUICK does not let other threads run meanwhile
    LIBC.sem_init.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_uint]
    LIBC.sem_timedwait.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    QUICK.sem_post.argtypes = QUICK.sem_trywait.argtypes = [ctypes.c_void_p]


def available() -> bool:
    """Whether this system can fork safely and sets no limit on addresses (ulimit -v), of which Processes take many."""
    if sys.platform != "linux":
        return False
    import resource

    return resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


class WorkerDied(RuntimeError):
    """A process ended before its work did."""


class Processes(Neighbours):
    """Forked processes of one machine. What `zeros` gives lies in each one's row.

    A row is as long as the machine's memory; only what is written to is really taken.
    """

    kind = "processes"

    def __init__(self, size: int):
        super().__init__(size)
        self._children: dict[int, int] = {}  # those that the leader looks after: process id -> rank
        self._map(os.memfd_create("tinytensor"), os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE)

    def _map(self, file: int, length: int) -> None:
        """See the memory that is an open file, with rows of so many bytes."""
        try:
            os.ftruncate(file, self.size * length)
            self._memory = mmap.mmap(file, self.size * length)
        except OSError as error:  # such as a limit on addresses, ulimit -v
            os.close(file)
            raise ValueError(f"processes cannot share memory ({error.strerror}); use --worker-kind threads") from None
        self._file = file
        weakref.finalize(self._memory, os.close, file)
        self._rows = np.frombuffer(self._memory, np.uint8).reshape(self.size, length)
        self._calls = self._rows[:, : 4 * CALL].view(f"U{CALL}")[:, 0]
        self._places = self._rows[:, 4 * CALL : 4 * CALL + 8].view(np.int64)[:, 0]
        self._begin = _pages(SEMAPHORES + SEMAPHORE * self.size)  # where in the rows what `zeros` gave begins
        self._ends = [self._begin]  # and where it ends in this rank's, for all its groups

    def zeros(self, n: int, dtype=np.float32) -> np.ndarray:
        array = np.ndarray(n, dtype, self._rows[self._members[self.rank]], self._ends[0])
        array[...] = 0
        self._ends[0] += _pages(array.nbytes)
        return array

    @contextlib.contextmanager
    def _everyones(self, what: str, array: np.ndarray, parts: list | None = None) -> Iterator[list[np.ndarray]]:
        own, of = self._members[self.rank], lambda m: np.ndarray(array.shape, array.dtype, self._rows[m], places[m])
        places, place = self._places, array.ctypes.data - self._rows[own].ctypes.data
        copied = not self._begin <= place < self._ends[0]
        places[own] = self._ends[0] if copied else place
        if copied:
            part = parts[self.rank] if parts else ...
            of(own)[part] = array[part]
        self._meet(what, array)
        yield [of(member) for member in self._members]
        self.barrier()
        if copied and array.nbytes > mmap.PAGESIZE:
            self._give_back(own, self._ends[0])

    def _give_back(self, rank: int, start: int) -> None:
        """The memory of a rank's row from `start` on, which holds nothing that is still needed."""
        length = self._rows.shape[1]
        self._memory.madvise(mmap.MADV_REMOVE, rank * length + start, length - start)

    def barrier(self) -> None:
        leader, *others = self._members
        if self.rank == 0:
            for other in others:
                self._wait_for(other)
            for other in others:
                self._wake(other)
        else:
            self._wake(leader)
            self._wait_for(leader)

    def _semaphore(self, waiting: int, waking: int) -> int:
        """The address of the semaphore at which one rank waits for another. Any two have theirs: so those that are in
        several groups together need no more, as they come to the same meetings in the same order."""
        return self._rows.ctypes.data + waiting * self._rows.shape[1] + SEMAPHORES + SEMAPHORE * waking

    def _close_semaphores(self) -> None:
        for waiting in range(self.size):
            for waking in range(self.size):
                LIBC.sem_init(self._semaphore(waiting, waking), 1, 0)  # 1: other processes see it

    def _wake(self, rank: int) -> None:
        QUICK.sem_post(self._semaphore(rank, self._members[self.rank]))

    def _wait_for(self, rank: int) -> None:
        """Until it wakes us: at first by trying again and again, which answers in a microsecond, then asleep."""
        semaphore = self._semaphore(self._members[self.rank], rank)
        for _ in range(SPINS):
            if QUICK.sem_trywait(semaphore) == 0:
                return
        while LIBC.sem_timedwait(semaphore, _in_seconds(PATIENCE)):
            self._look_around()

    def _look_around(self) -> None:
        """WorkerDied if another rank is gone."""
        for pid, rank in list(self._children.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._children[pid]
                raise _obituary(pid, rank, status, self._words)

    def run(self, work: Callable[[Communicator], object]):
        """This process is rank 0, and the parent of the others."""
        self._close_semaphores()
        self._begin = self._ends[0]  # what was given until now is shared
        leader, *others = self._ranks()
        parent, children = os.getpid(), {}
        words, pen = os.pipe()  # a failing rank's last words
        leader._children, leader._words = children, words
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            for comm in others:
                pid = os.fork()
                if pid == 0:
                    _be_child(comm, work, parent, pen)
                children[pid] = comm.rank
            with blas_threads(1):
                return work(leader)
        finally:
            leader_failed = sys.exc_info()[0] is not None
            for pid in children:
                if leader_failed:
                    os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            for comm in others:
                self._give_back(comm.rank, self._begin)
            self._ends[0] = self._begin
            os.close(words)
            os.close(pen)


def _be_child(comm: Processes, work: Callable[[Communicator], object], parent: int, pen: int) -> None:
    """Do the work of one rank in a process that was just forked, and end it."""
    status = 1
    try:
        leave_stopping_to_the_leader()
        end_with_parent()
        if os.getppid() == parent:  # it has not ended before
            with blas_threads(1):  # once more: forking restores the library's own number of threads
                work(comm)
            status = 0
    except BaseException as error:
        os.write(pen, f"{type(error).__name__}: {error}".encode()[:4000])
    finally:
        os._exit(status)


def leave_stopping_to_the_leader() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it decides when to stop, and tells the others


def end_with_parent(number: int = signal.SIGKILL) -> None:
    """Let Linux send this process a signal when its parent ends, in any way."""
    with contextlib.suppress(OSError, AttributeError):
        LIBC.prctl(1, number)  # 1 is PR_SET_PDEATHSIG


def _pages(n: int) -> int:
    """So many bytes, up to the end of a page."""
    return -(-n // mmap.PAGESIZE) * mmap.PAGESIZE


def _in_seconds(seconds: float):
    """A time as sem_timedwait takes it: two numbers, seconds and nanoseconds."""
    end = time.time() + seconds
    return (ctypes.c_long * 2)(int(end), int(end % 1 * 1e9))


def _obituary(pid: int, rank: int, status: int, words: int) -> WorkerDied:
    """What to say of a rank that is gone: its own last words, or what the system knows."""
    os.set_blocking(words, False)
    try:
        return WorkerDied(f"worker {rank} failed: {os.read(words, 4000).decode(errors='replace')}")
    except BlockingIOError:
        pass
    code = os.waitstatus_to_exitcode(status)
    how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    return WorkerDied(f"worker {rank} (process {pid}) {how}")
