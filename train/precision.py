"""Where a run computes and in what precision: --device, --dtype, and the scaling that float16 gradients need.

float16 holds nothing below 6e-8, and many gradients are smaller. So the loss is multiplied by a large number before
backward, and the gradients divided by it before the update (Micikevicius et al. 2018, arXiv:1710.03740, section 3.2).
The number is as large as it can be: an overflow halves it and skips that update, and long success doubles it. bfloat16
has float32's range and needs none of this.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from tinytensor import backend

DTYPES = ("float32", "bfloat16", "float16")


def check_device(device: str, dtype: str, workers: int) -> None:
    """One sentence if this machine, or the project, cannot train like that."""
    if device not in backend.DEVICES:
        raise ValueError(f"unknown device {device!r}; choose from {', '.join(backend.DEVICES)}")
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; choose from {', '.join(DTYPES)}")
    if device == "cpu" and dtype != "float32":
        raise ValueError(f"dtype {dtype} is slower than float32 on a CPU; leave out --dtype, or add --device cuda")
    if device == "cuda" and workers > 1:
        raise ValueError(f"one worker drives the GPU, not {workers}; leave out --workers")


def compute_dtype(name: str) -> np.dtype:
    """The NumPy type of that name; bfloat16 comes from ml_dtypes."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise ValueError("dtype bfloat16 needs ml_dtypes; install it with: pip install 'tinytensor[gpu]'") from None
    return np.dtype(ml_dtypes.bfloat16)


class LossScale:
    """What the loss is multiplied by before backward: 1, and for float16 as much as the gradients can take."""

    PATIENCE = 1000  # good updates before the scale is tried at twice its size
    LARGEST = 2.0**24

    def __init__(self, dtype: str, value: float = 2.0**15):
        self.dynamic = dtype == "float16"
        self.value = value if self.dynamic else 1.0
        self.good = 0

    def overflowed(self) -> bool:
        """Note that gradients were not finite. Whether a smaller scale may help, so that the update is just skipped."""
        self.good = 0
        if self.value <= 1:
            return False
        self.value /= 2
        return True

    def succeeded(self) -> None:
        self.good += 1
        if self.dynamic and self.good == self.PATIENCE:
            self.value = min(2 * self.value, self.LARGEST)
            self.good = 0


def peak_bytes(device: str, recorded=None) -> int | None:
    """The most bytes that the arrays on the GPU have taken together (CuPy's pool never shrinks); None on a CPU.

    recorded: a CUDA graph, which has a pool of its own.
    """
    if device == "cpu":
        return None
    import cupy

    pools = [cupy.get_default_memory_pool(), *([recorded.pool] if recorded else [])]
    return sum(pool.total_bytes() for pool in pools)


@contextlib.contextmanager
def explaining_lack_of_memory() -> Iterator[None]:
    """Turn CuPy's OutOfMemoryError into a sentence about what was asked for, what was there, and what to turn down."""
    try:
        yield
    except MemoryError as error:
        if not type(error).__module__.startswith("cupy"):
            raise
        import cupy

        pool = cupy.get_default_memory_pool()
        free, total = cupy.cuda.runtime.memGetInfo()
        in_use, megabytes = pool.used_bytes(), lambda n: f"{n / 2**20:,.0f} MB"
        raise ValueError(
            f"the GPU ran out of memory ({str(error).rstrip('.')}): {megabytes(in_use)} are in use by this run and "
            f"{megabytes(free + pool.total_bytes() - in_use)} of {megabytes(total)} are free; turn down --batch (and "
            "turn up --accumulate), --context, --width, --samples or --beams, or take --dtype bfloat16"
        ) from None
