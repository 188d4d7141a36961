"""Inputs for tests: Tensors with given shapes and values that do not depend on the order of tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, mutually_broadcastable_shapes

from tinytensor import Tensor

shapes = array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)
filled = array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)  # has at least one axis and one element
pairs = mutually_broadcastable_shapes(num_shapes=2, max_dims=4, min_side=0, max_side=3).map(lambda s: s.input_shapes)
seeds = st.integers(0, 1000)


def tensor(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0, grad: bool = True) -> Tensor:
    """A float64 Tensor with values drawn uniformly from [low, high)."""
    return Tensor(np.random.default_rng([seed, *shape]).uniform(low, high, shape), requires_grad=grad)


def last_keys(T: int, S: int, window: int | None):
    """The mask (T, S) of a causal window: each query's last `window` keys. None without one."""
    return None if window is None else np.arange(T)[:, None] + S - T - np.arange(S) < window


def apart(*shape: int, seed: int = 0, gap: float = 0.1) -> Tensor:
    """A float64 Tensor whose values all differ by at least `gap`, and from 0: safe for kinks and ties."""
    size = int(np.prod(shape))
    steps = np.random.default_rng([seed, *shape]).permutation(size) - size // 2 + 0.5
    return Tensor((steps * gap).reshape(shape), requires_grad=True)


def gradient(fn, *inputs: Tensor) -> list[np.ndarray]:
    """The gradients of fn(*inputs).sum() with respect to the inputs."""
    for x in inputs:
        x.grad = None
    fn(*inputs).sum().backward()
    return [x.grad for x in inputs]


def assert_close(got, expected, tolerance: float) -> None:
    """Every element within `tolerance` of what is expected, relative to the largest of 1 and its own size."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape, f"shape {got.shape}, expected {expected.shape}"
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


def assert_same_as_torch(ours, theirs, *inputs: Tensor, tolerance: float = 1e-10) -> None:
    """ours(*inputs) and theirs(*the same as torch tensors): equal values and, for random dL/dy, equal gradients.

    The default tolerance is for float64, where two right ways to compute differ in the last few of 16 digits.
    """
    import torch

    twins = [torch.tensor(x.data, requires_grad=x.requires_grad) for x in inputs]
    copies = [Tensor(x.data.copy(), requires_grad=x.requires_grad) for x in inputs]
    y, z = ours(*copies), theirs(*twins)
    assert y.shape == tuple(z.shape)
    assert_close(y.data, z.detach().numpy(), tolerance)
    start = np.random.default_rng(7).standard_normal(y.shape).astype(y.dtype)
    y.backward(start)
    z.backward(torch.tensor(start))
    for x, twin in zip(copies, twins):
        if x.requires_grad:
            assert_close(x.grad, twin.grad.numpy(), tolerance)
