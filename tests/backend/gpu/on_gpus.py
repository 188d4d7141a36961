"""A program for MPI's ranks with a stand-in for CuPy (fake_cupy.py) and one for NCCL at each: mpiexec -n 2 ... WHAT

NCCL's moves the bytes over MPI, at the addresses and of the lengths that it is given, as its documentation has it.
"""

import ctypes
import os
import sys
import types

import ml_dtypes
import numpy as np
import pytest

from tests.backend.gpu import fake_cupy
from tinytensor import mpi
from tinytensor.workers import STARTED

TYPES = {0: np.int8, 1: np.uint8, 2: np.int32, 4: np.int64, 6: np.float16, 7: np.float32, 8: np.float64,
         9: ml_dtypes.bfloat16}  # fmt: skip
waiting: list = []  # what a group will do at its end
depth = 0


def start() -> None:
    global depth
    depth += 1


def end() -> None:
    global depth
    depth -= 1
    requests = []
    while depth == 0 and waiting:
        requests.append(waiting.pop(0)())
    mpi.MPI.Request.Waitall([request for request in requests if request])


class Communicator:
    def __init__(self, size: int, name: tuple, rank: int):
        assert len(name) == 128 and (size, rank) == (mpi.world().size, mpi.world().rank)
        self.world = mpi.world().Dup()

    def allReduce(self, send, receive, count, kind, op, stream):
        self.summed(send, receive, count, kind, op, range(self.world.size))

    def reduce(self, send, receive, count, kind, op, root, stream):
        self.summed(send, receive, count, kind, op, [root])

    def summed(self, send, receive, count, kind, op, roots):
        def work():
            all_have = self.world.allgather(array_at(send, count, kind).tobytes())
            if self.world.rank in roots:
                wide = sum(np.frombuffer(one, TYPES[kind]).astype(np.float64) for one in all_have)
                array_at(receive, count, kind)[...] = wide.astype(TYPES[kind])

        assert op == 0
        waiting.append(work)

    def bcast(self, place, count, kind, root, stream):
        def work():
            array_at(place, count, kind)[...] = self.world.bcast(array_at(place, count, kind).copy(), root)

        waiting.append(work)

    def send(self, place, count, kind, rank, stream):
        waiting.append(lambda: self.world.Isend(array_at(place, count, kind).view(np.uint8), rank))

    def recv(self, place, count, kind, rank, stream):
        waiting.append(lambda: self.world.Irecv(array_at(place, count, kind).view(np.uint8), rank))


def array_at(place: int, count: int, kind: int) -> np.ndarray:
    size = count * np.dtype(TYPES[kind]).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(place), TYPES[kind])


def install() -> None:
    fake = fake_cupy.install(pytest.MonkeyPatch())
    fake.cuda.runtime.getDeviceCount = lambda: 8
    fake.cuda.Device = lambda number: types.SimpleNamespace(use=lambda: None)
    nccl = types.ModuleType("cupy.cuda.nccl")
    nccl.get_unique_id = lambda: tuple(range(128))
    nccl.NcclCommunicator, nccl.groupStart, nccl.groupEnd = Communicator, start, end
    sys.modules["cupy.cuda.nccl"] = nccl


def collectives() -> int:
    from tinytensor import backend
    from tinytensor.nccl import GPUs

    def work(comm):
        n, parts = comm.size, [slice(0, 2), slice(2, 2), slice(2, 7)][-comm.size :]
        parts[0] = slice(0, parts[0].stop)
        for dtype in (np.float32, np.float64, np.float16, np.int64, ml_dtypes.bfloat16):
            own = np.arange(21).reshape(7, 3).astype(dtype)
            total = sum((own + np.asarray(rank, dtype)).astype(np.float64) for rank in range(n)).astype(dtype)
            fresh = lambda own=own, dtype=dtype: backend.to_device(own + np.asarray(comm.rank, dtype), "cuda")
            number = lambda array: backend.to_numpy(array).astype(float)
            same = lambda got, want: np.testing.assert_array_equal(number(got), want.astype(float))  # noqa: B023
            same(comm.all_reduce(fresh()), total)
            for how in (parts, None):
                cut = comm._checked(how, own)
                same(comm.reduce_scatter(fresh(), how), total[cut[comm.rank]])
                whole = np.concatenate([(own + np.asarray(rank, dtype))[part] for rank, part in enumerate(cut)])
                same(comm.all_gather(fresh(), how), whole)
            same(comm.broadcast(fresh(), n - 1), own + np.asarray(n - 1, dtype))
            rows = lambda rank, own=own, dtype=dtype: (own + np.asarray(rank, dtype))[2 * comm.rank : 2 * comm.rank + 2]
            same(comm.all_to_all(fresh()[: 2 * n].copy()), np.stack([rows(rank) for rank in range(n)]))
        assert comm.all_reduce(np.ones(3)).tolist() == [n] * 3  # NumPy's go another way

    GPUs().run(work)
    return 0


def main() -> int:
    install()
    if mpi.world().rank:
        return mpi.follow()
    os.environ[STARTED] = str(mpi.world().size)
    if sys.argv[1] == "collectives":
        status = collectives()
    else:
        from train.__main__ import main as command

        status = command(sys.argv[1:])
    mpi.dismiss(status)
    return status


if __name__ == "__main__":
    sys.exit(main())
