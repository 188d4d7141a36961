import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinytensor as tt
from tests.helpers import assert_close, gradient, seeds, shapes, tensor
from tinytensor import Tensor, gradcheck, ops


@given(shape=shapes, p=st.floats(0.05, 0.9), seed=seeds)
def test_every_element_is_dropped_or_scaled_up_and_so_is_its_gradient(shape, p, seed):
    x = tensor(*shape, seed=seed, low=1)
    tt.manual_seed(seed)
    y = ops.dropout(x, p)
    kept = y.data != 0
    assert_close(y.data, np.where(kept, x.data / (1 - p), 0), 1e-14)
    y.backward(np.ones(shape))
    assert_close(x.grad, np.where(kept, 1 / (1 - p), 0.0), 1e-14)


def test_its_gradient_is_that_of_finite_differences():
    def fn(x):
        tt.manual_seed(3)
        return ops.dropout(x, 0.4)

    gradcheck(fn, [tensor(3, 4)])


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_that_is_dropped_is_p(p):
    dropped = (ops.dropout(Tensor(np.ones(100_000, np.float32)), p).data == 0).mean()
    assert abs(dropped - p) < 5 * np.sqrt(p * (1 - p) / 100_000)  # five standard deviations


def test_neighbours_are_dropped_independently():
    dropped = ops.dropout(Tensor(np.ones(100_001, np.float32)), 0.5).data == 0
    for step in (1, 2, 3, 4, 64):
        agree = (dropped[step:] == dropped[:-step]).mean()
        assert abs(agree - 0.5) < 5 * 0.5 / np.sqrt(100_000)


def test_the_same_seed_drops_the_same_elements():
    x = tensor(50)
    tt.manual_seed(1)
    first, second = ops.dropout(x, 0.5).data, ops.dropout(x, 0.5).data
    tt.manual_seed(1)
    np.testing.assert_array_equal(ops.dropout(x, 0.5).data, first)
    assert (first != second).any()


def test_dropping_nothing_is_the_tensor_itself():
    x = tensor(3)
    assert ops.dropout(x, 0) is x


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, float("nan")])
def test_what_is_no_share_is_refused(p):
    with pytest.raises(ValueError, match=f"dropout: p={p} is not a share"):
        ops.dropout(tensor(3), p)


def test_float32_stays_float32():
    x = Tensor([1.0, 2.0], requires_grad=True)
    assert ops.dropout(x, 0.5).dtype == gradient(lambda a: ops.dropout(a, 0.5), x)[0].dtype == np.float32
