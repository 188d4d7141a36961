import numpy as np
import pytest

from tests.backend.cpu.reference import DTYPES, normal, scattered
from tinytensor.backend import cpu


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.999, 1.0])
def test_dropout_zeroes_a_fraction_p_and_scales_the_rest(p, dtype):
    x = np.ones((500, 401), dtype)
    y, mask = cpu.dropout(x, p, np.random.default_rng(1))
    assert y.dtype == dtype and mask.dtype == bool
    # 200500 draws: the fraction dropped has a standard deviation of at most 0.0011.
    assert abs(1 - mask.mean() - p) <= 0.005
    np.testing.assert_allclose(y, mask / (1 - p) if p < 1 else 0 * x, rtol=1e-6)
    if p in (0, 1):
        assert (mask == (p == 0)).all()


def test_the_gradient_passes_where_the_value_did():
    x, dy = normal(1, (30, 7)), normal(2, (30, 7))
    y, mask = cpu.dropout(scattered(x), 0.3, np.random.default_rng(1))
    np.testing.assert_allclose(y, x * mask / 0.7)
    np.testing.assert_allclose(cpu.dropout_backward(dy, mask, 0.3), dy * mask / 0.7)


def test_equal_seeds_drop_equal_elements():
    x = np.ones((3, 5, 7), np.float32)
    first, again, other = (cpu.dropout(x, 0.5, np.random.default_rng(s))[1] for s in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0), (3, 5)])
def test_dropout_takes_any_shape(shape):
    y, mask = cpu.dropout(np.ones(shape), 0.5, np.random.default_rng(1))
    assert y.shape == mask.shape == shape


def test_neighbouring_elements_are_dropped_independently():
    # Four elements share a random word, 16 bits each.
    mask = cpu.dropout(np.ones(400_000, np.float32), 0.5, np.random.default_rng(3))[1].reshape(-1, 4)
    correlation = np.corrcoef(mask.T.astype(float))
    assert np.abs(correlation - np.eye(4)).max() < 0.02
