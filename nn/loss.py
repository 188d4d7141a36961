"""Losses as modules, for those who like to keep their options in one place; the functions are in tinytensor.ops."""

from __future__ import annotations

from dataclasses import dataclass

from nn.module import Module
from tinytensor import Tensor, ops


@dataclass(eq=False)  # compared by identity, like every module
class CrossEntropyLoss(Module):
    """Mean negative log probability of the right class, in nats: see tinytensor.ops.cross_entropy.

    logits (..., V), targets (...) integers -> a scalar. Targets equal to `ignore_index` do not count.
    """

    ignore_index: int = -100
    label_smoothing: float = 0.0
    z_loss: float = 0.0

    def __call__(self, logits: Tensor, targets) -> Tensor:
        return ops.cross_entropy(
            logits,
            targets,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            z_loss=self.z_loss,
        )


class MSELoss(Module):
    """mean((prediction - target)^2)"""

    def __call__(self, prediction: Tensor, target) -> Tensor:
        return ops.mse_loss(prediction, target)
