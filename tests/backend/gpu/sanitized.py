"""The kernels' tests with the address and the undefined-behaviour sanitizer built into the emulated kernels.

    python -m tests.backend.gpu.sanitized                              all tests of kernels; some minutes
    python -m tests.backend.gpu.sanitized tests/backend/gpu/test_rows.py -k softmax

They find what the emulator's guarded pages cannot: an index beyond an array in registers or static shared memory, the
few bytes between an array and its page's end, misaligned vectors, shifts and sums of integers that overflow. The first
finding ends the run with a report of the line. (Races are looked for by running threads in three orders, see emulator.)
"""

import os
import subprocess
import sys

TESTS = [f"tests/backend/gpu/test_{name}.py" for name in ("rows", "lstm_and_integers", "attention")]


def libraries() -> list[str]:
    """Where g++ keeps the two libraries; a bare name for one that it lacks."""
    return [subprocess.run(["g++", f"-print-file-name=lib{name}.so"], capture_output=True, text=True).stdout.strip()
            for name in ("asan", "ubsan")]


def environment() -> dict[str, str]:
    """The sanitizers' libraries must be in the process before anything else is."""
    # Python keeps memory to its end, and lets its own signal handlers be replaced: neither is a finding.
    options = "detect_leaks=0:detect_stack_use_after_return=0:allow_user_segv_handler=1"
    return os.environ | {"SANITIZED": "1", "LD_PRELOAD": " ".join(libraries()), "ASAN_OPTIONS": options,
                         "UBSAN_OPTIONS": "print_stacktrace=1"}


if __name__ == "__main__":
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-n", "0", *(sys.argv[1:] or TESTS)]
    sys.exit(subprocess.run(command, env=environment()).returncode)
