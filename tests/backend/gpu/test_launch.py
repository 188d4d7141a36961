"""How a kernel is started on a real GPU: what CuPy is given, which the emulator does not see."""

import numpy as np
import pytest

from tests.backend.gpu import emulator
from tinytensor.backend.gpu import launch


class Kernel:
    """A compiled kernel as CuPy has it."""

    max_dynamic_shared_size_bytes = 0

    def __call__(self, grid, block, arguments, *, shared_mem):
        self.started = grid, block, arguments, shared_mem


@pytest.fixture
def kernel(monkeypatch):
    made = Kernel()
    monkeypatch.setattr(launch, "compiled", lambda source, name: made)
    monkeypatch.setattr(launch, "device_attributes", emulator.device_attributes)
    monkeypatch.setattr(emulator, "gpu", emulator.GAMES)
    return made


def test_a_missing_array_is_eight_bytes_of_zeros(kernel):
    array = np.zeros(3, np.float32)
    launch.launch("a.cu", "a<float>", (2,), 64, (array, None, 0.0, 7))
    grid, block, arguments, shared = kernel.started
    assert (grid, block, shared) == ((2,), (64,), 0)
    assert arguments[0] is array and arguments[1:] == (0, 0.0, 7)
    assert [type(number) for number in arguments[1:]] == [int, float, int]


def test_much_shared_memory_is_asked_for_and_too_much_is_refused_with_both_numbers(kernel):
    launch.launch("a.cu", "a<float>", (1,), 64, (), 48 << 10)
    assert kernel.max_dynamic_shared_size_bytes == 0  # everyone has that
    launch.launch("a.cu", "a<float>", (1,), 64, (), 99 << 10)
    assert kernel.max_dynamic_shared_size_bytes == kernel.started[3] == 99 << 10
    with pytest.raises(ValueError, match=r"takes 100 KB of shared memory, .* at most 99 KB"):
        launch.launch("a.cu", "a<float>", (1,), 64, (), 100 << 10)


def test_nothing_is_started_on_an_empty_grid(kernel):
    launch.launch("a.cu", "a<float>", (4, 0, 1), 64, ())
    assert not hasattr(kernel, "started")
