"""Ops that are no kernels, on the GPU's arrays: the same numbers as on the CPU, with functions that CuPy has."""

import numpy as np
import pytest

import tinytensor as tt
from tests.helpers import assert_close
from tinytensor import Tensor, backend, ops

OPS = [
    lambda a: a.log1p().softplus(), lambda a: a.leaky_relu(0.2).abs(), lambda a: a**a, lambda a: 2**a, lambda a: a**1.5,
    lambda a: a.prod(1), lambda a: a.prod((0, 1)), lambda a: a.cumsum(-1), lambda a: a.std(0, correction=1),
    lambda a: a.var((0, 1)), lambda a: a.logsumexp([0]), lambda a: a.max(1), lambda a: a.mean(0, keepdims=True),
    lambda a: a.sort(0)[0], lambda a: a.sort(descending=True)[0], lambda a: a.topk(2)[0],
    lambda a: a.topk(1, 0, False)[0],
    lambda a: a.gather(1, np.array([[0, 3, 3]])), lambda a: ops.take_along_axis(a, a.argsort(0), 0),
    lambda a: a * a.argmax(1, keepdims=True), lambda a: a.tril(1), lambda a: a.triu(), lambda a: a.repeat(2, 1, 3),
    lambda a: a.flatten(), lambda a: a.squeeze(), lambda a: a.flip((0, 1)), lambda a: a.split([1, 2])[1],
    lambda a: a.clip(0.7, 1.2),
    lambda a: ops.einsum("ij,kj->ik", a, a), lambda a: ops.einsum("ij,ij->", a, a),
    lambda a: ops.einsum("ii->i", a[:, :3]),
    lambda a: a[(0, 0, 1), :], lambda a: ops.maximum(a, a.detach()), lambda a: ops.pad(a, [(1, 0), (0, 2)], 0.5),
    lambda a: a * ((a > 1) & ~(a > 1.5) | (a < 0.6)), lambda a: a + (a > 1).any(1, keepdims=True),
    lambda a: a - (a > 1).mean(),
    lambda a: (a * 3).astype(np.int64) / 2 + a, lambda a: a[0, 0].softmax() * a.sum(),
    lambda a: a[0, 0].swapaxes(0, 0) + a,
    lambda a: tt.checkpoint(lambda b: (b.exp(), b.sin()), a)[1], lambda a: ops.concatenate([a, (a > 1)]),
    lambda a: a == a,
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(OPS)))
def test_values_and_gradients_are_the_cpus(cuda, index):
    x = np.random.default_rng(index).uniform(0.5, 2, (3, 4)).astype(np.float32)
    results = []
    for device in ("cpu", "cuda"):
        a = Tensor(backend.to_device(x, device), requires_grad=True)
        y = OPS[index](a)
        if y.requires_grad:
            y.sum().backward()
        results.append([backend.to_numpy(array) for array in (y.data, a.grad) if array is not None])
        assert y.device == device
    for right, got in zip(*results, strict=True):
        assert got.dtype == right.dtype
        assert_close(got, right, 1e-6)


def test_a_graph_left_standing_gives_the_same_gradient_again(cuda):
    x = np.random.default_rng(0).normal(size=(5, 24)).astype(np.float32)
    a, w = (Tensor(backend.to_device(part, "cuda"), requires_grad=True) for part in (x, np.tile(x, (2, 1))))
    loss = ops.linear_cross_entropy(a, w, np.arange(5))
    once = [backend.to_numpy(part) for part in tt.grad(loss, [a, w], retain_graph=True)]
    again = tt.grad(loss, [a, w])
    for got, right in zip(again, once):
        assert_close(backend.to_numpy(got), right, 0)


@pytest.mark.parametrize("op", [ops.sum, ops.mean, ops.var, ops.std, ops.logsumexp, lambda a: a.cumsum(0)[-1]])
def test_sums_of_16_bit_floats_are_rounded_once(cuda, op):
    x = np.full(4000, 0.1, np.float16)
    x[::2] = 0.2
    y = op(Tensor(backend.to_device(x, "cuda")))
    assert y.dtype == np.float16
    assert_close(y.numpy(), op(Tensor(x.astype(np.float64))).data, 1e-3)


def test_tensors_on_the_gpu_read_single_values(cuda):
    x = Tensor(np.array(2.5)).to("cuda")
    assert float(x) == 2.5 and int(x) == 2 and f"{x:.2f}" == "2.50" and x.tolist() == 2.5
