"""Which kind of ranks shares the work of a run: threads, forked processes, or MPI's where it has started them."""

import os
import sys

from tinytensor.distributed import Communicator
from tinytensor.processes import Processes, available
from tinytensor.threads import Threads

STARTED = "TINYTENSOR_RANKS"  # in the environment of MPI's rank 0: how many there are
KINDS = ("auto", "threads", "processes")


def choose_kind(kind: str, workers: int) -> str:
    """"auto" becomes processes where the system has them, threads elsewhere and for a single worker."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of worker {kind!r}; choose from {', '.join(KINDS)}")
    if kind == "processes" and sys.platform != "linux":
        raise ValueError("worker processes need Linux; use --worker-kind threads")
    if kind == "auto":
        return "processes" if workers > 1 and available() else "threads"
    return kind


def communicator(kind: str, workers: int) -> Communicator:
    """What `workers` workers of a kind will meet with."""
    return (Processes if choose_kind(kind, workers) == "processes" else Threads)(workers)


def of_a_training(kind: str, workers: int, device: str) -> Communicator:
    """The same, but MPI's ranks where there are some, one GPU to each if they compute there."""
    if STARTED not in os.environ:
        return communicator(kind, workers)
    if device == "cuda":
        from tinytensor.nccl import GPUs

        return GPUs()
    from tinytensor.mpi import Ranks  # here, as most runs have no MPI

    return Ranks()
