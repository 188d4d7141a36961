import platform
import subprocess
import sys

import numpy as np
import pytest

from tests.backend.cpu.reference import assert_close, normal
from tinytensor.backend import cpu, half
from tinytensor.backend.cpu import arrays


def test_tune_malloc_is_true_exactly_on_glibc():
    # In a process of its own: the setting lasts as long as the process.
    code = "from tinytensor.backend import cpu; import numpy as np; print(cpu.tune_malloc(), np.ones(10**6).sum())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out == [str(platform.libc_ver()[0] == "glibc"), "1000000.0"]


def test_every_kernel_has_a_form_for_16_bits():
    assert {name for name in vars(cpu) if callable(vars(cpu)[name])} <= set(vars(half))


@pytest.mark.parametrize("avx512", [True, False])
@pytest.mark.parametrize("M, K, N", [(1024, 256, 16), (24, 40, 3), (100, 7, 1), (8, 3, 5), (7, 300, 2000), (0, 3, 2),
                                     (16, 0, 3), (16, 3, 0)])  # fmt: skip
def test_a_product_is_the_same_whatever_is_done_at_once(M, K, N, avx512, monkeypatch):
    monkeypatch.setattr(arrays, "AVX512", avx512)
    a, b = normal(1, (M, K), np.float32), normal(2, (K, N), np.float32)
    out = np.full((M, N), np.nan, np.float32)
    assert arrays.small_matmul(a, b, out) is out
    want = (a.astype(np.float64) @ b).astype(np.float32)
    assert_close(out, want)
    assert_close(arrays.matmul(a, b), want)
