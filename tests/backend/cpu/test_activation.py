from math import erf, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.backend.cpu.reference import DTYPES, assert_close, normal, quick, scattered
from tinytensor.backend import cpu


def exact(x):
    return np.array([v * (1 + erf(v / sqrt(2))) / 2 for v in x.ravel().tolist()]).reshape(x.shape)


def tanh_form(x):
    return x / 2 * (1 + np.tanh(sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("approximate", "formula"), [(False, exact), (True, tanh_form)])
def test_gelu_is_its_formula_over_its_whole_range(approximate, formula, dtype):
    x = np.linspace(-30, 30, 40001).astype(dtype)
    y, slope = cpu.gelu(x, approximate)
    assert y.dtype == slope.dtype == dtype
    # An absolute error: near 30 float32 itself is spaced 2e-6 apart, which 2e-5 relative to 30 covers.
    assert np.abs(y - formula(x.astype(np.float64))).max() < (1e-6 if dtype == np.float32 else 1e-14)


@pytest.mark.parametrize(("approximate", "formula"), [(False, exact), (True, tanh_form)])
def test_gelu_slope_is_the_derivative(approximate, formula):
    x = np.linspace(-15, 15, 3001)
    numeric = (formula(x + 1e-5) - formula(x - 1e-5)) / 2e-5
    assert np.abs(cpu.gelu(x, approximate)[1] - numeric).max() < 1e-9
    assert np.abs(cpu.gelu(x.astype(np.float32), approximate)[1] - numeric).max() < 2e-6


@quick
@given(x=arrays(np.float32, st.integers(0, 50), elements=st.floats(-(2.0**60), 2.0**60, width=32)),
       approximate=st.booleans())
def test_gelu_lies_between_0_and_x_up_to_its_dip(x, approximate):
    y, slope = cpu.gelu(x, approximate)
    assert ((y >= np.minimum(x, 0)) & (y >= -0.1701) & (y <= np.maximum(x, 0))).all()
    assert ((slope > -0.13) & (slope < 1.13)).all()


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0, 3), (3, 4), (70001,)])
@pytest.mark.parametrize("approximate", [False, True])
def test_gelu_takes_any_shape(shape, approximate):
    x = normal(1, shape, np.float32)
    y, slope = cpu.gelu(x, approximate)
    assert y.shape == slope.shape == shape
    assert cpu.gelu(x, approximate, need_slope=False)[1] is None
    assert (cpu.gelu(x, approximate, need_slope=False)[0] == y).all()
    assert (cpu.gelu(scattered(x), approximate)[0] == y).all()


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 0, 4), (2, 3, 0), (5, 60, 1000)])
@pytest.mark.parametrize("approximate", [False, True])
def test_a_bias_is_added_first_and_its_gradient_is_the_sum_over_the_rows(shape, approximate):
    x, bias, dy = normal(1, shape), normal(2, shape[-1:]), normal(3, shape)
    y, slope = cpu.gelu(x, approximate, bias=bias)
    want_y, want_slope = cpu.gelu(x + bias, approximate)
    assert (y == want_y).all() and (slope == want_slope).all()
    assert (cpu.gelu(scattered(x), approximate, need_slope=False, bias=bias)[0] == y).all()
    for one in (dy, scattered(dy)):
        dx, dbias = cpu.gelu_backward(one, slope, need_bias=True)
        assert (dx == dy * slope).all()
        assert_close(dbias, (dy * slope).reshape(-1, shape[-1]).sum(axis=0) if dx.size else np.zeros(shape[-1:]), 10)


def test_gelu_backward_is_dy_times_slope():
    dy, slope = normal(1, (3, 4)), normal(2, (3, 4))
    dx, dbias = cpu.gelu_backward(dy, slope)
    assert dbias is None
    assert_close(dx, dy * slope)


@pytest.mark.parity
@pytest.mark.parametrize("approximate", [False, True])
def test_gelu_and_its_gradient_match_torch(approximate):
    torch = pytest.importorskip("torch")
    x = torch.linspace(-9, 9, 5001, requires_grad=True)
    want = torch.nn.functional.gelu(x, approximate="tanh" if approximate else "none")
    want.sum().backward()
    y, slope = cpu.gelu(x.detach().numpy(), approximate)
    assert np.abs(y - want.detach().numpy()).max() < 1e-6
    assert np.abs(slope - x.grad.numpy()).max() < 3e-6
