"""Dropout: in training a random share of the values becomes 0; in evaluation nothing happens."""

from __future__ import annotations

from nn.module import Module
from tinytensor import Tensor, ops


class Dropout(Module):
    """Drop each value with probability p while training, scaling the others by 1 / (1 - p) (Srivastava et al. 2014)."""

    def __init__(self, p: float):
        if not 0 <= p < 1:
            raise ValueError(f"dropout {p} is not a share in [0, 1)")
        self.p = p

    def __call__(self, x: Tensor) -> Tensor:
        return ops.dropout(x, self.p) if self.training else x
