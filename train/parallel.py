"""Workers: the same work done by several threads or forked processes at once, each with a Communicator.

The kernels use one core each; all cores are used by cutting the batch instead. Every worker runs the whole training
loop on its share of the rows, and meets the others in the collectives of tinytensor/distributed.py. Here the workers
are started and watched: if one fails or dies, all end, and the error says which one and why.

Threads share one interpreter, which only one of them can run Python code in at a time. Forked processes do not have
that limit and are faster for small models; they need Linux.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable

import threadpoolctl

from tinytensor.distributed import Communicator, OneMachine, Processes, Threads

KINDS = ("auto", "threads", "processes")


class WorkerDied(RuntimeError):
    """A worker process ended before its work did."""


def choose_kind(kind: str, workers: int) -> str:
    """"auto" becomes processes where the system can fork safely, threads elsewhere and for a single worker."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of worker {kind!r}; choose from {', '.join(KINDS)}")
    if kind == "processes" and sys.platform != "linux":
        raise ValueError("worker processes need Linux; use --worker-kind threads")
    if kind == "auto":
        return "processes" if workers > 1 and sys.platform == "linux" else "threads"
    return kind


def communicator(kind: str, workers: int) -> OneMachine:
    """What `workers` workers of a kind will meet with."""
    return (Processes if choose_kind(kind, workers) == "processes" else Threads)(workers)


@contextlib.contextmanager
def blas_threads(n: int | None):
    """Inside this block matrix products use n threads (None: as many as before). Workers use one each."""
    with threadpoolctl.threadpool_limits(n, user_api="blas"):
        yield


def start_workers(comm: OneMachine, work: Callable[[Communicator], object]):
    """Run `work` in comm.size workers at once, each with its own rank's communicator; returns what rank 0's returned.

    If any worker fails, all end, and its error is raised here.
    """
    with blas_threads(1):
        return _in_processes(comm.ranks(), work) if isinstance(comm, Processes) else _in_threads(comm.ranks(), work)


def _in_threads(ranks: list[Threads], work: Callable[[Communicator], object]):
    errors: list[BaseException] = []

    def guarded(comm: Threads):
        try:
            return work(comm)
        except threading.BrokenBarrierError:
            pass  # another worker failed; its error is in the list
        except BaseException as error:
            errors.append(error)
            comm.abort()

    others = [threading.Thread(target=guarded, args=(comm,), daemon=True) for comm in ranks[1:]]
    for thread in others:
        thread.start()
    result = guarded(ranks[0])
    for thread in others:
        thread.join()
    if errors:
        raise errors[0]
    return result


def _in_processes(ranks: list[Processes], work: Callable[[Communicator], object]):
    """This process is rank 0, and the parent of the others."""
    leader, parent = ranks[0], os.getpid()
    children: dict[int, int] = {}  # process id -> rank
    words, pen = os.pipe()  # a failing worker's last words

    def look_after_children() -> None:
        for pid, rank in list(children.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del children[pid]
                raise _obituary(pid, rank, status, words)

    leader.watch = look_after_children
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        for comm in ranks[1:]:
            pid = os.fork()
            if pid == 0:
                _be_child(comm, work, parent, pen)
            children[pid] = comm.rank
        return work(leader)
    finally:
        leader_failed = sys.exc_info()[0] is not None
        for pid in children:
            if leader_failed:
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(words)
        os.close(pen)


def _be_child(comm: Processes, work: Callable[[Communicator], object], parent: int, pen: int) -> None:
    """Do the work of one rank in a process that was just forked, and end it."""

    def look_after_parent() -> None:
        if os.getppid() != parent:
            os._exit(1)

    status = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # the leader decides when to stop, and tells the others
        _die_with_parent()
        comm.watch = look_after_parent
        with blas_threads(1):  # forking restores the library's own number of threads
            work(comm)
        status = 0
    except BaseException as error:
        os.write(pen, f"{type(error).__name__}: {error}".encode()[:4000])
    finally:
        os._exit(status)


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
