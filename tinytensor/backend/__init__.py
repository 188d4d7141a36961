"""Which arrays we compute on, and the kernels that go with them.

Two kinds of array: NumPy's on the CPU and CuPy's on a GPU. Nothing above this package asks which one it has: an op
calls `backend_of(array)` for the fused kernels and `array_module(array)` (Tensor.xp) for everything else. Both backends
export the same functions. CuPy is imported only when a CuPy array or the device "cuda" is met.
"""

import importlib

import numpy as np

from tinytensor.backend import cpu, half

DEVICES = ("cpu", "cuda")


def is_array(value) -> bool:
    """Whether the value is a NumPy or CuPy array."""
    return isinstance(value, np.ndarray) or _is_cupy(value)


def as_array(value):
    """NumPy's and CuPy's arrays as they are; lists and numbers as an array of NumPy's."""
    return value if is_array(value) else np.asarray(value)


def array_module(array):
    """numpy or cupy: the module this array belongs to."""
    return importlib.import_module("cupy") if _is_cupy(array) else np


def backend_of(array):
    """The kernels for this array: the module backend.cpu or backend.gpu, or half for floats of 16 bits on the CPU."""
    if _is_cupy(array):
        return importlib.import_module("tinytensor.backend.gpu")
    return half if array.dtype.itemsize == 2 and is_float(array.dtype) else cpu


def is_float(dtype) -> bool:
    """Whether numbers of this type can have gradients; bfloat16, which NumPy knows from ml_dtypes only, counts."""
    return dtype.kind == "f" or dtype.name == "bfloat16"


def device_of(array) -> str:
    return "cuda" if _is_cupy(array) else "cpu"


def to_device(array, device: str):
    """The array on the device "cpu" or "cuda"; itself where it is there already."""
    if device not in DEVICES:
        raise ValueError(f"unknown device {device!r}; choose from {', '.join(DEVICES)}")
    if device_of(array) == device:
        return array
    if device == "cpu":
        return to_numpy(array)
    try:
        cupy = importlib.import_module("cupy")
    except ImportError:
        raise ValueError("device 'cuda' needs CuPy; in the checkout: pip install -e '.[gpu]'") from None
    if not cupy.cuda.is_available():
        raise ValueError("device 'cuda' was asked for, but CuPy finds no usable GPU on this machine")
    return importlib.import_module("tinytensor.backend.gpu.launch").moved(np.asarray(array))


def beside(array, value):
    """Numbers, lists and NumPy arrays (masks, ids) as an array on the device of `array`; arrays there are untouched."""
    if is_array(value) and device_of(value) == device_of(array):
        return value
    value = np.asarray(value)  # CuPy's arrays refuse: nothing leaves the GPU silently
    return to_device(value, device_of(array))


def to_numpy(array) -> np.ndarray:
    return array.get() if _is_cupy(array) else np.asarray(array)


def _is_cupy(value) -> bool:
    return type(value) is not np.ndarray and type(value).__module__.partition(".")[0] == "cupy"
