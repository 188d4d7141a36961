"""Embedding: a learned vector for each token."""

from __future__ import annotations

from nn import init
from nn.module import Module, Parameter
from tinytensor import Tensor, ops


class Embedding(Module):
    """ids (...) -> (..., width): row `id` of `weight`, which is (rows, width)."""

    def __init__(self, rows: int, width: int, weight_init: init.Initializer = init.normal(0.02)):
        self.weight = Parameter.make((rows, width), weight_init)

    def __call__(self, ids) -> Tensor:
        return ops.embedding(self.weight, ids)
