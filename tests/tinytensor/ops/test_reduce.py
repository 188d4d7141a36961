import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import apart, assert_close, assert_same_as_torch, filled, gradient, seeds, shapes, tensor
from tinytensor import Tensor, gradcheck, ops

logsumexp = lambda x, axis=None, keepdims=False: np.log(np.exp(x).sum(axis=axis, keepdims=keepdims))
REDUCTIONS = {
    "sum": (ops.sum, np.sum),
    "mean": (ops.mean, np.mean),
    "var": (functools.partial(ops.var, correction=0), np.var),
    "max": (ops.max, np.max),
    "min": (ops.min, np.min),
    "logsumexp": (ops.logsumexp, logsumexp),
}


@st.composite
def shape_and_axis(draw, shapes):
    """A shape and what may stand for `axis` there: None, an axis counted from either end, or several."""
    shape = draw(shapes)
    if not shape:
        return shape, None
    one = st.integers(-len(shape), len(shape) - 1)
    several = st.lists(one, unique_by=lambda axis: axis % len(shape)).map(tuple)
    return shape, draw(st.one_of(st.none(), one, several))


@pytest.mark.parametrize("name", REDUCTIONS)
@given(where=shape_and_axis(filled), keepdims=st.booleans(), seed=seeds)
def test_reductions_have_numpys_values_and_the_gradients_of_finite_differences(name, where, keepdims, seed):
    (shape, axis), (op, formula) = where, REDUCTIONS[name]
    x = apart(*shape, seed=seed)  # no ties, so that max and min are smooth
    assert_close(op(x, axis, keepdims).data, formula(x.data, axis=axis, keepdims=keepdims), 1e-13)
    if x.size <= 32:
        gradcheck(lambda a: op(a, axis, keepdims), [x])


@given(where=shape_and_axis(shapes), keepdims=st.booleans())
def test_the_sum_of_nothing_is_zero(where, keepdims):
    shape, axis = where
    x = tensor(*shape)
    y = ops.sum(x, axis, keepdims)
    assert_close(y.data, x.data.sum(axis=axis, keepdims=keepdims), 1e-13)
    y.backward(np.ones(y.shape))
    assert_close(x.grad, np.ones(shape), 0)


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("axis", [None, ()])
def test_a_0d_tensor_reduces_to_itself(name, axis):
    x = Tensor(np.array(2.0), requires_grad=True)
    y = REDUCTIONS[name][0](x, axis)
    assert y.shape == () and y.item() == (0 if name == "var" else 2)
    gradcheck(lambda a: REDUCTIONS[name][0](a, axis), [x])


@pytest.mark.parametrize("axis", [0, -1])
def test_a_0d_tensor_may_be_summed_over_the_axis_it_lacks_as_in_numpy(axis):
    gradcheck(lambda a: a.sum(axis), [tensor()])


@pytest.mark.parametrize("name", ["mean", "var", "max", "min", "logsumexp"])
@pytest.mark.parametrize("axis", [None, 1, (0, 1)])
def test_reducing_nothing_to_something_is_refused(name, axis):
    with pytest.raises(ValueError, match=rf"{name}: .*axis .* of shape \(2, 0\)"):
        REDUCTIONS[name][0](tensor(2, 0), axis)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reducing_an_empty_tensor_over_an_axis_that_has_elements_gives_an_empty_one(name):
    x = tensor(0, 3)
    y = REDUCTIONS[name][0](x, 1)
    assert y.shape == (0,)
    y.backward(np.ones(0))
    assert x.grad.shape == (0, 3)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_an_axis_that_does_not_exist_is_refused(name):
    with pytest.raises(ValueError, match="axis 2 is out of bounds"):
        REDUCTIONS[name][0](tensor(2, 3), 2)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_work_on_arrays_that_are_not_contiguous(name):
    for view in (lambda x: x.T, lambda x: x[::-2, ::3]):
        x = Tensor(view(apart(4, 6).data), requires_grad=True)
        assert_close(REDUCTIONS[name][0](x, 0).data, REDUCTIONS[name][1](x.data, axis=0), 1e-13)
        gradcheck(lambda a: REDUCTIONS[name][0](a, 0), [x])


def test_equal_extremes_share_the_gradient():
    x = Tensor(np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]]), requires_grad=True)
    assert_close(gradient(lambda a: a.max(axis=1), x)[0], [[0, 0.5, 0.5], [1 / 3] * 3], 1e-15)
    assert_close(gradient(lambda a: a.min(), x)[0], [[1, 0, 0], [0, 0, 0]], 0)


def test_var_is_the_unbiased_estimate_unless_told_otherwise():
    x = tensor(4, 5)
    assert_close(x.var(axis=1).data, x.data.var(axis=1, ddof=1), 1e-14)
    gradcheck(lambda a: a.var(axis=1), [x])
    with pytest.raises(ValueError, match="too short for correction=1"):
        tensor(3, 1).var(axis=1)


def test_var_does_not_cancel_far_from_zero():
    x = Tensor(np.array([1e8, 1e8 + 1, 1e8 + 2]))
    assert_close(x.var().item(), 1, 1e-12)


def test_logsumexp_neither_overflows_nor_underflows():
    x = Tensor(np.array([[1e4, 1e4], [-1e4, -1e4], [0, -np.inf]]), requires_grad=True)
    assert_close(x.logsumexp(axis=1).data, [1e4 + np.log(2), -1e4 + np.log(2), 0], 1e-15)
    assert_close(gradient(lambda a: a.logsumexp(axis=1), x)[0], [[0.5, 0.5], [0.5, 0.5], [1, 0]], 1e-15)


def test_logsumexp_of_nothing_but_minus_infinity_is_minus_infinity_with_gradient_zero():
    x = Tensor(np.full((1, 3), -np.inf), requires_grad=True)
    assert x.logsumexp(axis=1).data.tolist() == [-np.inf]
    assert gradient(lambda a: a.logsumexp(axis=1), x)[0].tolist() == [[0, 0, 0]]


def test_argmax_and_argmin_are_numpys():
    x = apart(3, 4)
    assert x.argmax().item() == x.data.argmax()
    assert x.argmin(1).data.tolist() == x.data.argmin(1).tolist()


@pytest.mark.parity
@pytest.mark.parametrize("axis", [0, -1, (0, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_values_and_gradients_are_torchs(axis, keepdims):
    torch = pytest.importorskip("torch")
    at = dict(dim=axis, keepdim=keepdims)
    for ours, theirs in [
        (lambda a: a.sum(axis, keepdims), lambda a: a.sum(**at)),
        (lambda a: a.mean(axis, keepdims), lambda a: a.mean(**at)),
        (lambda a: a.var(axis, keepdims, 0), lambda a: a.var(unbiased=False, **at)),
        (lambda a: a.var(axis, keepdims), lambda a: a.var(**at)),
        (lambda a: a.max(axis, keepdims), lambda a: torch.amax(a, **at)),
        (lambda a: a.min(axis, keepdims), lambda a: torch.amin(a, **at)),
        (lambda a: a.logsumexp(axis, keepdims), lambda a: a.logsumexp(**at)),
    ]:
        assert_same_as_torch(ours, theirs, apart(3, 4, 5))
