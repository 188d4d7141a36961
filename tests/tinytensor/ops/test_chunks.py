import gc
import tracemalloc

import numpy as np
import pytest

from tests.helpers import assert_close, tensor
from tinytensor import Tensor, ops
from tinytensor.ops import chunks


def both(monkeypatch, chunk: int, **how) -> list:
    """Value and gradients of x, weight and bias: all rows at once, and a few at a time."""
    targets, found = np.array([[3, 0, 6, -100, 2], [1, 1, -100, 5, 4]]), []
    for most in (10**9, max(chunk, 7)):
        monkeypatch.setattr(chunks, "MOST", most)
        monkeypatch.setattr(chunks, "CHUNK", chunk)
        inputs = [tensor(2, 5, 4), tensor(7, 4, seed=1), tensor(7, seed=2)]
        loss = ops.linear_cross_entropy(inputs[0], inputs[1], targets, inputs[2], **how)
        (loss * np.arange(1.0, 1 + loss.size).reshape(loss.shape)).sum().backward()
        found.append([loss.data, *(x.grad for x in inputs)])
    return found


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("chunk", [1, 7, 21, 63, 69])
@pytest.mark.parametrize("more", [{}, {"label_smoothing": 0.1, "z_loss": 0.01}], ids=str)
def test_the_loss_in_chunks_is_the_loss_of_all_rows(monkeypatch, chunk, reduction, more):
    for whole, parts in zip(*both(monkeypatch, chunk, reduction=reduction, **more)):
        assert whole.shape == parts.shape
        assert_close(parts, whole, 1e-13)  # float64: the sums over rows are taken in another order


def test_never_are_all_logits_there(monkeypatch):
    x, weight = Tensor(np.ones((2000, 8), np.float32), requires_grad=True), tensor(500, 8)
    weight = Tensor(weight.data.astype(np.float32), requires_grad=True)
    monkeypatch.setattr(chunks, "MOST", 50 * 500)
    monkeypatch.setattr(chunks, "CHUNK", 50 * 500)
    gc.collect()
    tracemalloc.start()
    try:
        ops.linear_cross_entropy(x, weight, np.zeros(2000, int)).backward()
        assert tracemalloc.get_traced_memory()[1] < 2000 * 500 * 4 / 4
    finally:
        tracemalloc.stop()
