"""Ranks with a GPU each, whose arrays NVIDIA's NCCL moves from GPU to GPU; MPI starts them and moves everything else.

CuPy's NcclBackend knows no bfloat16 and only parts of equal length, so this is the communicator below it. A part of any
length goes to its rank by a reduce of its own, and comes from it by a broadcast; within a group NCCL does them at once.

Nothing of this has met two GPUs yet. What leads up to the wire, and all that is computed around it, is tested with
CuPy's stand-in and one for NCCL's communicator, which moves the arrays over MPI (tests/backend/gpu/on_gpus.py).

With --graph the recorded part is forward and backward; gradients and parameters travel after it, as without.
"""

import importlib
import os

import numpy as np

from tinytensor import backend
from tinytensor.backend.gpu.arrays import address
from tinytensor.distributed import share
from tinytensor.mpi import Ranks, world

LOCAL = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")  # a rank's number on its machine
TYPES = {"int8": 0, "bool": 1, "uint8": 1, "int32": 2, "int64": 4, "float16": 6, "float32": 7, "float64": 8,
         "bfloat16": 9}  # ncclDataType_t
SUM = 0  # of ncclRedOp_t


class GPUs(Ranks):
    """Collectives of CuPy's arrays go by NCCL, those of NumPy's as among MPI's other ranks.

    An array that is `shared` is one on each GPU; its all_gather and broadcast move it.
    """

    kind = "GPUs"

    def __init__(self):
        super().__init__()
        self._cupy, self._library = map(importlib.import_module, ("cupy", "cupy.cuda.nccl"))
        number = next((int(os.environ[name]) for name in LOCAL if name in os.environ), 0)
        if number >= (there := self._cupy.cuda.runtime.getDeviceCount()):
            raise ValueError(f"each rank takes a GPU, and this machine has {there}; start no more --ranks there")
        if "NcclCommunicator" not in vars(self._library):
            raise ValueError("ranks with a GPU each need NCCL; get it with: pip install nvidia-nccl-cu13")
        self._cupy.cuda.Device(number).use()

    def _join(self, begin: int, length: int = 0) -> None:
        super()._join(begin, length)
        name = world().bcast(self._library.get_unique_id() if self.rank == 0 else None)
        self._nccl = self._library.NcclCommunicator(self.size, name, self.rank)

    def zeros(self, n: int, dtype=np.float32):
        return self._cupy.zeros(n, dtype)

    def all_reduce(self, array):
        if backend.device_of(array) == "cpu":
            return super().all_reduce(array)
        return self._each([array], lambda rank, own, *what: self._nccl.allReduce(own, own, *what[:2], SUM, what[2]))

    def reduce_scatter(self, array, parts: list[slice] | None = None):
        if backend.device_of(array) == "cpu":
            return super().reduce_scatter(array, parts)
        cut = [array[part] for part in self._checked(parts, array)]
        self._each(cut, lambda rank, own, *what: self._nccl.reduce(own, own, *what[:2], SUM, rank, what[2]))
        return cut[self.rank]

    def all_gather(self, array, parts: list[slice] | None = None):
        if backend.device_of(array) == "cpu":
            return super().all_gather(array, parts)
        cut = [array[part] for part in self._checked(parts, array)]
        self._each(cut, lambda rank, own, *what: self._nccl.bcast(own, *what[:2], rank, what[2]))
        return array

    def broadcast(self, array, root: int = 0):
        if backend.device_of(array) == "cpu":
            return super().broadcast(array, root)
        return self._each([array], lambda rank, own, *what: self._nccl.bcast(own, *what[:2], root, what[2]))

    def all_to_all(self, array):
        if backend.device_of(array) == "cpu":
            return super().all_to_all(array)
        own = share(len(array), self.rank, self.size)
        got = self._cupy.empty((self.size, own.stop - own.start, *array.shape[1:]), array.dtype)
        self._library.groupStart()
        self._each([array[part] for part in self._checked(None, array)],
                   lambda rank, place, *what: self._nccl.send(place, *what[:2], rank, what[2]))  # fmt: skip
        self._each(list(got), lambda rank, place, *what: self._nccl.recv(place, *what[:2], rank, what[2]))
        self._library.groupEnd()
        return got

    def _each(self, arrays: list, call):
        """call(number, address, elements, type, stream) for each array, all of them at once; returns the first."""
        if self.size < world().size:
            raise ValueError("a group of some of the ranks has no NCCL; leave out --tensor and --experts-over")
        stream = self._cupy.cuda.get_current_stream().ptr
        self._library.groupStart()
        for number, array in enumerate(arrays):
            if array.size:
                call(number, address(array), array.size, TYPES[array.dtype.name], stream)
        self._library.groupEnd()
        return arrays[0]
