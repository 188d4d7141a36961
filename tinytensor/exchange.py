"""Tensors among other libraries' arrays: NumPy's `np.asarray(tensor)`, and DLPack, by which PyTorch, CuPy, JAX and
others hand arrays to one another where they lie, without a copy.
"""

import numpy as np

from tinytensor.tensor import Tensor

CUDA = 2  # DLPack's number for it


def as_numpy(tensor: Tensor, dtype=None, copy: bool | None = None) -> np.ndarray:
    """What np.asarray(tensor) gives: the array itself. From a GPU only np.array(tensor), which asks for a copy."""
    if tensor.device != "cpu" and not copy:
        raise TypeError(f"this tensor is on {tensor.device}, and NumPy asked for no copy; .numpy() makes one")
    return np.array(tensor.numpy(), dtype, copy=copy)


def dlpack(tensor: Tensor, *, stream=None, max_version=None, dl_device=None, copy: bool | None = None):
    """The array as a DLPack capsule, for another library's `from_dlpack(tensor)`; both then share the memory."""
    if tensor.requires_grad:
        raise BufferError("a tensor that requires a gradient is not shared; give tensor.detach() to from_dlpack")
    return tensor.data.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)


def from_dlpack(array) -> Tensor:
    """A Tensor that shares the memory of another library's array (PyTorch, CuPy, JAX, ...), on the device it is on."""
    if array.__dlpack_device__()[0] != CUDA:
        return Tensor(np.from_dlpack(array))
    import cupy  # here, as most machines have none

    return Tensor(cupy.from_dlpack(array))
