"""Workers: the same work done by several threads or forked processes at once, each with a Communicator.

The kernels use one core each; all cores are used by cutting the batch instead. Every worker runs the whole training
loop on its share of the rows, and meets the others in the collectives of tinytensor/distributed.py.

Threads share one interpreter, which only one of them can run Python code in at a time. Forked processes do not have
that limit and are faster for small models; they need Linux.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable

import threadpoolctl

from tinytensor.distributed import Communicator, Threads
from tinytensor.processes import Processes

KINDS = ("auto", "threads", "processes")


def choose_kind(kind: str, workers: int) -> str:
    """"auto" becomes processes where the system can fork safely, threads elsewhere and for a single worker."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of worker {kind!r}; choose from {', '.join(KINDS)}")
    if kind == "processes" and sys.platform != "linux":
        raise ValueError("worker processes need Linux; use --worker-kind threads")
    if kind == "auto":
        return "processes" if workers > 1 and sys.platform == "linux" else "threads"
    return kind


def communicator(kind: str, workers: int) -> Communicator:
    """What `workers` workers of a kind will meet with."""
    return (Processes if choose_kind(kind, workers) == "processes" else Threads)(workers)


@contextlib.contextmanager
def blas_threads(n: int | None):
    """Inside this block matrix products use n threads (None: as many as before). Workers use one each."""
    with threadpoolctl.threadpool_limits(n, user_api="blas"):
        yield


def start_workers(comm: Communicator, work: Callable[[Communicator], object]):
    """comm.run(work), each worker with one core for its matrix products."""

    def on_one_core(comm: Communicator):
        with blas_threads(1):  # once more, as forking restores the library's own number of threads
            return work(comm)

    with blas_threads(1):
        return comm.run(on_one_core)
