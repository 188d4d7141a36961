"""What the tests of the GPU kernels share: the emulator in the GPU's place."""

import numpy as np
import pytest

from tests.backend.gpu import emulator, fake_cupy
from tinytensor.backend.gpu import cublas, launch


@pytest.fixture
def emulated(monkeypatch):
    """Kernels that are started run under the CUDA emulator, on NumPy arrays."""
    if not emulator.available():
        pytest.skip("the CUDA emulator needs g++, which is not installed")
    monkeypatch.setattr(launch, "run", emulator.run)
    monkeypatch.setattr(launch, "device_attributes", emulator.device_attributes)
    library = fake_cupy.CuBLAS()
    library.stream, library.workspace = fake_cupy.Stream.current.ptr, cublas.WORKSPACE
    monkeypatch.setattr(cublas, "library", lambda: library)
    monkeypatch.setattr(cublas, "handle", lambda: None)
    monkeypatch.setattr(cublas, "follow", lambda: None)
    return monkeypatch


@pytest.fixture
def cuda(monkeypatch):
    """CuPy's stand-in, and the emulator for the kernels: whole models and runs take the GPU's path."""
    if not emulator.available():
        pytest.skip("the CUDA emulator needs g++, which is not installed")
    return fake_cupy.install(monkeypatch)


@pytest.fixture
def bfloat16():
    return np.dtype(pytest.importorskip("ml_dtypes", reason="NumPy has no bfloat16 without ml_dtypes").bfloat16)
