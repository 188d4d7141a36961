"""Collectives: over all kinds of ranks they give what NumPy gives when it has everybody's arrays.

Over MPI where these tests run at one of its ranks (tests/on_ranks.py, started by test_mpi.py).
"""

import os
import sys

import numpy as np
import pytest

from tinytensor.distributed import Communicator, share
from tinytensor.processes import Processes, WorkerDied
from tinytensor.threads import Threads
from tinytensor.workers import STARTED

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes need Linux")


def ranks(size: int):
    """MPI's, if there are so many."""
    from tinytensor import mpi

    if size != mpi.world().size:
        pytest.skip(f"there are {mpi.world().size} ranks")
    return mpi.Ranks()


KINDS = [ranks] if STARTED in os.environ else [Threads, pytest.param(Processes, marks=linux)]
SHAPES = [(1,), (7,), (13, 3), (0,), (4, 0), (5, 2, 3), (131_077,)]  # the last lies on many pages
CASES = [(shape, np.float32) for shape in SHAPES] + [((13, 3), dtype) for dtype in (np.float64, np.int64, np.float16)]


def array_of(rank: int, shape: tuple, dtype=np.float32) -> np.ndarray:
    """Small whole numbers, whose sums are exact in every type."""
    return np.random.default_rng([rank, *shape]).integers(-8, 8, shape).astype(dtype)


def everyones(kind, size: int, work, nbytes: int) -> list[np.ndarray]:
    """What work(comm) returned at each rank, as the bytes of its arrays one after the other."""
    comm = kind(size)
    answers = [comm.shared(nbytes, np.uint8) for _ in range(size)]

    def keep(comm):
        got = [np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in work(comm)]
        got = np.concatenate(got)
        answers[comm.rank][: got.size] = got
        for rank, answer in enumerate(answers):  # other machines have theirs
            comm.broadcast(answer, rank)

    comm.run(keep)
    return answers


def check(kind, size: int, work, expected: list[list[np.ndarray]]) -> None:
    """That work(comm) returns the arrays expected[rank] to every rank, to the last bit."""
    answers = everyones(kind, size, work, max(sum(array.nbytes for array in arrays) for arrays in expected))
    for answer, arrays in zip(answers, expected):
        for array in arrays:
            got, answer = np.split(answer, [array.nbytes])
            np.testing.assert_array_equal(got.view(array.dtype).reshape(array.shape), array)


kinds = pytest.mark.parametrize("kind", KINDS)
sizes = pytest.mark.parametrize("size", [1, 2, 3, 4])
places = pytest.mark.parametrize("place", ["its own", "zeros"])


def put(comm, array: np.ndarray, place: str) -> np.ndarray:
    """A copy of the array, in memory that collectives must copy or in memory that they need not."""
    if place == "its own":
        return array.copy()
    common = comm.zeros(array.size, array.dtype).reshape(array.shape)
    common[...] = array
    return common


def check_all_cases(kind, size: int, place: str, collective, expected) -> None:
    """collective(comm, array) against expected(arrays of all ranks), a list with an array per rank, in every case."""
    arrays = [[array_of(rank, *case) for case in CASES] for rank in range(size)]
    answers = [expected(list(of_all)) for of_all in zip(*arrays)]
    check(
        kind,
        size,
        lambda comm: [collective(comm, put(comm, array, place)) for array in arrays[comm.rank]],
        [[answer[rank] for answer in answers] for rank in range(size)],
    )


def cut(array: np.ndarray, size: int) -> list[np.ndarray]:
    return [array[share(len(array), rank, size)] for rank in range(size)]


@kinds
@sizes
@places
def test_all_reduce_gives_the_sum_to_all(kind, size, place):
    total = lambda arrays: [np.sum(arrays, axis=0, dtype=arrays[0].dtype)] * size
    check_all_cases(kind, size, place, lambda comm, array: comm.all_reduce(array), total)


@kinds
@sizes
@places
def test_reduce_scatter_gives_each_its_part_of_the_sum(kind, size, place):
    parts = lambda arrays: cut(np.sum(arrays, axis=0, dtype=arrays[0].dtype), size)
    check_all_cases(kind, size, place, lambda comm, array: comm.reduce_scatter(array), parts)


@kinds
@sizes
@places
def test_all_gather_gives_all_parts_to_all(kind, size, place):
    whole = lambda arrays: [np.concatenate([cut(array, size)[rank] for rank, array in enumerate(arrays)])] * size
    check_all_cases(kind, size, place, lambda comm, array: comm.all_gather(array), whole)


@kinds
@sizes
@places
def test_all_to_all_gives_each_its_rows_of_every_array(kind, size, place):
    rows = lambda arrays: [np.stack([cut(array, size)[rank] for array in arrays]) for rank in range(size)]
    check_all_cases(kind, size, place, lambda comm, array: comm.all_to_all(array), rows)


@kinds
@sizes
@places
def test_broadcast_gives_the_array_of_one_to_all(kind, size, place):
    last = lambda arrays: [arrays[-1]] * size
    check_all_cases(kind, size, place, lambda comm, array: comm.broadcast(array, root=size - 1), last)


@kinds
@places
def test_parts_may_be_of_any_length(kind, place):
    parts = [slice(0, 1), slice(1, 1), slice(1, 9)]
    arrays = [array_of(rank, (9, 2)) for rank in range(3)]
    total = sum(arrays)
    check(kind, 3, lambda comm: [comm.reduce_scatter(put(comm, arrays[comm.rank], place), parts)],
          [[total[part]] for part in parts])
    whole = np.concatenate([array[part] for array, part in zip(arrays, parts)])
    check(kind, 3, lambda comm: [comm.all_gather(put(comm, arrays[comm.rank], place), parts)], [[whole]] * 3)


@kinds
def test_what_is_shared_is_one_array_that_collectives_only_wait_for(kind):
    comm = kind(3)
    common = comm.shared(10)

    def work(comm):
        part = share(10, comm.rank, 3)
        common[part] = comm.rank + 1
        comm.all_gather(common)
        assert common.tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3, 3]
        comm.barrier()
        if comm.rank == 2:
            common[:] = 7
        comm.broadcast(common, root=2)
        assert (common == 7).all()

    comm.run(work)
    assert (common == 7).all()


@kinds
def test_many_collectives_in_a_row_do_not_run_into_each_other(kind):
    def work(comm):
        results, own = np.zeros(60), comm.zeros(5)
        for turn in range(60):
            own[:] = comm.rank + turn
            part = comm.reduce_scatter(own)
            results[turn] = comm.all_reduce(np.array([part.sum(), 1.0]))[0]
            own[:] = -1  # nobody may still be reading
        return [results]

    check(kind, 3, work, [[5 * (3 + 3 * np.arange(60.0))]] * 3)


@kinds
def test_workers_may_be_started_again_also_after_a_failure(kind):
    comm = kind(3)

    def fail(comm):
        comm.zeros(5)
        comm.all_reduce(np.ones(1))
        if comm.rank == 0:
            raise ValueError("no such luck")
        comm.barrier()

    def work(comm):
        own = comm.zeros(7)
        own[:] = comm.rank + 1
        return comm.all_reduce(comm.reduce_scatter(own)[:2].copy())

    for _ in range(2):
        assert comm.run(work).tolist() == [18, 18]
        with pytest.raises(ValueError, match="no such luck"):
            comm.run(fail)


@kinds
def test_sums_of_floats_have_the_same_bits_on_all_ranks(kind):
    draw = np.random.default_rng(0)
    arrays = draw.standard_normal((4, 1001)).astype(np.float32)
    answers = everyones(kind, 4, lambda comm: [comm.all_reduce(arrays[comm.rank].copy())], 4004)
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])
    np.testing.assert_allclose(answers[0].view(np.float32), arrays.sum(axis=0), rtol=1e-5, atol=1e-6)


@kinds
@places
@pytest.mark.parametrize("name", ["all_reduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast"])
def test_arrays_of_different_shapes_are_refused_with_both(kind, place, name):
    def work(comm):
        getattr(comm, name)(put(comm, np.zeros((4, 2 + (comm.rank == 1)), np.float32), place))

    sentence = rf"rank 0 has {name} of \(4, 2\) float32.*, rank 1 {name} of \(4, 3\) float32"
    with pytest.raises((ValueError, WorkerDied), match=sentence):
        kind(3).run(work)


@kinds
def test_different_types_and_different_calls_are_refused(kind):
    def types(comm):
        comm.all_reduce(np.zeros(3, np.float32 if comm.rank else np.float64))

    def calls(comm):
        (comm.broadcast if comm.rank else comm.all_reduce)(np.zeros(3))

    with pytest.raises((ValueError, WorkerDied), match=r"rank 0 has .*\(3,\) float64, rank 1 .*\(3,\) float32"):
        kind(2).run(types)
    with pytest.raises((ValueError, WorkerDied), match=r"rank 0 has all_reduce of .*, rank 1 broadcast of"):
        kind(2).run(calls)


def test_arrays_that_do_not_lie_in_a_row_and_parts_that_do_not_fit_are_refused():
    comm = Threads(2)
    with pytest.raises(ValueError, match=r"needs a C-contiguous array; make one of this \(3, 2\) with .copy"):
        comm.run(lambda comm: comm.all_reduce(np.zeros((2, 3)).T))
    for parts in ([slice(0, 3)], [slice(0, 2), slice(3, 4)], [slice(0, 2), slice(2, 5)]):
        with pytest.raises(ValueError, match="do not cut 4 rows into a part for each of 2 ranks in turn"):
            comm.run(lambda comm: comm.all_gather(np.zeros(4), parts))  # noqa: B023


def test_shares_cover_everything_once_whether_or_not_they_divide():
    for n in range(20):
        for size in range(1, 8):
            assert [i for rank in range(size) for i in range(n)[share(n, rank, size)]] == list(range(n))


@pytest.mark.parametrize("kind", [Communicator, *KINDS])
def test_a_rank_alone_has_all_the_sums(kind):
    def work(comm):
        group, array = comm.split(3), np.arange(6.0).reshape(3, 2)
        assert (group.rank, group.size) == (0, 1)
        for one in (comm, group):
            for got in (one.all_reduce(array.copy()), one.reduce_scatter(array.copy()), one.all_gather(array.copy()),
                        one.all_to_all(array)[0], one.broadcast(array.copy())):
                np.testing.assert_array_equal(got, array)

    kind(1).run(work)


@kinds
@places
def test_groups_exchange_among_themselves_and_with_all_in_turn(kind, place):
    """Ranks 0 .. 5 as a grid of 2 x 3: each sums over its row, over its column, over all; rows have longer arrays."""

    def work(comm):
        row, column = comm.split(comm.rank // 3), comm.split(comm.rank % 3)
        assert (row.rank, row.size, column.rank, column.size) == (comm.rank % 3, 3, comm.rank // 3, 2)
        along = put(row, array_of(comm.rank, (5 + comm.rank // 3, 3)), place)
        down, everywhere = put(column, array_of(comm.rank, (2000 * (1 + comm.rank % 3),)), place), np.ones(4)
        for _ in range(3):
            row.all_reduce(along)
            column.all_reduce(down)
            comm.all_reduce(everywhere)
        gathered = row.all_gather(np.full(3, comm.rank))
        return [along, down, everywhere, gathered]

    of = lambda ranks, shape: sum(array_of(rank, shape) for rank in ranks)
    check(kind, 6, work, [
        [of(range(rank // 3 * 3, rank // 3 * 3 + 3), (5 + rank // 3, 3)) * 9,
         of([rank % 3, rank % 3 + 3], (2000 * (1 + rank % 3),)) * 4, np.full(4, 6.0**3),
         np.arange(3) + rank // 3 * 3]
        for rank in range(6)
    ])  # fmt: skip


@kinds
def test_a_failure_ends_also_those_that_wait_in_a_group(kind):
    def work(comm):
        group = comm.split(comm.rank % 2)
        if comm.rank == 3:
            raise ValueError("no such luck")
        group.all_reduce(np.ones(1))
        comm.barrier()

    with pytest.raises((ValueError, WorkerDied), match="no such luck"):
        kind(4).run(work)
