import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import assert_close, assert_same_as_torch, filled, gradient, seeds, tensor
from tinytensor import Tensor, gradcheck, ops

EPS = 0.01  # large, so that finite differences of a row of one element are well behaved


def layer_norm(x, weight=1.0, bias=0.0):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPS) * weight + bias


def rms_norm(x, weight=1.0):
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPS) * weight


@given(shape=filled, seed=seeds)
def test_layer_norm_has_its_formulas_values_and_the_gradients_of_finite_differences(shape, seed):
    x, w, b = tensor(*shape, seed=seed), tensor(shape[-1], seed=seed + 1), tensor(shape[-1], seed=seed + 2)
    assert_close(ops.layer_norm(x, w, b, EPS).data, layer_norm(x.data, w.data, b.data), 1e-13)
    assert_close(ops.layer_norm(x, w, eps=EPS).data, layer_norm(x.data, w.data), 1e-13)
    assert_close(ops.layer_norm(x, eps=EPS).data, layer_norm(x.data), 1e-13)
    if x.size <= 40:
        gradcheck(lambda x, w, b: ops.layer_norm(x, w, b, EPS), [x, w, b])
        gradcheck(lambda x, w: ops.layer_norm(x, w, None, EPS), [x, w])
        gradcheck(lambda x, b: ops.layer_norm(x, None, b, EPS), [x, b])


@given(shape=filled, seed=seeds)
def test_rms_norm_has_its_formulas_values_and_the_gradients_of_finite_differences(shape, seed):
    x, w = tensor(*shape, seed=seed), tensor(shape[-1], seed=seed + 1)
    assert_close(ops.rms_norm(x, w, EPS).data, rms_norm(x.data, w.data), 1e-13)
    assert_close(ops.rms_norm(x, eps=EPS).data, rms_norm(x.data), 1e-13)
    if x.size <= 40:
        gradcheck(lambda x, w: ops.rms_norm(x, w, EPS), [x, w])
        gradcheck(lambda x: ops.rms_norm(x, None, EPS), [x])


@given(shape=filled, seed=seeds, use=st.sampled_from(["both", "total", "normed"]))
def test_the_fused_forms_are_an_addition_and_a_norm(shape, seed, use):
    x, branch = tensor(*shape, seed=seed), tensor(*shape, seed=seed + 3)
    w, b = tensor(shape[-1], seed=seed + 1), tensor(shape[-1], seed=seed + 2)
    chosen = lambda total, y: {"both": total * 3 + y, "total": total * 3, "normed": y}[use]
    for fused, plain, extra in [
        (ops.add_layer_norm, ops.layer_norm, (w, b)),
        (ops.add_rms_norm, ops.rms_norm, (w,)),
    ]:
        whole = lambda x, branch, *extra, fused=fused: chosen(*fused(x, branch, *extra, eps=EPS))
        parts = lambda x, branch, *extra, plain=plain: chosen(x + branch, plain(x + branch, *extra, eps=EPS))
        assert_close(whole(x, branch, *extra).data, parts(x, branch, *extra).data, 1e-13)
        for got, expected in zip(gradient(whole, x, branch, *extra), gradient(parts, x, branch, *extra)):
            if use == "total" and expected is None:
                continue  # an op that was not reached leaves None, a fused one may leave zeros
            assert_close(got, expected, 1e-12)
        if x.size <= 12:
            gradcheck(whole, [x, branch, *extra])


@pytest.mark.parametrize("shape", [(0, 3), (1,), (1, 1), (2, 0, 3)])
def test_norms_work_on_awkward_shapes(shape):
    x, w, b = tensor(*shape), tensor(shape[-1]), tensor(shape[-1], seed=1)
    gradcheck(lambda x, w, b: ops.layer_norm(x, w, b, EPS), [x, w, b])
    gradcheck(lambda x, w: ops.rms_norm(x, w, EPS), [x, w])
    assert ops.add_layer_norm(x, x, w, b)[1].shape == shape


def test_norms_work_on_arrays_that_are_not_contiguous():
    x = Tensor(tensor(4, 6).data[::2, ::-2].T, requires_grad=True)
    w = Tensor(tensor(4).data[::-2], requires_grad=True)
    assert_close(ops.layer_norm(x, w, eps=EPS).data, layer_norm(x.data, w.data), 1e-13)
    gradcheck(lambda x, w: ops.layer_norm(x, w, None, EPS), [x, w])
    gradcheck(lambda x, w: ops.rms_norm(x, w, EPS), [x, w])


def test_layer_norm_of_a_constant_row_is_the_bias():
    x, b = Tensor(np.full((2, 4), 7.0), requires_grad=True), tensor(4)
    assert_close(ops.layer_norm(x, tensor(4), b).data, [b.data, b.data], 1e-12)


def test_the_stream_may_be_added_to_itself():
    x, w = tensor(2, 3), tensor(3)
    gradcheck(lambda x, w: ops.add_layer_norm(x, x, w, eps=EPS), [x, w])


def test_shapes_that_disagree_are_named():
    with pytest.raises(ValueError, match=r"layer_norm: weight has shape \(3,\), expected \(4,\) to match x \(2, 4\)"):
        ops.layer_norm(tensor(2, 4), tensor(3))
    with pytest.raises(ValueError, match=r"layer_norm: bias has shape \(1,\), expected \(4,\)"):
        ops.layer_norm(tensor(2, 4), tensor(4), tensor(1))
    with pytest.raises(ValueError, match=r"add_rms_norm: the branch has shape \(4,\), expected \(2, 4\)"):
        ops.add_rms_norm(tensor(2, 4), tensor(4))
    with pytest.raises(ValueError, match="rms_norm: a 0-d tensor has no last axis"):
        ops.rms_norm(tensor())
    with pytest.raises(ValueError, match="layer_norm: float64 and float32 do not mix"):
        ops.layer_norm(tensor(2, 4), Tensor(np.ones(4, np.float32)))
    with pytest.raises(ValueError, match="add_layer_norm: float64 and float32 do not mix"):
        ops.add_layer_norm(tensor(2, 4), Tensor(np.ones((2, 4), np.float32)))


@pytest.mark.parity
def test_values_and_gradients_are_torchs():
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    x, w, b = tensor(3, 5, 7), tensor(7, seed=1), tensor(7, seed=2)
    assert_same_as_torch(lambda *a: ops.layer_norm(*a, eps=1e-5), lambda x, *a: f.layer_norm(x, (7,), *a), x, w, b)
    assert_same_as_torch(lambda *a: ops.layer_norm(*a, eps=1e-5), lambda x, *a: f.layer_norm(x, (7,), *a), x, w)
    assert_same_as_torch(ops.rms_norm, lambda x, w: f.rms_norm(x, (7,), w, eps=1e-6), x, w)


@given(shape=filled, axes=st.integers(2, 3), seed=seeds)
def test_normalization_over_several_axes_has_its_gradients(shape, axes, seed):
    shape = (2, *shape, 3, 2)[-axes - 1 :]
    x, w, b = tensor(*shape, seed=seed), tensor(*shape[1:], seed=seed + 1), tensor(*shape[1:], seed=seed + 2)
    gradcheck(ops.layer_norm, [x, w, b])
    gradcheck(ops.rms_norm, [x, w])
