"""Dropout: switch off a random share of the elements while training, so that no element is relied on alone.

Srivastava et al. 2014. The survivors are scaled up ("inverted" dropout), so evaluation needs no change.
"""

from __future__ import annotations

from tinytensor import random
from tinytensor.backend import backend_of
from tinytensor.tensor import Tensor, record


def dropout(x: Tensor, p: float) -> Tensor:
    """y = x * keep / (1 - p), each element of keep 1 with probability 1 - p, else 0.   dL/dx = dL/dy * keep / (1 - p)

    p: the share to drop, 0 <= p < 1. Draws from this thread's stream (tinytensor.random).
    """
    check_share("dropout", p)
    if p == 0:
        return x
    kernels = backend_of(x.data)
    y, mask = kernels.dropout(x.data, p, random.generator())
    return record("dropout", y, (x,), lambda g: (kernels.dropout_backward(g, mask, p),))


def check_share(name: str, p: float) -> None:
    if not 0 <= p < 1:
        raise ValueError(f"{name}: p={p} is not a share in [0, 1)")
