"""MPI's ranks: the same collectives on one machine and on several; work that travels; launchers' variables."""

import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tinytensor.travel import pack, unpack
from train.launch import OPEN_MPI, asked_for, launched

ROOT = Path(__file__).parent.parent.parent
MPIEXEC = Path(sys.executable).parent / "mpiexec"
mpi = pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None or not MPIEXEC.exists(), reason="MPI is missing")


def mpiexec(size: int, *words, **more) -> subprocess.CompletedProcess:
    """A program at so many ranks, which must come to an end."""
    program = [MPIEXEC, "-n", size, sys.executable, "-m", "mpi4py", *words]
    how = dict(cwd=ROOT, env=OPEN_MPI | os.environ | more, capture_output=True, text=True, timeout=100)
    return subprocess.run([str(word) for word in program], **how)


@mpi
@pytest.mark.parametrize("size, machines", [
    (3, None),
    (3, "0,0,1"),
    pytest.param(4, "0,1,1,0", marks=pytest.mark.slow),
])  # fmt: skip
def test_collectives_over_mpi_give_what_those_of_processes_give(size, machines):
    pretended = {} if machines is None else {"TINYTENSOR_MACHINES": machines}
    done = mpiexec(size, "-m", "tests.on_ranks", "tests/tinytensor/test_distributed.py", **pretended)
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout + done.stderr
    assert "failed" not in done.stdout


class Alone:
    """A communicator for what is packed and unpacked in one process."""


def there_and_back(thing, memory=None):
    comm, memory = Alone(), np.zeros(0, np.uint8) if memory is None else memory
    begin = memory.__array_interface__["data"][0]

    def place_of(array):
        place = array.__array_interface__["data"][0] - begin
        return place if 0 <= place < memory.nbytes else None

    return unpack(pack(thing, comm, place_of), comm, memory.data)


def test_functions_without_a_name_travel_with_what_they_use():
    factor = 3
    times = lambda x, more=1: factor * x + more
    assert there_and_back(times)(5) == 16

    def factorial(n):
        return 1 if n < 2 else n * factorial(n - 1)  # which uses itself

    assert there_and_back(factorial)(5) == 120
    assert there_and_back(functools.partial(times, more=2))(1) == 5
    squares = there_and_back(functools.lru_cache(maxsize=7)(lambda x: factor * x**2))
    assert squares(2) == squares(2) == 12 and squares.cache_info()[:3] == (1, 1, 7)
    assert there_and_back(np.linalg.norm) is np.linalg.norm
    assert there_and_back(there_and_back) is there_and_back


def test_an_array_in_shared_memory_arrives_as_that_memory():
    memory = np.zeros(800, np.uint8)
    whole = memory.view(np.float32).reshape(20, 10)
    odd = there_and_back({"odd": whole[1::2, 3:]}, memory)["odd"]
    odd[...] = 7
    assert (whole[1::2, 3:] == 7).all() and whole.sum() == 7 * 70
    own = there_and_back(np.arange(4.0), memory)
    own += 1
    assert own.tolist() == [1, 2, 3, 4] and whole.sum() == 7 * 70


def test_a_part_of_a_file_arrives_as_that_part_of_the_file(tmp_path):
    np.arange(100, dtype=np.uint16).tofile(tmp_path / "tokens")
    part = np.memmap(tmp_path / "tokens", np.uint16, "r")[10:50][5:]
    arrived = there_and_back(part)
    assert isinstance(arrived, np.memmap) and arrived.tolist() == list(range(15, 50))


def test_what_cannot_travel_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match=r"cannot be sent to other ranks \(.*TextIOWrapper.*\); leave out --ranks"):
        there_and_back([sys.__stdout__])


@pytest.mark.parametrize("variables, place", [
    ({}, None),
    ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4", "PMIX_RANK": "2"}, (2, 4)),
    ({"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1"}, (1, 2)),
    ({"PMI_RANK": "0", "PMI_SIZE": "1"}, None),
    # srun; the script of sbatch, which is no step; an interactive step of one task
    ({"SLURM_PROCID": "3", "SLURM_NTASKS": "8", "SLURM_STEP_ID": "0"}, (3, 8)),
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, None),
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_ID": "0"}, None),
    # mpiexec within a job of Slurm's: its own numbers count
    ({"SLURM_PROCID": "0", "SLURM_NTASKS": "2", "SLURM_STEP_ID": "1", "PMI_RANK": "5", "PMI_SIZE": "6"}, (5, 6)),
])  # fmt: skip
def test_ranks_are_told_from_a_launchers_variables(variables, place):
    assert launched(variables) == place


def test_the_number_of_ranks_is_read_where_it_is_given():
    assert asked_for(["gpt", "--steps", "3"]) is None
    assert asked_for(["gpt", "--ranks", "4", "--steps", "3"]) == 4
    assert asked_for(["gpt", "--ranks=2"]) == 2
    for wrong in (["--ranks", "x"], ["--ranks"], ["--ranks", "0"], ["--ranks", "-3"], ["--ranks=2000"], ["--ranks="]):
        with pytest.raises(ValueError, match="--ranks must be a whole number from 1 to 1024, not"):
            asked_for(["gpt", *wrong])
    with pytest.raises(ValueError, match="MPI's ranks are the workers; leave out --workers"):
        asked_for(["gpt", "--ranks", "2", "--workers", "2"])


@mpi
def test_a_plain_reduce_scatter_of_mpi_in_place_would_leave_the_sum_elsewhere():
    """Why ours adds up in the rows of memory: MPI puts the part of each rank at the start of the array."""
    code = """
import numpy as np
from mpi4py import MPI
world = MPI.COMM_WORLD
y = np.arange(4, dtype=np.float32)
world.Reduce_scatter_block(MPI.IN_PLACE, y)
start, own = y[:2].tolist(), y[2 * world.rank :][:2].tolist()
assert start == [[0, 2], [4, 6]][world.rank], start
assert world.rank == 0 or own == [2, 3], own
"""
    done = mpiexec(2, "-c", code)
    assert done.returncode == 0, done.stderr


@mpi
def test_ranks_of_another_mpi_are_told_so():
    """Each then finds itself alone."""
    variables = {name: value for name, value in os.environ.items() if "PMI" not in name}
    variables |= {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4"}
    how = dict(cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60)
    done = subprocess.run([sys.executable, "-m", "train", "gpt"], **how)
    assert done.returncode == 2 and done.stdout == ""
    assert "the launcher has started 4 ranks, but for MPI (" in done.stderr and "belongs to another MPI" in done.stderr
    assert done.stderr.count("error:") == 1  # mpi4py may warn, too
