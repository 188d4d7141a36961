"""Ranks that are processes, forked on one machine: they compute at once where threads share one Python interpreter.

They meet at semaphores and see each other's arrays in a file that lies in memory, with an equally long row for each.
If one fails or dies all end, and the error says which one and why. They need Linux.
"""

import contextlib
import ctypes
import mmap
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator

import numpy as np

from tinytensor.distributed import Communicator, blas_threads
from tinytensor.threads import Neighbours

CALL = 128  # letters at the beginning of a row that say what its rank calls; then 8 bytes, where its array lies
SPLITS = 4  # how often ranks can split into groups in a run
SPINS = 2000  # attempts before a waiting process lets the system put it to sleep
PATIENCE = 0.2  # seconds of sleep between looks at whether the others still live


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

    def __init__(self, size: int):
        super().__init__(size)
        self._children: dict[int, int] = {}  # those that the leader looks after: process id -> rank
        length = os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE
        file = os.memfd_create("tinytensor")
        try:
            os.ftruncate(file, size * length)
            self._memory = mmap.mmap(file, size * length)
        except OSError as error:  # such as a limit on addresses, ulimit -v
            raise ValueError(f"processes cannot share memory ({error.strerror}); use --worker-kind threads") from None
        finally:
            os.close(file)
        self._rows = np.frombuffer(self._memory, np.uint8).reshape(size, length)
        self._calls = self._rows[:, : 4 * CALL].view(f"U{CALL}")[:, 0]
        self._places = self._rows[:, 4 * CALL : 4 * CALL + 8].view(np.int64)[:, 0]
        self._begin = mmap.PAGESIZE  # where what `zeros` gave to the ranks begins in their rows
        self._ends = [self._begin]  # and where it ends in this rank's, for all its groups

    def zeros(self, n: int, dtype=np.float32) -> np.ndarray:
        array = np.ndarray(n, dtype, self._rows[self._members[self.rank]], self._ends[0])
        array[...] = 0
        self._ends[0] += -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        return array

    @contextlib.contextmanager
    def _everyones(self, what: str, array: np.ndarray, part=...) -> Iterator[list[np.ndarray]]:
        own, of = self._members[self.rank], lambda m: np.ndarray(array.shape, array.dtype, self._rows[m], places[m])
        places, place = self._places, array.ctypes.data - self._rows[own].ctypes.data
        copied = not self._begin <= place < self._ends[0]
        places[own] = self._ends[0] if copied else place
        if copied:
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

    def _set_up_barrier(self) -> None:
        if not self._spare:
            raise ValueError(f"processes can split into groups no more than {SPLITS} times in a run")
        arrived, released = self._spare.pop()
        self._arrived, self._released = arrived[self._members[0]], [released[member] for member in self._members]

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
            for pid, rank in list(self._children.items()):
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    del self._children[pid]
                    raise _obituary(pid, rank, status, self._words)

    def run(self, work: Callable[[Communicator], object]):
        """This process is rank 0, and the parent of the others."""
        fork = multiprocessing.get_context("fork")
        closed = lambda: [fork.Semaphore(0) for _ in range(self.size)]
        self._arrived, self._released = fork.Semaphore(0), closed()
        self._spare = [(closed(), closed()) for _ in range(SPLITS)]
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
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the leader decides when to stop, and tells the others
        with contextlib.suppress(OSError, AttributeError):  # Linux ends this process when its parent ends, in any way
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG
        if os.getppid() == parent:  # it has not ended before
            with blas_threads(1):  # once more: forking restores the library's own number of threads
                work(comm)
            status = 0
    except BaseException as error:
        os.write(pen, f"{type(error).__name__}: {error}".encode()[:4000])
    finally:
        os._exit(status)


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
