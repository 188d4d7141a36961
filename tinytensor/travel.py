"""Work that travels to another process, as a fork would give it: functions without a name, and arrays in shared memory.

It is pickled by a rank for the others of the same program, and read by nobody else. Beside what pickle can do:
- a function that cannot be found by its name (a lambda, one defined within another) goes as its code and what it uses;
- an array in memory that the ranks share arrives as that memory, and one that is a file as that file;
- arrays on a GPU that are parts of one arrive as parts of one, on the reader's own GPU;
- the communicator arrives as that of the rank which reads.
What only one process can have, such as an open file, cannot travel.
"""

import functools
import io
import marshal
import operator
import pickle
import sys
import types

import numpy as np

from tinytensor import backend
from tinytensor.backend.gpu.arrays import address


def pack(work, comm, place_of) -> bytes:
    """work as bytes.   place_of(array): where in the shared memory an array begins, or None if it is not there."""
    file = io.BytesIO()
    try:
        _Packer(file, comm, place_of).dump(work)
    except (pickle.PicklingError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ValueError(f"this work cannot be sent to other ranks ({error}); leave out --ranks") from None
    return file.getvalue()


def unpack(packed: bytes, comm, memory):
    """What was packed, at a rank with the communicator `comm` and the shared memory mapped at `memory`."""
    return _Unpacker(io.BytesIO(packed), comm, memory).load()


class _Packer(pickle.Pickler):
    def __init__(self, file, comm, place_of):
        super().__init__(file, protocol=5)
        self.comm, self.place_of = comm, place_of
        self.on_gpu: dict[int, tuple] = {}  # address of a whole array on the GPU -> (it, what is sent of it)

    def persistent_id(self, thing):
        if thing is self.comm:
            return "comm", None
        if isinstance(thing, types.ModuleType):
            return "module", thing.__name__
        if isinstance(thing, np.ndarray) and (place := self.place_of(thing)) is not None:
            return "array", (thing.shape, thing.dtype, place, thing.strides)
        if backend.is_array(thing) and backend.device_of(thing) == "cuda":
            return "part", self._part(thing)
        return None

    def _part(self, array) -> tuple:
        """(the whole that an array is a part of, its place there, its shape)"""
        whole = array
        while backend.is_array(whole.base):
            whole = whole.base
        place = address(array) - address(whole)
        if not array.flags.c_contiguous or not whole.flags.c_contiguous or array.dtype != whole.dtype:
            whole, place = array, 0
        if address(whole) not in self.on_gpu:
            self.on_gpu[address(whole)] = whole, [backend.to_numpy(whole).reshape(-1)]
        return self.on_gpu[address(whole)][1], place // array.dtype.itemsize, array.size, array.shape

    def reducer_override(self, thing):
        if isinstance(thing, np.memmap) and thing.flags.c_contiguous:
            return np.memmap, (thing.filename, thing.dtype, "r", _place_in_file(thing), thing.shape)
        if isinstance(thing, functools._lru_cache_wrapper) and not _has_a_name(thing):
            return _remembering, (thing.cache_parameters(), thing.__wrapped__)
        if isinstance(thing, types.FunctionType) and not _has_a_name(thing):
            cells = thing.__closure__ or ()
            state = thing.__defaults__, thing.__kwdefaults__, [cell.cell_contents for cell in cells]
            made = marshal.dumps(thing.__code__), sys.modules[thing.__module__], len(cells)
            return _make_function, made, state, None, None, _fill_function
        return NotImplemented


class _Unpacker(pickle.Unpickler):
    def __init__(self, file, comm, memory):
        super().__init__(file)
        self.comm, self.memory = comm, memory

    def persistent_load(self, said):
        what, how = said
        if what == "comm":
            return self.comm
        if what == "module":
            self.find_class(how, "__name__")  # pickle finds it as it finds what stands in it
            return sys.modules[how]
        if what == "array":
            shape, dtype, place, strides = how
            return np.ndarray(shape, dtype, self.memory, place, strides)
        whole, place, size, shape = how
        if backend.device_of(whole[0]) == "cpu":
            whole[0] = backend.to_device(whole[0], "cuda")
        return whole[0][place : place + size].reshape(shape)


def _place_in_file(array: np.memmap) -> int:
    """The byte of its file at which an array begins, which may be a part of what was mapped first."""
    first = array
    while isinstance(first.base, np.memmap):
        first = first.base
    return first.offset + array.ctypes.data - first.ctypes.data


def _remembering(how: dict, function: types.FunctionType):
    """What functools.lru_cache made of a function."""
    return functools.lru_cache(**how)(function)


def _has_a_name(function) -> bool:
    try:
        return operator.attrgetter(function.__qualname__)(sys.modules[function.__module__]) is function
    except (AttributeError, KeyError):
        return False


def _make_function(code: bytes, module: types.ModuleType, cells: int) -> types.FunctionType:
    """Without what it uses, as that may in turn use the function."""
    return types.FunctionType(marshal.loads(code), vars(module), closure=tuple(types.CellType() for _ in range(cells)))


def _fill_function(function: types.FunctionType, state: tuple) -> None:
    function.__defaults__, function.__kwdefaults__, contents = state
    for cell, content in zip(function.__closure__ or (), contents):
        cell.cell_contents = content
