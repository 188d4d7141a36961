"""Workers: the same training loop run by several threads or processes, each on its share of every batch.

The kernels use one core each; all cores are used by cutting the batch instead. Every worker runs the whole loop. Three
times in a step the workers meet: to know that all gradients are there, to know the sum of a few numbers (the loss, the
squared length of the gradient), and to know that all parameters are updated. In between, each sums and updates its own
stretch of the flat arrays: a reduce-scatter and an all-gather, which between processes on one machine are additions in
shared memory, and between machines would be MPI's or NCCL's calls of those names.

Threads share one interpreter, which only one of them can run Python code in at a time. Forked processes do not have
that limit and are faster for small models; they need a system with fork (Linux).
"""

from __future__ import annotations

import contextlib
import copy
import ctypes
import mmap
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable

import numpy as np
import threadpoolctl

from tinytensor import backend

KINDS = ("auto", "threads", "processes")
SPINS = 2000  # attempts before a waiting process lets the system put it to sleep
PATIENCE = 0.2  # seconds of sleep between looks at whether the others still live
NUMBERS = 8  # how many numbers can be summed at once


class WorkerDied(RuntimeError):
    """A worker process ended before its work did."""


def core_count() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_kind(kind: str, workers: int) -> str:
    """"auto" becomes processes where the system can fork safely, threads elsewhere and for a single worker."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of worker {kind!r}; choose from {', '.join(KINDS)}")
    if kind == "processes" and not hasattr(os, "fork"):
        raise ValueError("worker processes need a system that can fork; use --worker-kind threads")
    if kind == "auto":
        return "processes" if workers > 1 and sys.platform == "linux" else "threads"
    return kind


def shared_zeros(n: int, dtype=np.float32) -> np.ndarray:
    """An array of zeros that forked processes see each other's changes of."""
    dtype = np.dtype(dtype)
    return np.frombuffer(mmap.mmap(-1, max(1, n * dtype.itemsize)), dtype, n)


@contextlib.contextmanager
def blas_threads(n: int | None):
    """Inside this block matrix products use n threads (None: as many as before). Workers use one each."""
    with threadpoolctl.threadpool_limits(n, user_api="blas"):
        yield


class Team:
    """One worker's view of all of them: its rank (0 leads), their number, and the ways to meet."""

    def __init__(self, rank: int, size: int, gradients: list, numbers: np.ndarray, meet: Callable[[int], None]):
        self.rank, self.size = rank, size
        self.gradients = gradients  # the flat gradient arrays of all workers
        self._numbers = numbers  # (2, size, NUMBERS)
        self._turn = 0
        self._meet = meet

    def barrier(self) -> None:
        """Wait until every worker is here."""
        self._meet(self.rank)

    def sum(self, *values: float) -> list[float]:
        """The sums of each of the values over all workers, the same to the last bit for all of them."""
        if self.size == 1:
            return list(values)
        # Two sets of places in turn: nobody can write the next numbers over some that are still being read, because
        # the same set comes up again only after another meeting.
        places = self._numbers[self._turn]
        self._turn = 1 - self._turn
        places[self.rank, : len(values)] = values
        self.barrier()
        return places[:, : len(values)].sum(axis=0).tolist()

    def stretch(self, n: int) -> slice:
        """This worker's share of n things in a row."""
        return share(n, self.rank, self.size)

    def replica(self, model, parameters: list):
        """(model, parameters): the real ones for the leader, for others copies with the same data and own gradients."""
        if self.rank == 0:
            return model, parameters
        shared = {id(p.data): p.data for p in model.parameters()}
        for p in parameters:
            p_place = p.gradient_place
            shared[id(p_place)] = p_place
        return copy.deepcopy((model, parameters), shared)


def share(n: int, rank: int, size: int) -> slice:
    """The part of n things in a row that worker `rank` of `size` has; together the parts are all of them."""
    return slice(n * rank // size, n * (rank + 1) // size)


def sum_gradients(gradients: list, total, place: slice) -> float:
    """Add up one stretch of all workers' gradients into `total` (one of them); returns the squared length there.

    Block by block, so that the squares are taken while the sums are in the cache.
    """
    kernels = backend.backend_of(total)
    if backend.device_of(total) == "cuda":  # a single worker, and one wait for the GPU
        return float(kernels.squared_norm(total[place]))
    others = [g for g in gradients if g is not total]
    squared = 0.0
    for start in range(place.start, place.stop, 1 << 17):
        block = slice(start, min(start + (1 << 17), place.stop))
        for other in others:
            total[block] += other[block]
        squared += kernels.squared_norm(total[block])
    return squared


def run(kind: str, size: int, gradients: list, work: Callable[[Team], object]):
    """Run `work(team)` in `size` workers at once; returns what the leader's call returned.

    kind: "threads" or "processes". If any worker fails, all end, and its error is raised here.
    """
    with blas_threads(1):
        return (_run_processes if kind == "processes" else _run_threads)(size, gradients, work)


def _run_threads(size: int, gradients: list, work: Callable[[Team], object]):
    numbers = np.zeros((2, size, NUMBERS))
    barrier = threading.Barrier(size)
    errors: list[BaseException] = []

    def meet(rank: int) -> None:
        barrier.wait()

    def guarded(rank: int):
        try:
            return work(Team(rank, size, gradients, numbers, meet))
        except threading.BrokenBarrierError:
            pass  # another worker failed; its error is in the list
        except BaseException as error:
            errors.append(error)
            barrier.abort()

    others = [threading.Thread(target=guarded, args=(rank,), daemon=True) for rank in range(1, size)]
    for thread in others:
        thread.start()
    result = guarded(0)
    for thread in others:
        thread.join()
    if errors:
        raise errors[0]
    return result


def _run_processes(size: int, gradients: list, work: Callable[[Team], object]):
    numbers = shared_zeros(2 * size * NUMBERS, np.float64).reshape(2, size, NUMBERS)
    fork = multiprocessing.get_context("fork")
    arrived = fork.Semaphore(0)
    released = [fork.Semaphore(0) for _ in range(size)]
    parent = os.getpid()
    children: dict[int, int] = {}  # process id -> rank
    words, pen = os.pipe()  # a failing worker's last words

    def look_after_children() -> None:
        for pid, rank in list(children.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del children[pid]
                raise _obituary(pid, rank, status, words)

    def look_after_parent() -> None:
        if os.getppid() != parent:
            os._exit(1)

    def meet(rank: int) -> None:
        if rank == 0:
            for _ in range(size - 1):
                _acquire(arrived, look_after_children)
            for semaphore in released[1:]:
                semaphore.release()
        else:
            arrived.release()
            _acquire(released[rank], look_after_parent)

    def child(rank: int) -> None:
        status = 1
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # the leader decides when to stop, and tells the others
            _die_with_parent()
            with blas_threads(1):  # forking restores the library's own number of threads
                work(Team(rank, size, gradients, numbers, meet))
            status = 0
        except BaseException as error:
            os.write(pen, f"{type(error).__name__}: {error}".encode()[:4000])
        finally:
            os._exit(status)

    sys.stdout.flush()
    sys.stderr.flush()
    try:
        for rank in range(1, size):
            pid = os.fork()
            if pid == 0:
                child(rank)
            children[pid] = rank
        return work(Team(0, size, gradients, numbers, meet))
    finally:
        leader_failed = sys.exc_info()[0] is not None
        for pid in children:
            if leader_failed:
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(words)
        os.close(pen)


def _acquire(semaphore, look_around: Callable[[], None]) -> None:
    """Take from a semaphore: at first by trying again and again, which answers within a microsecond, then asleep."""
    for _ in range(SPINS):
        if semaphore.acquire(False):
            return
    while not semaphore.acquire(timeout=PATIENCE):
        look_around()


def _obituary(pid: int, rank: int, status: int, words: int) -> Exception:
    """What to say of a worker that is gone: its own last words, or what the system knows."""
    os.set_blocking(words, False)
    try:
        return WorkerDied(f"worker {rank} failed: {os.read(words, 4000).decode(errors='replace')}")
    except BlockingIOError:
        pass
    code = os.waitstatus_to_exitcode(status)
    how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    return WorkerDied(f"worker {rank} (process {pid}) {how}")


def _die_with_parent() -> None:
    """Ask Linux to end this process when its parent ends, however that happens."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG
