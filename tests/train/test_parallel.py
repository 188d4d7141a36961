"""Workers: N of them compute what one does, and when one dies all end with a clear sentence."""

import os
import signal

import numpy as np
import pytest

import tinytensor as tt
from models import GPT, GPTConfig
from train import parallel
from train.optim import AdamW

KINDS = ["threads", pytest.param("processes", marks=pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"))]
CONFIG = GPTConfig(vocab_size=11, context=8, layers=2, heads=2, width=8)


def gradient_of(kind: str, workers: int, batch: dict) -> np.ndarray:
    """The summed gradient of one batch, each worker having its share of the rows."""
    with tt.random.seeded(5):
        model = GPT(CONFIG)
    optimizer = AdamW(model.parameters(), allocate=parallel.shared_zeros if kind == "processes" else None)
    flat = optimizer.flat
    gradients = [flat.grad, *(flat.allocate(flat.size) for _ in range(workers - 1))]

    def work(team):
        replica, parameters = team.replica(model, flat.parameters)
        flat.collect_gradients_in(team.gradients[team.rank], parameters)
        rows = team.stretch(len(batch["ids"]))
        mine = {name: array[rows] for name, array in batch.items()}
        if len(mine["ids"]):
            replica.loss(mine).backward(np.float32(len(mine["ids"]) / len(batch["ids"])))
        flat.complete_gradients(parameters)
        team.barrier()
        stretch = team.stretch(flat.size)
        parallel.sum_gradients(team.gradients, team.gradients[team.rank], stretch)
        flat.data[stretch] = team.gradients[team.rank][stretch]  # into the one array that all share
        team.barrier()

    parallel.run(kind, workers, gradients, work)
    return flat.data.copy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workers", [2, 3, 5, 7])
def test_any_number_of_workers_finds_the_gradient_that_one_finds(kind, workers):
    draw = np.random.default_rng(0)
    batch = {"ids": draw.integers(0, 11, (6, 8)), "targets": draw.integers(0, 11, (6, 8))}
    one = gradient_of("threads", 1, batch)
    np.testing.assert_allclose(gradient_of(kind, workers, batch), one, rtol=1e-4, atol=1e-7)  # float32 sums


@pytest.mark.parametrize("kind", KINDS)
def test_sums_are_over_all_workers_and_equal_for_all(kind):
    results = parallel.shared_zeros(3 * 50, np.float64).reshape(3, 50)

    def work(team):
        for turn in range(50):
            a, b = team.sum(team.rank + turn, 1.0)
            results[team.rank, turn] = a + 1000 * b

    parallel.run(kind, 3, [], work)
    assert (results == 3 + 3 * np.arange(50) + 3000).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_an_error_in_any_worker_ends_all_and_is_passed_on(kind, rank):
    def work(team):
        team.barrier()
        if team.rank == rank:
            raise ValueError("no such luck")
        team.barrier()

    with pytest.raises((ValueError, parallel.WorkerDied), match="no such luck"):
        parallel.run(kind, 3, [], work)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_worker_is_reported_and_no_other_is_left_behind():
    pids = parallel.shared_zeros(3, np.float64)

    def work(team):
        pids[team.rank] = os.getpid()
        team.barrier()
        if team.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        team.barrier()

    with pytest.raises(parallel.WorkerDied, match=r"worker 1 \(process \d+\) was killed by signal 9"):
        parallel.run("processes", 3, [], work)
    for pid in pids[1:]:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


def test_shares_cover_everything_once_whether_or_not_they_divide():
    for n in range(20):
        for size in range(1, 8):
            teams = [parallel.Team(rank, size, [], np.zeros((2, size, 1)), lambda rank: None) for rank in range(size)]
            covered = [i for team in teams for i in range(n)[team.stretch(n)]]
            assert covered == list(range(n))


def test_an_unknown_kind_of_worker_is_named():
    with pytest.raises(ValueError, match="unknown kind of worker 'fibers'"):
        parallel.choose_kind("fibers", 2)
