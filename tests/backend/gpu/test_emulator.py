"""The CUDA emulator itself: its tensor core against published layouts, and whether it notices what is wrong."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.backend.gpu import emulator, sanitized
from tinytensor.backend.gpu import launch

pytestmark = pytest.mark.skipif(not emulator.available(), reason="the CUDA emulator needs g++, which is not installed")


@pytest.fixture
def run(monkeypatch):
    return run_probe


def run_probe(name, block, *arguments, shared=0):
    """Run one of the kernels of probes.cu in one block."""
    probes = (Path(__file__).parent / "probes.cu").read_text()
    headers = launch.source_text("random.cuh")
    text = headers + "\n".join(line for line in probes.splitlines() if not line.startswith("#include"))
    emulator.run_text(text, name, (1,), (block,), arguments, shared)


def layout(lane_strides, value_shape, value_strides):
    """CUTLASS's notation for a fragment (cute/atom/mma_traits_sm80.hpp): (lane, value) -> index into the matrix."""
    places = np.zeros((32, int(np.prod(value_shape))), int)
    for lane in range(32):
        for value in range(places.shape[1]):
            index, rest = lane % 4 * lane_strides[0] + lane // 4 * lane_strides[1], value
            for size, stride in zip(value_shape, value_strides):
                index += rest % size * stride
                rest //= size
            places[lane, value] = index
    return places


def test_the_tensor_core_follows_the_published_layout(run):
    draw = np.random.default_rng(0).standard_normal
    A, B, C = draw((16, 16)).astype(np.float16), draw((16, 8)).astype(np.float16), draw((16, 8)).astype(np.float32)
    a = A.ravel(order="F")[layout((32, 1), (2, 2, 2), (16, 8, 128))]
    b = B.T.ravel(order="F")[layout((16, 1), (2, 2), (8, 64))]
    where = layout((32, 1), (2, 2), (16, 8))
    c = C.ravel(order="F")[where]
    run("probe_product<__half>", 32, a, b, c)
    right = (A.astype(float) @ B.astype(float) + C).ravel(order="F")[where]
    assert np.abs(c - right).max() < 1e-5


def test_ldmatrix_hands_out_rows_and_transposed_rows(run):
    matrices = np.arange(256, dtype=np.uint16).reshape(4, 8, 8)
    for transposed in (False, True):
        got = np.zeros((32, 4, 2), np.uint16)
        run(f"probe_load<{str(transposed).lower()}>", 32, matrices, got, shared=512)
        for index, matrix in enumerate(matrices):
            want = matrix.T if transposed else matrix
            assert (got[:, index] == want.reshape(32, 2)).all()


def test_rounding_to_sixteen_bits_equals_numpys(run, bfloat16):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 1 << 32, 20000, np.uint64).astype(np.uint32).view(np.float32)
    x = x[np.isfinite(x) & (np.abs(x) > 2e-38)]  # smaller numbers count as zero on the GPU
    for name, dtype in (("__half", np.dtype(np.float16)), ("__nv_bfloat16", bfloat16)):
        y = np.zeros(x.size, dtype)
        for start in range(0, x.size, 1024):
            part = slice(start, min(start + 1024, x.size))
            out = y[part].copy()
            run(f"probe_round<{name}>", 1024, x[part].copy(), out, out.size)
            y[part] = out
        with np.errstate(over="ignore"):
            assert (y.view(np.uint16) == x.astype(dtype).view(np.uint16)).all()


def philox(counter, key, rounds=7):
    """Philox 4x32 in Python's own integers, after the paper's figure."""
    c, k = list(counter), [key & 0xFFFFFFFF, key >> 32]
    for _ in range(rounds):
        high, low = divmod(0xD2511F53 * c[0], 1 << 32)
        high2, low2 = divmod(0xCD9E8D57 * c[2], 1 << 32)
        c = [high2 ^ c[1] ^ k[0], low2, high ^ c[3] ^ k[1], low]
        k = [(k[0] + 0x9E3779B9) % (1 << 32), (k[1] + 0xBB67AE85) % (1 << 32)]
    return c


def test_philox_gives_the_words_of_its_definition(run):
    # The published known answer of Random123 for 10 rounds, all zeros, holds the formula that checks 7 rounds.
    assert philox([0] * 4, 0, rounds=10) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    for counter, key in (([0] * 4, 0), ([1, 2, 3, 4], 0x123456789ABCDEF0)):
        words = np.zeros(4, np.uint32)
        run("probe_philox<0>", 1, np.array(counter, np.uint32), key, words)
        assert words.tolist() == philox(counter, key)


@pytest.mark.parametrize(
    "kernel, shared, what",
    [
        ("two_barriers", 0, "divergent __syncthreads"),
        ("early_exit", 0, "__syncthreads"),
        ("half_a_shuffle", 0, "divergence|names lanes|names a lane"),
        ("beyond_shared", 1024, "outside of every array"),
        ("beyond_array", 0, "outside of every array"),
        ("just_beyond_array", 0, "outside of every array|next to an array"),
    ],
)
def test_a_wrong_kernel_is_caught(run, kernel, shared, what):
    with pytest.raises(emulator.KernelError, match=what):
        run(f"{kernel}<0>", 128, np.zeros(128, np.int32), shared=shared)


def test_a_copy_that_was_not_waited_for_is_seen(run):
    out = np.zeros(32, np.int32)
    with pytest.raises(emulator.KernelError, match=r"exited with cp\.async pending"):
        run("forgotten_wait<0>", 32, np.arange(128, dtype=np.int32), out, shared=512)
    assert set(out.tolist()) == {0, -1}  # never the numbers that were on their way


def test_arguments_that_do_not_fit_the_parameters_are_refused(run):
    with pytest.raises(emulator.KernelError, match="was given 2 arguments"):
        run("two_barriers<0>", 32, np.zeros(2, np.int32), 1.0)


@pytest.mark.parametrize("kernel, value, what", [
    ("beyond_registers", 4, "out of bounds|stack-buffer-overflow"),
    ("beyond_static_shared", 1, "out of bounds|global-buffer-overflow"),
    ("overflowing_sum", 1, "signed integer overflow"),
    ("beyond_registers", 3, None),
])
def test_the_sanitizers_find_what_guarded_pages_cannot(kernel, value, what):
    """In a process of their own, as python -m tests.backend.gpu.sanitized starts them."""
    if not all(Path(path).is_absolute() for path in sanitized.libraries()):
        pytest.skip("this g++ comes without sanitizers")
    program = f"""
import numpy as np
from tests.backend.gpu.test_emulator import run_probe
run_probe("{kernel}<0>", 32, np.full(32, {value}, np.int32), np.zeros(32, np.int32))
print("went through")"""
    done = subprocess.run([sys.executable, "-c", program], env=sanitized.environment(), capture_output=True, text=True)
    if what is None:
        assert (done.returncode, done.stdout.strip()) == (0, "went through"), done.stderr[-2000:]
    else:
        assert done.returncode and re.search(what, done.stderr), done.stderr[-2000:]
