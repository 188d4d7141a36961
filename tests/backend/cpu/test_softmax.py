import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backend.cpu.reference import DTYPES, assert_close, normal, numeric_gradient, quick, scattered
from tinytensor.backend import cpu

SHAPES = [(0, 5), (4, 0), (1, 1), (7,), (2, 3, 4), (1200, 65)]


def reference(x):
    x = x.astype(np.float64)
    e = np.exp(x - x.max(-1, keepdims=True, initial=-1e300))
    return e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_is_its_formula(shape, dtype):
    x = normal(1, shape, dtype, 3)
    y = cpu.softmax(x)
    assert y.dtype == dtype
    assert_close(y, reference(x))
    assert_close(cpu.softmax(x, log=True), np.log(reference(x)))
    assert_close(cpu.softmax(scattered(x)), y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_huge_and_masked_logits_give_exact_probabilities(dtype):
    x = np.array([[1e4, 1e4, -1e4], [-1e4, -1e4, -1e4], [0, 1e4, 2e4], [-np.inf, 0, 0]], dtype)
    half, third = [0.5, 0.5, 0], [1 / 3] * 3
    assert_close(cpu.softmax(x), np.array([half, third, [0, 0, 1], [0, 0.5, 0.5]]))
    assert_close(cpu.softmax(x[:3], log=True), np.array(
        [[np.log(0.5), np.log(0.5), np.log(0.5) - 2e4], [np.log(1 / 3)] * 3, [-2e4, -1e4, 0]]))


@quick
@given(rows=st.integers(1, 4), C=st.integers(1, 6), seed=st.integers(0, 99))
def test_softmax_gradients_are_finite_differences(rows, C, seed):
    x, dy = normal(seed, (rows, C)), normal(seed + 1, (rows, C))
    want = numeric_gradient(lambda x: np.sum(dy * reference(x)), x)
    np.testing.assert_allclose(cpu.softmax_backward(dy, cpu.softmax(x)), want, atol=1e-8)
    want = numeric_gradient(lambda x: np.sum(dy * np.log(reference(x))), x)
    np.testing.assert_allclose(cpu.softmax_backward(dy, cpu.softmax(x, log=True), log=True), want, atol=1e-8)


def test_softmax_gradients_hold_over_several_blocks_in_float32():
    x, dy = normal(1, (900, 100), np.float32), normal(2, (900, 100), np.float32)
    y = reference(x)
    assert_close(cpu.softmax_backward(dy, cpu.softmax(x)), y * (dy - (dy * y).sum(-1, keepdims=True)))
    assert_close(cpu.softmax_backward(dy, cpu.softmax(x, log=True), log=True), dy - y * dy.sum(-1, keepdims=True), 5)
