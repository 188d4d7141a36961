"""Workers: N of them compute what one does, and when one dies all end with a clear sentence."""

import dataclasses
import os
import signal
import sys

import numpy as np
import pytest

import tinytensor as tt
from models import GPT, GPTConfig
from tinytensor.distributed import share
from tinytensor.processes import WorkerDied
from tinytensor.workers import choose_kind, communicator
from train.optim import FlatParameters
from train.trainer import replica

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes need Linux")
KINDS = ["threads", pytest.param("processes", marks=linux)]
CONFIG = GPTConfig(vocab_size=11, context=8, layers=2, heads=2, width=8)
EXPERTS = dataclasses.replace(CONFIG, experts=3, top=2, capacity=2, balance=0.5, z_loss=0.1, jitter=0.0)


def gradient_of(kind: str, workers: int, batch: dict, config: GPTConfig = CONFIG) -> np.ndarray:
    """The summed gradient of one batch, each worker having its share of the rows."""
    with tt.random.seeded(5):
        model = GPT(config)
    comm = communicator(kind, workers)
    flat = FlatParameters(model.parameters(), allocate=comm.shared)

    def work(comm):
        own_model, parameters = replica(model, flat.parameters)
        grad = comm.zeros(flat.size)
        flat.collect_gradients_in(grad, parameters)
        rows = share(len(batch["ids"]), comm.rank, comm.size)
        mine = {name: array[rows] for name, array in batch.items()}
        if len(mine["ids"]):
            own_model.loss(mine).backward(np.float32(len(mine["ids"]) / len(batch["ids"])))
        flat.complete_gradients(parameters)
        comm.reduce_scatter(grad)
        return comm.all_gather(grad).copy()

    return comm.run(work)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workers", [2, 3, 5, 7])
def test_any_number_of_workers_finds_the_gradient_that_one_finds(kind, workers):
    draw = np.random.default_rng(0)
    batch = {"ids": draw.integers(0, 11, (6, 8)), "targets": draw.integers(0, 11, (6, 8))}
    one = gradient_of("threads", 1, batch)
    np.testing.assert_allclose(gradient_of(kind, workers, batch), one, rtol=1e-4, atol=1e-7)  # float32 sums


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_balance_experts_as_one_does_and_drop_the_same_tokens(workers):
    draw = np.random.default_rng(0)
    batch = {"ids": draw.integers(0, 11, (6, 8)), "targets": draw.integers(0, 11, (6, 8))}
    one = gradient_of("threads", 1, batch, EXPERTS)
    np.testing.assert_allclose(gradient_of("threads", workers, batch, EXPERTS), one, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_an_error_in_any_worker_ends_all_and_is_passed_on(kind, rank):
    def work(comm):
        comm.barrier()
        if comm.rank == rank:
            raise ValueError("no such luck")
        comm.barrier()

    with pytest.raises((ValueError, WorkerDied), match="no such luck"):
        communicator(kind, 3).run(work)


@linux
def test_a_killed_worker_is_reported_and_no_other_is_left_behind():
    comm = communicator("processes", 3)
    pids = comm.shared(3, np.int64)

    def work(comm):
        pids[comm.rank] = os.getpid()
        comm.barrier()
        if comm.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        comm.barrier()

    with pytest.raises(WorkerDied, match=r"worker 1 \(process \d+\) was killed by signal 9"):
        comm.run(work)
    for pid in pids[1:]:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_an_unknown_kind_of_worker_is_named():
    with pytest.raises(ValueError, match="unknown kind of worker 'fibers'"):
        choose_kind("fibers", 2)
