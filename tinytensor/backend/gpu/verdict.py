"""Whether a step's loss and gradient are finite, and what the update multiplies the gradient by, decided on the GPU."""

from __future__ import annotations

import numpy as np

from tinytensor.backend.gpu.launch import launch
from tinytensor.backend.gpu.optimizer import THREADS, sums_of_squares


class Verdict:
    """Of one step, for optimizers on the GPU to read (as grad_scale) and for Python to read when it likes.

    grad: all gradients, contiguous; loss: float64, 0-d, both on the GPU.   clip: the longest gradient, 0: any.
    before: the verdict of the step before. Once one was bad, none after it lets an update happen.
    """

    def __init__(self, grad, loss, clip: float, before: Verdict | None = None):
        import cupy

        sums = sums_of_squares(grad)
        self.numbers = cupy.empty(4, np.float64)  # loss, norm, what to multiply by, whether all is finite
        launch("optimizer.cu", f"judge<{THREADS}>", (1,), THREADS,
               (sums, sums.size, loss, before.numbers if before else None, self.numbers, float(clip)))
        # Their way to the CPU begins now, behind this step and not behind the next one.
        self.memory = cupy.cuda.alloc_pinned_memory(self.numbers.nbytes)
        self.copy = np.frombuffer(self.memory, np.float64, 4)
        self.numbers.get(out=self.copy, blocking=False)
        self.arrived = cupy.cuda.Event(disable_timing=True)
        self.arrived.record()

    def read(self) -> tuple[float, float, float, bool]:
        """(loss, norm, what the gradient was multiplied by, whether both are finite), once the GPU is so far."""
        self.arrived.synchronize()
        loss, norm, scale, finite = self.copy.tolist()
        return loss, norm, scale, finite > 0

    def __float__(self) -> float:
        return self.read()[0]
