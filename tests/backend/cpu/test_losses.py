from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backend.cpu.reference import DTYPES, assert_close, normal, numeric_gradient, quick, scattered
from tinytensor.backend import cpu
from tinytensor.ops.softmax import IGNORED, plain_cross_entropy

cross_entropy = partial(cpu.cross_entropy, ignore_index=IGNORED)
linear_cross_entropy = partial(cpu.linear_cross_entropy, ignore_index=IGNORED)


def problem(seed, N, V, C, dtype, ignored=0.3):
    rng = np.random.default_rng(seed)
    t = np.where(rng.random(N) < ignored, -100, rng.integers(0, V, N))
    return normal(seed, (N, C), dtype), normal(seed + 1, (V, C), dtype), t, normal(seed + 2, N, dtype)


OPTIONS = [{}, {"label_smoothing": 0.1}, {"z_loss": 0.01}, {"label_smoothing": 0.2, "z_loss": 0.1}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("N", "V", "C"), [(0, 5, 3), (0, 5, 1), (1, 1, 1), (3, 7, 4), (3, 9, 2), (700, 130, 16)])
def test_both_cross_entropies_are_the_formula(N, V, C, dtype, options):
    x, w, t, dlosses = problem(1, N, V, C, dtype)
    z = x.astype(np.float64) @ w.T.astype(np.float64)
    want = plain_cross_entropy(z, t, **options)
    losses, saved = cross_entropy(z.astype(dtype), t, **options)
    assert losses.dtype == dtype
    assert_close(losses, want)
    fused, fused_saved = linear_cross_entropy(x, w, t, **options)
    assert fused.dtype == dtype
    assert_close(fused, want)
    # The fused gradients are the plain one, multiplied out in float64.
    dz = cpu.cross_entropy_backward(dlosses, saved)
    dx, dw, db = cpu.linear_cross_entropy_backward(dlosses, fused_saved)
    assert_close(dx, dz.astype(np.float64) @ w, 2)
    assert_close(dw, dz.astype(np.float64).T @ x, 2)
    assert db is None


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("N", "V", "C"), [(0, 5, 3), (0, 5, 1), (1, 1, 1), (3, 7, 4), (3, 9, 2), (700, 130, 16)])
def test_a_bias_is_one_more_column_of_the_weight(N, V, C, dtype, options):
    x, w, t, dlosses = problem(1, N, V, C, dtype)
    bias = normal(9, (V,), dtype) * 3
    losses, saved = linear_cross_entropy(x, w, t, bias=bias, **options)
    dx, dw, db = cpu.linear_cross_entropy_backward(dlosses, saved)
    wider, longer = np.append(w, bias[:, None], 1), np.append(x, np.ones((N, 1), dtype), 1)
    want, want_saved = linear_cross_entropy(longer, wider, t, **options)
    want_dx, want_dw, _ = cpu.linear_cross_entropy_backward(dlosses, want_saved)
    assert_close(losses, want.astype(np.float64), 2)
    assert_close(dx, want_dx[:, :C].astype(np.float64), 2)
    assert_close(dw, want_dw[:, :C].astype(np.float64), 2)
    assert_close(db, want_dw[:, C].astype(np.float64), 4)


@quick
@given(N=st.integers(1, 4), V=st.integers(1, 5), seed=st.integers(0, 99), options=st.sampled_from(OPTIONS))
def test_cross_entropy_gradient_is_a_finite_difference(N, V, seed, options):
    _, _, t, dlosses = problem(seed, N, V, 1, np.float64)
    z = normal(seed + 3, (N, V))
    _, saved = cross_entropy(z, t, **options)
    want = numeric_gradient(lambda z: np.sum(dlosses * plain_cross_entropy(z, t, **options)), z)
    np.testing.assert_allclose(cpu.cross_entropy_backward(dlosses, saved), want, atol=1e-7)


@quick
@given(N=st.integers(1, 4), V=st.integers(1, 15), C=st.integers(1, 3), seed=st.integers(0, 99),
       options=st.sampled_from(OPTIONS))
def test_linear_cross_entropy_gradients_are_finite_differences(N, V, C, seed, options):
    x, w, t, dlosses = problem(seed, N, V, C, np.float64)
    _, saved = linear_cross_entropy(x, w, t, **options)
    dx, dw, _ = cpu.linear_cross_entropy_backward(dlosses, saved)
    loss = lambda x, w: np.sum(dlosses * plain_cross_entropy(x @ w.T, t, **options))
    np.testing.assert_allclose(dx, numeric_gradient(lambda x: loss(x, w), x), atol=1e-7)
    np.testing.assert_allclose(dw, numeric_gradient(lambda w: loss(x, w), w), atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_logits_give_exact_losses_and_finite_gradients(dtype):
    big = [1e4, -1e4, 0, 1e4, 50, -1e4]
    z = np.array([np.roll(big, i) for i in range(6)] + [[1e4] * 6, [-1e4] * 6, [0] * 6], dtype)
    t = np.array([0, 1, 2, 3, 4, 5, 0, 1, -100])
    want = plain_cross_entropy(z.astype(np.float64), t)
    losses, saved = cross_entropy(z, t)
    np.testing.assert_allclose(losses, want, rtol=1e-6, atol=1e-6)
    # The same logits as a product with the identity.
    fused, fused_saved = linear_cross_entropy(z, np.eye(6, dtype=dtype), t)
    np.testing.assert_allclose(fused, want, rtol=1e-6, atol=1e-6)
    ones = np.ones(len(t), dtype)
    dz = cpu.cross_entropy_backward(ones, saved)
    p = np.exp(z - z.max(1, keepdims=True)) / np.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True)
    want = np.where((t == -100)[:, None], 0, p - (np.arange(6) == t[:, None]))
    assert_close(dz, want)
    assert_close(cpu.linear_cross_entropy_backward(ones, fused_saved)[0], want)


def test_a_loss_too_large_for_float32_exponentials_is_still_exact():
    # exp(200) overflows float32; the target's logit is 200 below the maximum.
    losses, _ = linear_cross_entropy(np.float32([[200, 0], [3, 0]]), np.eye(2, dtype=np.float32), np.array([1, 0]))
    np.testing.assert_allclose(losses, [200, np.log1p(np.exp(-3))], rtol=1e-6)


def test_ignored_rows_have_no_loss_and_no_gradient():
    x, w, t, dlosses = problem(1, 6, 5, 4, np.float64)
    t[:] = -100
    losses, saved = linear_cross_entropy(x, w, t)
    dx, dw, _ = cpu.linear_cross_entropy_backward(dlosses, saved)
    assert not losses.any() and not dx.any() and not dw.any()
    assert dx.shape == x.shape and dw.shape == w.shape
    t[2] = 3
    assert (np.flatnonzero(cross_entropy(x @ w.T, t)[0]) == [2]).all()
    assert (np.flatnonzero(cross_entropy(x @ w.T, np.where(t == 3, 3, 1), ignore_index=1)[0]) == [2]).all()


def test_the_weight_gradient_goes_into_the_array_given():
    for options in OPTIONS:
        x, w, t, dlosses = problem(1, 6, 5, 4, np.float64)
        _, saved = linear_cross_entropy(x, w, t, **options)
        out = np.full_like(w, 9)
        _, dw, _ = cpu.linear_cross_entropy_backward(dlosses, saved, out=out)
        assert dw is out
        assert_close(out, cpu.linear_cross_entropy_backward(dlosses, saved)[1])


def test_losses_read_strided_arrays_and_leave_their_inputs_alone():
    x, w, t, dlosses = problem(1, 6, 5, 4, np.float64)
    before = [a.copy() for a in (x, w, t, dlosses)]
    losses, saved = linear_cross_entropy(scattered(x), scattered(w), scattered(t))
    assert_close(losses, cross_entropy(scattered(x @ w.T), t)[0])
    once = cpu.linear_cross_entropy_backward(scattered(dlosses), saved)
    twice = cpu.linear_cross_entropy_backward(dlosses, saved)
    for one, two in zip(once[:2], twice[:2]):
        assert_close(one, two)
    assert all((a == b).all() for a, b in zip((x, w, t, dlosses), before))


@pytest.mark.parity
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_matches_torch(smoothing):
    torch = pytest.importorskip("torch")
    x, w, t, dlosses = problem(1, 50, 30, 8, np.float32)
    z = torch.tensor(x @ w.T, requires_grad=True)
    want = torch.nn.functional.cross_entropy(z, torch.tensor(t), reduction="none", label_smoothing=smoothing)
    want.backward(torch.tensor(dlosses))
    losses, saved = cross_entropy(x @ w.T, t, label_smoothing=smoothing)
    assert_close(losses, want.detach().numpy())
    assert_close(cpu.cross_entropy_backward(dlosses, saved), z.grad.numpy())
