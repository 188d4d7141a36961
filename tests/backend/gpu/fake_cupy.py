"""A stand-in for CuPy: NumPy arrays that insist on being on a GPU, to find code that only works with NumPy.

The backend takes an array for CuPy's when its type comes from a module named cupy, so these arrays take the GPU's path
through the whole project, and the kernels run under the emulator. Like CuPy's they refuse to mix with NumPy arrays,
and results without axes are arrays, not numbers. Where CuPy is installed (it needs no GPU for that), functions that it
lacks are missing here too. What cannot be imitated: CuPy refuses np.asarray, which a subclass of NumPy's array cannot.
"""

from __future__ import annotations

import types

import numpy as np

from tests.backend.gpu import emulator
from tinytensor.backend.gpu import launch

try:
    import cupy as REAL
except ImportError:
    REAL = None


class ndarray(np.ndarray):
    """An array "on the GPU"."""

    __module__ = "cupy"

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        refuse_numpy(*inputs, *(out or ()), *options.values())
        if out is not None:
            options["out"] = tuple(on_cpu(o) for o in out)
        result = getattr(ufunc, method)(*map(on_cpu, inputs), **{k: on_cpu(v) for k, v in options.items()})
        return out[0] if out is not None else on_gpu(result)

    def __array_function__(self, function, types, args, kwargs):
        return wrap(function)(*args, **kwargs)

    def __getitem__(self, index):
        return on_gpu(on_cpu(self)[on_cpu(index)])

    def __setitem__(self, index, value):
        refuse_numpy(value)
        on_cpu(self)[on_cpu(index)] = on_cpu(value)

    def get(self):
        return np.array(on_cpu(self))


def method(name):
    def call(self, *args, **kwargs):
        refuse_numpy(*args, *kwargs.values())
        return on_gpu(getattr(on_cpu(self), name)(*map(on_cpu, args), **{k: on_cpu(v) for k, v in kwargs.items()}))

    return call


METHODS = ["sum", "mean", "max", "min", "var", "std", "any", "all", "argmax", "cumsum", "dot", "take", "astype", "copy"]
for name in METHODS:
    setattr(ndarray, name, method(name))


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
        if not moves:
            refuse_numpy(*args, *kwargs.values())
        return on_gpu(function(*map(on_cpu, args), **{k: on_cpu(v) for k, v in kwargs.items()}))

    return call


class Fake(types.ModuleType):
    """The module: NumPy's functions under CuPy's rules."""

    ndarray = ndarray

    def __getattr__(self, name):
        if REAL is not None and not hasattr(REAL, name):
            raise AttributeError(f"CuPy has no {name}")
        value = getattr(np, name)
        if isinstance(value, type) or not callable(value):
            return value
        return wrap(value, moves=name in ("asarray", "array", "ascontiguousarray"))


class Add:
    """cupy.add is a ufunc whose `at` the project uses."""

    def __call__(self, *args, **kwargs):
        return wrap(np.add)(*args, **kwargs)

    def at(self, target, index, values):
        refuse_numpy(values)
        np.add.at(on_cpu(target), on_cpu(index), on_cpu(values))


class Pool:
    def used_bytes(self):
        return 3 << 20

    def total_bytes(self):
        return 5 << 20

    def free_all_blocks(self):
        pass


def install(monkeypatch) -> Fake:
    """Put the stand-in in CuPy's place, and the emulator in the GPU's."""
    fake = Fake("cupy")
    fake.add = Add()
    tricks = {name: wrap(getattr(np.lib.stride_tricks, name)) for name in ("as_strided", "sliding_window_view")}
    fake.lib = types.SimpleNamespace(stride_tricks=types.SimpleNamespace(**tricks))
    runtime = types.SimpleNamespace(memGetInfo=lambda: (1 << 30, 8 << 30), CUDARuntimeError=RuntimeError)
    out_of_memory = type("OutOfMemoryError", (MemoryError,), {})
    fake.cuda = types.SimpleNamespace(is_available=lambda: True, runtime=runtime,
                                      memory=types.SimpleNamespace(OutOfMemoryError=out_of_memory))
    fake.get_default_memory_pool = Pool
    monkeypatch.setitem(__import__("sys").modules, "cupy", fake)
    monkeypatch.setattr(launch, "run", emulator.run)
    return fake
