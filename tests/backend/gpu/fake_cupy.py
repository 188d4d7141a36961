"""A stand-in for CuPy: NumPy arrays that insist on being on a GPU, to find code that only works with NumPy.

The backend takes an array for CuPy's when its type comes from a module named cupy, so these arrays take the GPU's path
through the whole project, and the kernels run under the emulator. Like CuPy's they refuse to mix with NumPy arrays,
and results without axes are arrays, not numbers. Where CuPy is installed (it needs no GPU for that), functions that it
lacks are missing here too, and so are parameters that its functions do not take. What cannot be imitated: CuPy refuses
np.asarray, which a subclass of NumPy's array cannot.

CUDA graphs: while a stream records, every operation is noted with the very arrays it read and made, and launching does
them all again in those places. As on a GPU, whatever would wait for its results, or copy from the CPU, is refused then.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import inspect
import re
import types

import numpy as np

from tests.backend.gpu import emulator
from tinytensor.backend.gpu import cublas, launch

try:
    import cupy as REAL
except ImportError:
    REAL = None

tape: list | None = None  # of the operations of a graph that is being recorded
before: list = []  # arrays they wrote into, and what was there
on_their_way: list = []  # copies to the CPU that nobody has waited for: (where to, what)


def kept(operation):
    """operation(), which a graph that is being recorded will repeat, with the result in the same place."""
    result = operation()
    if tape is None:
        return on_gpu(result)
    if isinstance(result, np.generic):
        result = np.asarray(result)

    def again():
        for old, new in zip(arrays_in(result), arrays_in(operation())):
            if not np.may_share_memory(old, new):  # a view of what is repeated anyway
                old[...] = new

    tape.append(again)
    return on_gpu(result)


def arrays_in(value) -> list:
    if isinstance(value, tuple | list):
        return [array for part in value for array in arrays_in(part)]
    return [np.asarray(value)] if isinstance(value, np.ndarray | np.generic) else []


def refuse_to_wait(what) -> None:
    if tape is not None:
        raise RuntimeError(f"{what} while the stream is capturing")


@functools.cache
def real_signature(owner: str, name: str) -> inspect.Signature | None:
    """The parameters of CuPy's own function or method, which for compiled ones stand in the docstring's first line."""
    function = getattr(REAL if owner == "cupy" else REAL.ndarray, name, None)
    with contextlib.suppress(ValueError, TypeError):
        return inspect.signature(function)
    if not (found := re.match(rf"\w+\.{name}\((.*?)\)( ->|$)", (function.__doc__ or "").strip().partition("\n")[0])):
        return None  # a ufunc
    names = [re.sub(r"^\w+ (?=\w)", "", parameter) for parameter in found[1].split(", ")]  # without C's types
    return inspect.signature(eval(f"lambda {', '.join(names)}: None"))


def check_parameters(owner: str, name: str, args: tuple, kwargs: dict) -> None:
    """TypeError for a call that NumPy understands and CuPy does not."""
    if REAL is not None and (signature := real_signature(owner, name)):
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{owner}.{name}{signature}: {error}") from None


def check_bfloat16(name: str, inputs) -> None:
    """TypeError for a function that CuPy would compute in another type; it writes bfloat16 as E."""
    if REAL is not None and any(getattr(array, "dtype", None) == "bfloat16" for array in inputs):
        types = getattr(getattr(REAL, name), "types", None)
        if isinstance(types, list) and not any("E" in one for one in types):
            raise TypeError(f"CuPy has no {name} of bfloat16")


class ndarray(np.ndarray):
    """An array "on the GPU"."""

    __module__ = "cupy"

    def __getattribute__(self, name):
        if REAL is not None and not name.startswith("_") and not hasattr(REAL.ndarray, name) and name != "ctypes":
            raise AttributeError(f"CuPy's arrays have no {name}")
        return super().__getattribute__(name)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        refuse_numpy(*inputs, *(out or ()), *options.values())
        check_bfloat16(ufunc.__name__, inputs)
        if ufunc is np.matmul:
            refuse_to_wait("CuPy calls cuBLAS")
            return on_gpu(matmul(*map(on_cpu, inputs), out=None if out is None else on_cpu(out[0])))
        if out is not None:
            options["out"] = tuple(on_cpu(o) for o in out)
        inputs, options = tuple(map(on_cpu, inputs)), {k: on_cpu(v) for k, v in options.items()}
        result = kept(lambda: getattr(ufunc, method)(*inputs, **options))
        return out[0] if out is not None else result

    def __array_function__(self, function, types, args, kwargs):
        return wrap(function)(*args, **kwargs)

    def __getitem__(self, index):
        own, index = on_cpu(self), on_cpu(index)
        if any(part.dtype == bool for part in arrays_in(index)):
            refuse_to_wait("counting what a mask chooses")
        return kept(lambda: own[index])

    def __setitem__(self, index, value):
        refuse_numpy(value)
        own, index, value = on_cpu(self), on_cpu(index), on_cpu(value)
        if tape is not None:
            before.append((own, own.copy()))
        kept(lambda: own.__setitem__(index, value))

    def reshape(self, *shape, **how):
        own = on_cpu(self)
        return kept(lambda: own.reshape(*shape, **how))

    def get(self, out=None, blocking=True):
        refuse_to_wait("a copy to the CPU")
        if blocking:
            return np.array(on_cpu(self))
        on_their_way.append((out, np.array(on_cpu(self))))
        return out

    def set(self, array):
        refuse_to_wait("a copy from the CPU")
        on_cpu(self)[...] = array


def method(name):
    def call(self, *args, **kwargs):
        check_parameters("ndarray", name, (self, *args), kwargs)
        refuse_numpy(*args, *kwargs.values())
        own, args, kwargs = on_cpu(self), on_cpu(args), {k: on_cpu(v) for k, v in kwargs.items()}
        return kept(lambda: getattr(own, name)(*args, **kwargs))

    return call


def number(name):
    def call(self, *args):
        refuse_to_wait("reading a number")
        return getattr(np.ndarray, name)(self, *args)

    return call


WITH_CUBLAS = ("matmul", "dot", "tensordot", "einsum")
METHODS = ["sum", "mean", "max", "min", "var", "std", "any", "all", "argmax", "cumsum", "dot", "take", "astype", "copy",
           "swapaxes", "squeeze", "ravel", "round", "clip", "sort", "argsort"]
for name in METHODS:
    setattr(ndarray, name, method(name))
for name in ("item", "tolist", "__int__", "__float__", "__bool__", "__index__"):
    setattr(ndarray, name, number(name))


def on_cpu(value):
    if isinstance(value, tuple | list):
        return type(value)(map(on_cpu, value))
    return value.view(np.ndarray) if isinstance(value, ndarray) else value


def on_gpu(value):
    if isinstance(value, tuple | list):
        return type(value)(map(on_gpu, value))
    return np.asarray(value).view(ndarray) if isinstance(value, np.ndarray | np.generic) else value


def refuse_numpy(*values):
    for value in values:
        if isinstance(value, tuple | list):
            refuse_numpy(*value)
        elif type(value) is np.ndarray:
            raise TypeError("Unsupported type <class 'numpy.ndarray'>: a CuPy array was mixed with a NumPy array")


def wrap(function, moves=False):
    def call(*args, **kwargs):
        if hasattr(REAL, function.__name__):
            check_parameters("cupy", function.__name__, args, kwargs)
        if function.__name__ in WITH_CUBLAS:
            refuse_to_wait("CuPy calls cuBLAS")
        if function.__name__ == "concatenate" and len(args[0]) > 8:
            refuse_to_wait("copying the addresses of many arrays")
        if not moves:
            refuse_numpy(*args, *kwargs.values())
        elif any(type(value) is np.ndarray for value in args):
            refuse_to_wait("a copy from the CPU")
        args, kwargs = on_cpu(args), {k: on_cpu(v) for k, v in kwargs.items()}
        return kept(lambda: function(*args, **kwargs))

    return call


def matmul(a, b, out=None):
    """As cuBLAS, which adds up products of 16-bit numbers in float32; every product here is computed by this."""
    if max(a.ndim, b.ndim) > 2 and a.dtype.name == "bfloat16":
        raise TypeError("CuPy multiplies stacks of bfloat16 matrices by a kernel that is meant for integers")
    if a.dtype.name not in ("float16", "bfloat16"):
        return np.matmul(a, b, out=out)
    y = product(a, b).astype(a.dtype)
    if out is None:
        return y
    if out.dtype != a.dtype:
        raise TypeError("CuPy would write the product with a pass of its own")
    out[...] = y
    return out


def product(a, b):
    """a @ b of two matrices, added up in float32 or float64, and not rounded after that."""
    wide = np.float64 if a.dtype == np.float64 else np.float32
    return np.matmul(a.astype(wide, copy=False), b.astype(wide, copy=False))


class Fake(types.ModuleType):
    """The module: NumPy's functions under CuPy's rules."""

    ndarray = ndarray

    def __getattr__(self, name):
        if REAL is not None and not hasattr(REAL, name):
            raise AttributeError(f"CuPy has no {name}")
        value = matmul if name == "matmul" else getattr(np, name)
        if isinstance(value, type) or not callable(value):
            return value
        return wrap(value, moves=name in ("asarray", "array", "ascontiguousarray"))


class Add:
    """cupy.add is a ufunc whose `at` the project uses."""

    def __call__(self, *args, **kwargs):
        return wrap(np.add)(*args, **kwargs)

    def at(self, target, index, values):
        refuse_numpy(values)
        target, index, values = on_cpu(target), on_cpu(index), on_cpu(values)
        kept(lambda: np.add.at(target, index, values))


class CUDARuntimeError(RuntimeError):
    """CUDA's "out of memory", for example."""


class Memory:
    """Memory from CUDA, of which there are `left` bytes."""

    left = 1 << 40

    def __init__(self, size):
        if size > Memory.left:
            raise CUDARuntimeError("cudaErrorMemoryAllocation: out of memory")


class Pool:
    """As CuPy's: where CUDA has no memory left, what nobody holds is given back to it, and it is asked again."""

    def __init__(self, allocator=Memory):
        self.allocator, self.given_back = allocator, 0

    def malloc(self, size):
        try:
            return self.allocator(size)
        except CUDARuntimeError:
            self.given_back += 1
            return self.allocator(size)

    def used_bytes(self):
        return 3 << 20

    def total_bytes(self):
        return 5 << 20

    def free_all_blocks(self):
        pass


class Event:
    """A place in the stream. What was on its way to the CPU there arrives when it is waited for, and not before."""

    def __init__(self, disable_timing=False):
        self.copies: list = []

    def record(self):
        refuse_to_wait("recording an event of another stream")
        self.copies = on_their_way[:]
        on_their_way.clear()

    def synchronize(self):
        for out, values in self.copies:
            out[...] = values


class Stream:
    """A stream; only one that does not block for the default one can record."""

    current: Stream

    def __init__(self, non_blocking=False):
        self.non_blocking, self.ptr = non_blocking, 1

    def __enter__(self):
        self.before, Stream.current = Stream.current, self
        return self

    def __exit__(self, *error):
        Stream.current = self.before

    def synchronize(self):
        refuse_to_wait("waiting for a stream")

    def begin_capture(self):
        global tape
        assert self.non_blocking and Stream.current is self
        tape = []

    def end_capture(self):
        global tape
        recorded, tape = tape, None
        while before:  # a GPU has not done anything yet
            array, old = before.pop()
            array[...] = old
        return Graph(recorded)


Stream.current = Stream()


class Graph:
    def __init__(self, operations: list):
        self.operations = operations

    def launch(self):
        assert not Stream.current.non_blocking  # where the optimizer and everything else runs
        for operation in self.operations:
            operation()


class CuBLAS:
    """cuBLAS as its documentation has it: matrices are addresses, stored column by column."""

    def __init__(self):
        self.stream, self.workspace = 0, None
        self.types = {0: np.float32, 1: np.float64, 2: np.float16}
        with contextlib.suppress(ImportError):
            self.types[14] = __import__("ml_dtypes").bfloat16

    def cublasCreate_v2(self, handle):
        return 0

    def cublasSetStream_v2(self, handle, stream):
        self.stream, self.workspace = stream.value, None  # a new stream has the usual workspace
        return 0

    def cublasSetWorkspace_v2(self, handle, address, size):
        self.workspace = size.value
        return 0

    def cublasGetStream_v2(self, handle, stream):
        stream._obj.value = self.stream
        return 0

    def cublasGemmStridedBatchedEx(self, handle, how_a, how_b, m, n, k, alpha, a, type_a, step_a, apart_a, b, type_b,
                                   step_b, apart_b, beta, c, type_c, step_c, apart_c, count, compute, algorithm):
        """C (m, n) = alpha op(A) op(B) + beta C, `count` times, the matrices so many elements apart"""
        for i in range(count):
            one = lambda first, kind, apart, i=i: ctypes.c_void_p(
                first.value + i * apart.value * np.dtype(self.types[kind]).itemsize)  # fmt: skip
            self.cublasGemmEx(handle, how_a, how_b, m, n, k, alpha, one(a, type_a, apart_a), type_a, step_a,
                              one(b, type_b, apart_b), type_b, step_b, beta, one(c, type_c, apart_c), type_c, step_c,
                              compute, algorithm)
        return 0

    def cublasGemmEx(self, handle, how_a, how_b, m, n, k, alpha, a, type_a, step_a, b, type_b, step_b, beta, c, type_c,
                     step_c, compute, algorithm):
        """C (m, n) = alpha op(A) op(B) + beta C"""
        assert Stream.current.ptr == self.stream and self.workspace >= 32 << 20
        assert {compute} <= {68, 70} and algorithm == -1
        size_a, size_b = ((m, k), (k, m))[how_a], ((k, n), (n, k))[how_b]
        A, B, C = (self.matrix(*which) for which in ((a, type_a, step_a, size_a), (b, type_b, step_b, size_b),
                                                     (c, type_c, step_c, (m, n))))
        one, zero = alpha._obj.value, beta._obj.value

        def run():  # columns there are rows here, as in `a @ b` of our arrays
            left, right = (X.T if how else X for X, how in ((A, how_a), (B, how_b)))
            C.T[...] = one * product(right.T, left.T) + (zero * C.T if zero else 0)

        kept(run)
        return 0

    def matrix(self, address, kind, step, size):
        rows, columns = size
        assert step >= rows  # as cuBLAS insists
        dtype = np.dtype(self.types[kind])
        count = step * (columns - 1) + rows
        memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(address.value)
        flat = np.frombuffer(memory, dtype)
        return np.lib.stride_tricks.as_strided(flat, size, (dtype.itemsize, step * dtype.itemsize))


def install(monkeypatch) -> Fake:
    """Put the stand-in in CuPy's place, and the emulator in the GPU's."""
    fake = Fake("cupy")
    fake.add = Add()
    tricks = {name: wrap(getattr(np.lib.stride_tricks, name)) for name in ("as_strided", "sliding_window_view")}
    fake.lib = types.SimpleNamespace(stride_tricks=types.SimpleNamespace(**tricks))
    runtime = types.SimpleNamespace(memGetInfo=lambda: (1 << 30, 8 << 30), CUDARuntimeError=CUDARuntimeError)
    out_of_memory = type("OutOfMemoryError", (MemoryError,), {"__module__": "cupy.cuda.memory"})
    fake.cuda = types.SimpleNamespace(is_available=lambda: True, runtime=runtime, Stream=Stream, MemoryPool=Pool,
                                      get_current_stream=lambda: Stream.current, Memory=Memory,
                                      MemoryPointer=lambda memory, offset: memory, Event=Event,
                                      alloc_pinned_memory=lambda size: bytearray(b"\xff" * size),
                                      using_allocator=lambda allocator: contextlib.nullcontext(),
                                      memory=types.SimpleNamespace(OutOfMemoryError=out_of_memory))
    fake.get_default_memory_pool = Pool
    library = CuBLAS()
    monkeypatch.setitem(__import__("sys").modules, "cupy", fake)
    monkeypatch.setattr(launch, "run", lambda *arguments: kept(lambda: emulator.run(*arguments)))
    monkeypatch.setattr(launch, "device_attributes", emulator.device_attributes)
    monkeypatch.setattr(cublas, "library", lambda: library)
    monkeypatch.setattr(cublas, "handle", lambda: ctypes.c_void_p(1))
    return fake
