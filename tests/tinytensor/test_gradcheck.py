import numpy as np
import pytest

from tests.helpers import tensor
from tinytensor import Tensor, gradcheck
from tinytensor.tensor import record, record_many


def wrong(factor: float = 1.0, offset: float = 0.0, shape=None):
    """exp with a gradient that is off."""

    def op(a):
        y = np.exp(a.data)
        return record("op", y, [a], lambda g: [(g * y * factor + offset).reshape(shape or a.shape)])

    return op


def test_a_right_gradient_passes():
    gradcheck(wrong(), [tensor(2, 3)])


@pytest.mark.parametrize("op", [wrong(-1.0), wrong(1.0001), wrong(2.0), wrong(0.0), wrong(1.0, 1e-4), wrong(np.nan)])
def test_a_wrong_gradient_is_caught(op):
    with pytest.raises(AssertionError, match=r"gradient of input 0, shape \(2, 3\), is off by"):
        gradcheck(op, [tensor(2, 3)])


def test_one_wrong_element_is_found_and_shown():
    def op(a):
        slope = np.full(a.shape, 3.0)
        slope[1, 2] = 4.0
        return record("op", a.data * 3, [a], lambda g: [g * slope])

    with pytest.raises(AssertionError, match=r"at \(1, 2\): backward\(\) says .*, finite differences say"):
        gradcheck(op, [tensor(2, 3)])


def test_a_gradient_of_the_wrong_shape_is_caught():
    with pytest.raises(AssertionError, match=r"gradient of input 0 has shape \(1, 3\), the input has \(3,\)"):
        gradcheck(wrong(shape=(1, 3)), [tensor(3)])


def test_a_forgotten_gradient_is_caught():
    with pytest.raises(AssertionError, match="is off by"):
        gradcheck(lambda a: Tensor(np.exp(a.data)), [tensor(3)])
    with pytest.raises(AssertionError, match="gradient of input 1"):
        fn = lambda a, b: record("op", a.data * b.data, [a, b], lambda g: [g * b.data, None])
        gradcheck(fn, [tensor(3), tensor(3)])


def test_a_gradient_that_forgets_the_incoming_one_is_caught():
    """The outputs are weighted differently, so a gradient that ignores dL/dy cannot pass."""
    with pytest.raises(AssertionError):
        gradcheck(lambda a: record("op", a.data * 3, [a], lambda g: [np.full(a.shape, 3.0)]), [tensor(3)])


def test_a_permuted_gradient_is_caught():
    with pytest.raises(AssertionError):
        gradcheck(lambda a: record("op", a.data.T, [a], lambda g: [g]), [tensor(3, 3)])


def test_outputs_of_an_op_that_change_places_are_caught():
    with pytest.raises(AssertionError):
        gradcheck(lambda a: record_many("op", [a.data, a.data * 2], [a], lambda g, h: [2 * g + h]), [tensor(3)])


def test_inputs_keep_their_values_and_those_that_need_no_gradient_are_left_out():
    a, b = tensor(2, 2), tensor(2, 2, grad=False)
    before = a.data.copy()
    gradcheck(lambda a, b: a * b, [a, b])
    np.testing.assert_array_equal(a.data, before)
    assert b.grad is None


def test_float32_is_refused():
    with pytest.raises(ValueError, match="needs float64 inputs; input 1 is float32"):
        gradcheck(lambda a, b: a, [tensor(1), Tensor([1.0])])


def test_empty_and_0d_inputs_can_be_checked():
    gradcheck(lambda a, b: a * b, [tensor(0, 3), tensor()])
