import platform
import subprocess
import sys

from tinytensor.backend import cpu, half


def test_tune_malloc_is_true_exactly_on_glibc():
    # In a process of its own: the setting lasts as long as the process.
    code = "from tinytensor.backend import cpu; import numpy as np; print(cpu.tune_malloc(), np.ones(10**6).sum())"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert out == [str(platform.libc_ver()[0] == "glibc"), "1000000.0"]


def test_every_kernel_has_a_form_for_16_bits():
    assert {name for name in vars(cpu) if callable(vars(cpu)[name])} <= set(vars(half))
