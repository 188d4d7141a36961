import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backend.cpu.reference import DTYPES, assert_close, normal, numeric_gradient, quick, scattered
from tinytensor.backend import cpu

SHAPES = [(0, 5), (1, 1), (3, 1), (1, 7), (5,), (2, 3, 4), (33, 65), (700, 130)]


def layer_norm(x, weight, bias, eps):
    return cpu.normalize(x, None, weight, bias, eps, centre=True)[1:]


def add_layer_norm(x, branch, weight, bias, eps):
    return cpu.normalize(x, branch, weight, bias, eps, centre=True)


def rms_norm(x, weight, eps):
    return cpu.normalize(x, None, weight, None, eps, centre=False)[1:]


def add_rms_norm(x, branch, weight, eps):
    return cpu.normalize(x, branch, weight, None, eps, centre=False)


def add_layer_norm_backward(dtotal, dy, saved):
    """(dx, dweight, dbias)"""
    dx, dbranch, dweight, dbias = cpu.normalize_backward(dtotal, dy, saved)
    assert dbranch is dx or (dbranch == dx).all()
    return dx, dweight, dbias


def layer_norm_backward(dy, saved):
    return add_layer_norm_backward(None, dy, saved)


def add_rms_norm_backward(dtotal, dy, saved):
    return add_layer_norm_backward(dtotal, dy, saved)[:2]


def rms_norm_backward(dy, saved):
    return add_layer_norm_backward(None, dy, saved)[:2]


def reference(x, weight, bias, eps, centre):
    mean = x.mean(-1, keepdims=True) if centre else 0
    n = (x - mean) / np.sqrt(((x - mean) ** 2).mean(-1, keepdims=True) + eps)
    y = n if weight is None else n * weight
    return y if bias is None else y + bias


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_layer_norm_is_its_formula(shape, dtype):
    x, residual, w, b = (normal(i, s, dtype) for i, s in enumerate([shape, shape, shape[-1:], shape[-1:]]))
    y, _ = layer_norm(x, w, b, 1e-5)
    assert y.dtype == dtype
    wide = [a.astype(np.float64) for a in (x, residual, w, b)]
    assert_close(y, reference(wide[0], wide[2], wide[3], 1e-5, True), 10)
    total, y, _ = add_layer_norm(x, residual, w, b, 1e-5)
    assert_close(total, wide[0] + wide[1])
    assert_close(y, reference(wide[0] + wide[1], wide[2], wide[3], 1e-5, True), 10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_rms_norm_is_its_formula(shape, dtype):
    x, residual, w = (normal(i, s, dtype) for i, s in enumerate([shape, shape, shape[-1:]]))
    wide = [a.astype(np.float64) for a in (x, residual, w)]
    y, _ = rms_norm(x, w, 1e-6)
    assert y.dtype == dtype
    assert_close(y, reference(wide[0], wide[2], None, 1e-6, False), 10)
    total, y, _ = add_rms_norm(x, residual, w, 1e-6)
    assert_close(total, wide[0] + wide[1])
    assert_close(y, reference(wide[0] + wide[1], wide[2], None, 1e-6, False), 10)


@quick
@given(rows=st.integers(1, 4), C=st.integers(2, 6), gain=st.booleans(), shift=st.booleans(), seed=st.integers(0, 99))
def test_layer_norm_gradients_are_finite_differences(rows, C, gain, shift, seed):
    x, w, b, dy = (normal(seed + i, s) for i, s in enumerate([(rows, C), (C,), (C,), (rows, C)]))
    w, b = (w if gain else None), (b if shift else None)
    _, saved = layer_norm(x, w, b, 0.1)
    dx, dw, db = layer_norm_backward(dy, saved)
    loss = lambda x, w, b: np.sum(dy * reference(x, w, b, 0.1, True))
    np.testing.assert_allclose(dx, numeric_gradient(lambda x: loss(x, w, b), x), atol=1e-7)
    assert (dw is None) == (not gain) and (db is None) == (not shift)
    if gain:
        np.testing.assert_allclose(dw, numeric_gradient(lambda w: loss(x, w, b), w), atol=1e-7)
    if shift:
        np.testing.assert_allclose(db, numeric_gradient(lambda b: loss(x, w, b), b), atol=1e-7)


@quick
@given(rows=st.integers(1, 4), C=st.integers(1, 6), gain=st.booleans(), seed=st.integers(0, 99))
def test_rms_norm_gradients_are_finite_differences(rows, C, gain, seed):
    x, w, dy = (normal(seed + i, s) for i, s in enumerate([(rows, C), (C,), (rows, C)]))
    w = w if gain else None
    _, saved = rms_norm(x, w, 0.1)
    dx, dw = rms_norm_backward(dy, saved)
    loss = lambda x, w: np.sum(dy * reference(x, w, None, 0.1, False))
    np.testing.assert_allclose(dx, numeric_gradient(lambda x: loss(x, w), x), atol=1e-7)
    if gain:
        np.testing.assert_allclose(dw, numeric_gradient(lambda w: loss(x, w), w), atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_of_the_residual_sum_is_added_to_the_norms(dtype):
    x, residual, w, b, dtotal, dy = (normal(i, s, dtype) for i, s in
                                     enumerate([(300, 130), (300, 130), (130,), (130,), (300, 130), (300, 130)]))
    total, _, saved = add_layer_norm(x, residual, w, b, 1e-5)
    alone = layer_norm_backward(dy, layer_norm(total, w, b, 1e-5)[1])
    fused = add_layer_norm_backward(dtotal, dy, saved)
    assert_close(fused[0], dtotal + alone[0])
    assert_close(fused[1], alone[1])
    assert_close(fused[2], alone[2])
    assert_close(add_layer_norm_backward(None, dy, saved)[0], alone[0])
    total, _, saved = add_rms_norm(x, residual, w, 1e-5)
    alone = rms_norm_backward(dy, rms_norm(total, w, 1e-5)[1])
    fused = add_rms_norm_backward(dtotal, dy, saved)
    assert_close(fused[0], dtotal + alone[0])
    assert_close(fused[1], alone[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("centre", [True, False])
def test_dropout_before_the_sum_is_dropout_then_the_sum_to_the_last_bit(dtype, centre):
    x, branch, w, dtotal, dy = (normal(i, s, dtype) for i, s in enumerate([(2, 350, 130)] * 2 + [(130,)] +
                                                                         [(2, 350, 130)] * 2))
    dropped, mask = cpu.dropout(branch, 0.3, np.random.default_rng(1))
    total, y, saved = cpu.normalize(x, dropped, w, None, 1e-5, centre=centre)
    dx, _, dw, _ = cpu.normalize_backward(dtotal, dy, saved)
    rng = np.random.default_rng(1)
    fused_total, fused_y, saved = cpu.normalize(x, branch, w, None, 1e-5, centre=centre, dropout=0.3, rng=rng)
    fused_dx, dbranch, fused_dw, _ = cpu.normalize_backward(dtotal, dy, saved)
    for fused, alone in ((fused_total, total), (fused_y, y), (fused_dx, dx), (fused_dw, dw),
                         (dbranch, cpu.dropout_backward(dx, mask, 0.3))):
        assert (fused == alone).all()


def test_norms_read_strided_arrays_and_leave_their_inputs_alone():
    x, w, b, dy = (normal(i, s) for i, s in enumerate([(4, 6, 10), (10,), (10,), (4, 6, 10)]))
    before = [a.copy() for a in (x, w, b, dy)]
    y, saved = layer_norm(scattered(x), scattered(w), scattered(b), 1e-5)
    assert_close(y, layer_norm(x, w, b, 1e-5)[0])
    first = layer_norm_backward(scattered(dy), saved)
    second = layer_norm_backward(dy, saved)
    for one, two in zip(first, second):
        assert_close(one, two)
    assert all((a == c).all() for a, c in zip((x, w, b, dy), before))


def test_a_constant_row_normalizes_to_the_bias():
    y, _ = layer_norm(np.full((3, 8), 7, np.float32), np.ones(8, np.float32), np.full(8, 2, np.float32), 1e-5)
    assert_close(y, np.full((3, 8), 2.0))


@pytest.mark.parity
@pytest.mark.parametrize("C", [5, 384])
def test_layer_norm_and_its_gradients_match_torch(C):
    torch = pytest.importorskip("torch")
    x, w, b, dy = (normal(i, s, np.float32) for i, s in enumerate([(40, C), (C,), (C,), (40, C)]))
    y, saved = layer_norm(x, w, b, 1e-5)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, w, b)]
    want = torch.nn.functional.layer_norm(leaves[0], (C,), leaves[1], leaves[2], 1e-5)
    want.backward(torch.tensor(dy))
    assert_close(y, want.detach().numpy())
    for got, leaf in zip(layer_norm_backward(dy, saved), leaves):
        assert_close(got, leaf.grad.numpy())
