import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backend.cpu.reference import DTYPES, assert_close, normal, numeric_gradient, quick, scattered
from tests.helpers import last_keys
from tinytensor.backend import cpu
from tinytensor.ops.attention import plain_attention


def reference(q, k, v, scale, causal=False, window=None, mask=None, bias=0.0):
    """The plain version in float64; the window is one more mask."""
    q, k, v = (a.astype(np.float64) for a in (q, k, v))
    near = last_keys(q.shape[2], k.shape[2], window)
    mask = near if mask is None else mask if near is None else mask & near
    return plain_attention(q, k, v, causal=causal, mask=mask, bias=0.0 if bias is None else bias, scale=scale)


def reference_gradients(q, k, v, dy, scale, **options):
    """(dq, dk, dv, dlogits) by the textbook formulas, in float64. With v the identity, y is the probabilities."""
    q, k, v, dy = (a.astype(np.float64) for a in (q, k, v, dy))
    eye = np.broadcast_to(np.eye(k.shape[2]), (*k.shape[:2], k.shape[2], k.shape[2]))
    p = reference(q, k, eye, scale, **options)
    dp = dy @ v.swapaxes(2, 3)
    dz = p * (dp - (dp * p).sum(-1, keepdims=True))
    return scale * dz @ k, scale * dz.swapaxes(2, 3) @ q, p.swapaxes(2, 3) @ dy, dz


def packed(seed, B, T, H, D, dtype):
    """q, k, v as the strided views of one (B, T, 3, H, D) array that a fused projection gives, and a dy."""
    qkv = normal(seed, (B, T, 3, H, D), dtype)
    return (*(qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3)), normal(seed + 1, (B, H, T, D), dtype))


def check(q, k, v, dy, scale, keep, **options):
    bias = options.get("bias")
    before = [a.copy() for a in (q, k, v, dy)]
    y, saved = cpu.attention(q, k, v, scale=scale, keep=keep, **options)
    assert y.dtype == q.dtype
    assert y.transpose(0, 2, 1, 3).flags.c_contiguous
    assert_close(y, reference(q, k, v, scale, **options))
    dq, dk, dv, dbias = cpu.attention_backward(dy, saved, need_bias=bias is not None)
    *want, dz = reference_gradients(q, k, v, dy, scale, **options)
    for got, expected in zip((dq, dk, dv), want):
        assert_close(got, expected, 2)
    if bias is None:
        assert dbias is None
    else:
        dz = np.broadcast_to(dz, (*q.shape[:3], k.shape[2]))
        lead = tuple(range(4 - bias.ndim))
        axes = tuple(i for i, n in enumerate(bias.shape) if n == 1)
        assert_close(dbias, dz.sum(lead).sum(axes, keepdims=True), 5)
    assert all((a == b).all() for a, b in zip((q, k, v, dy), before))


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("B", "T", "H", "D"), [
    (0, 3, 2, 4), (1, 0, 1, 2), (1, 1, 1, 1), (2, 1, 3, 5), (2, 7, 3, 5), (3, 64, 2, 8), (2, 65, 2, 3), (1, 200, 7, 4),
])
def test_self_attention_is_the_textbook_formula(B, T, H, D, causal, dtype, keep):
    check(*packed(1, B, T, H, D, dtype), D**-0.5, keep, causal=causal)


@quick
@given(T=st.integers(1, 150), S=st.integers(1, 150), window=st.none() | st.integers(1, 80), causal=st.booleans(),
       masked=st.sampled_from([None, "keys", "all"]), biased=st.sampled_from([None, (1, 2), (2, 1), (2, 2), "flat"]),
       keep=st.booleans(), seed=st.integers(0, 99))
def test_every_option_is_the_textbook_formula(T, S, window, causal, masked, biased, keep, seed):
    B, H, D = 2, 2, 3
    q, k, v, dy = (normal(seed + i, (B, H, n, D)) for i, n in enumerate((T, S, S, T)))
    rng = np.random.default_rng(seed)
    mask = {None: None, "keys": rng.random((B, 1, 1, S)) < 0.7, "all": rng.random((B, H, T, S)) < 0.5}[masked]
    bias = None if biased is None else normal(seed, (H, 1, S) if biased == "flat" else (*biased, T, S))
    check(q, k, v, dy, 0.7, keep, causal=causal, window=window if causal else None, mask=mask, bias=bias)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [True, False])
def test_extreme_logits_are_as_exact_as_small_ones(causal, dtype, keep):
    q, k, v, dy = packed(1, 2, 130, 2, 4, dtype)
    # Logits of about 1e4 and -1e4 in half of the rows, of about 1 in the others, and one key that dominates.
    q[:, :, ::2] *= 100
    k[:, :, ::3] *= 100
    q[:, :, 5], k[:, :, 5] = 100, 25
    y, saved = cpu.attention(q, k, v, scale=1.0, causal=causal, keep=keep)
    got = (y, *cpu.attention_backward(dy, saved)[:3])
    want = (reference(q, k, v, 1.0, causal=causal), *reference_gradients(q, k, v, dy, 1.0, causal=causal)[:3])
    for g, w in zip(got, want):
        # A logit of 1e4 is itself rounded to 1e-3 in float32, and its exponential by as much.
        assert np.abs(g - w).max() <= (2e-2 if dtype == np.float32 else 1e-9) * max(1, np.abs(w).max())


@pytest.mark.parametrize("level", [1e4, -1e4, 60, -60, 90, -90, 1e30])
@pytest.mark.parametrize("keep", [True, False])
def test_a_constant_added_to_all_logits_changes_nothing(level, keep):
    q, k, v, dy = (normal(i, (1, 2, 70, 4), np.float32) for i in range(4))
    zero = np.zeros((1, 1, 70, 1), np.float32)
    plain, plain_saved = cpu.attention(q * 0, k, v, scale=1.0, causal=True, bias=zero, keep=keep)
    moved, moved_saved = cpu.attention(q * 0, k, v, scale=1.0, causal=True, bias=zero + np.float32(level), keep=keep)
    assert_close(moved, plain)
    for one, two in zip(cpu.attention_backward(dy, plain_saved)[:3], cpu.attention_backward(dy, moved_saved)[:3]):
        assert_close(one, two)


@pytest.mark.parametrize("keep", [True, False])
def test_rows_with_nothing_to_attend_to_are_zero_and_pass_no_gradient(keep):
    q, k, v, dy = packed(1, 2, 70, 2, 4, np.float32)
    mask = np.ones((2, 1, 70, 70), bool)
    mask[0, 0, 3] = mask[1, 0, 66] = False
    y, saved = cpu.attention(q, k, v, scale=0.5, mask=mask, keep=keep)
    assert not y[0, :, 3].any() and not y[1, :, 66].any()
    dq, dk, dv, _ = cpu.attention_backward(dy, saved)
    assert not dq[0, :, 3].any() and not dq[1, :, 66].any()
    assert all(np.isfinite(a).all() for a in (y, dq, dk, dv))
    y, saved = cpu.attention(q, k, v, scale=0.5, mask=np.zeros((1, 1, 1, 1), bool), keep=keep)
    assert not any(a.any() for a in (y, *cpu.attention_backward(dy, saved)[:3]))


@pytest.mark.parametrize("keep", [True, False])
def test_gradients_go_into_the_packed_array_given(keep):
    q, k, v, dy = packed(1, 2, 70, 2, 4, np.float32)
    _, saved = cpu.attention(q, k, v, scale=0.5, causal=True, window=20, keep=keep)
    dqkv = np.full((2, 70, 3, 2, 4), 9, np.float32)
    out = [dqkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3)]
    cpu.attention_backward(dy, saved, out=out)
    for got, want in zip(out, cpu.attention_backward(scattered(dy), saved)[:3]):
        assert_close(got, want)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_dropout_drops_probabilities_and_its_gradient_follows_the_same_mask(causal, keep):
    B, T, H, D, p = 2, 9, 2, 9, 0.4
    q, k, _, dy = packed(1, B, T, H, D, np.float64)
    eye = np.broadcast_to(np.eye(T), (B, H, T, T))
    draw = lambda q, k, v: cpu.attention(q, k, v, scale=0.5, causal=causal, dropout=p, keep=keep,
                                         rng=np.random.default_rng(5))
    # With v the identity the output is the dropped probabilities themselves.
    dropped, full = draw(q, k, eye)[0], reference(q, k, eye, 0.5, causal=causal)
    kept = dropped != 0
    np.testing.assert_allclose(dropped, full * kept / (1 - p), atol=1e-12)
    v = normal(9, (B, H, T, D))
    y, saved = draw(q, k, v)
    np.testing.assert_allclose(y, dropped @ v, atol=1e-12)
    dq, dk, dv, _ = cpu.attention_backward(dy, saved)
    loss = lambda q, k, v: np.sum(dy * ((reference(q, k, eye, 0.5, causal=causal) * kept / (1 - p)) @ v))
    np.testing.assert_allclose(dq, numeric_gradient(lambda q: loss(q, k, v), q.copy()), atol=1e-8)
    np.testing.assert_allclose(dk, numeric_gradient(lambda k: loss(q, k, v), k.copy()), atol=1e-8)
    np.testing.assert_allclose(dv, numeric_gradient(lambda v: loss(q, k, v), v), atol=1e-8)


@pytest.mark.parametrize("keep", [True, False])
def test_dropout_hits_its_rate_and_everything_dropped_is_zero(keep):
    q, k, v, dy = packed(1, 2, 150, 2, 4, np.float32)
    eye = np.broadcast_to(np.eye(150, dtype=np.float32), (2, 2, 150, 150))
    y, _ = cpu.attention(q, k, eye, scale=0.5, dropout=0.3, rng=np.random.default_rng(1), keep=keep)
    assert abs((y == 0).mean() - 0.3) < 0.01               # 90000 draws: standard deviation 0.0015
    y, saved = cpu.attention(q, k, v, scale=0.5, dropout=1.0, rng=np.random.default_rng(1), keep=keep)
    assert not any(a.any() for a in (y, *cpu.attention_backward(dy, saved)[:3]))


def test_without_keeping_memory_grows_with_the_context_and_not_with_its_square():
    def saved_bytes(T, keep):
        q, k, v, _ = packed(1, 1, T, 2, 8, np.float32)
        _, saved = cpu.attention(q, k, v, scale=0.5, causal=True, dropout=0.2, rng=np.random.default_rng(1), keep=keep)
        parts = [a for part in saved for a in (part if isinstance(part, list) else [part])]
        return sum(a.nbytes for part in parts for a in (part if isinstance(part, tuple) else [part])
                   if isinstance(a, np.ndarray))
    assert saved_bytes(1024, True) > 3 * saved_bytes(512, True)
    assert saved_bytes(1024, False) < 2.1 * saved_bytes(512, False)


def test_keeping_and_recomputing_the_probabilities_agree():
    q, k, v, dy = packed(1, 2, 150, 3, 8, np.float32)
    results = []
    for keep in (True, False):
        y, saved = cpu.attention(q, k, v, scale=0.5, causal=True, dropout=0.2, rng=np.random.default_rng(1), keep=keep)
        results.append((y, *cpu.attention_backward(dy, saved)[:3]))
    for kept, recomputed in zip(*results):
        assert_close(recomputed, kept)


@quick
@given(T=st.integers(1, 3), S=st.integers(1, 20), biased=st.booleans(), seed=st.integers(0, 99))
def test_a_decoding_step_is_attention_over_the_valid_part_of_the_cache(T, S, biased, seed):
    q, k, v = (normal(seed + i, (3, 2, n, 5)) for i, n in enumerate((T, S, S)))
    lengths = np.random.default_rng(seed).integers(0, S + 1, 3)
    bias = normal(seed, (1, 2, T, S)) if biased else None
    mask = np.arange(S) < lengths[:, None, None, None]
    y = cpu.attention_step(q, k, v, scale=0.4, lengths=lengths, bias=bias)
    assert_close(y, reference(q, k, v, 0.4, mask=mask, bias=bias))
    assert_close(cpu.attention_step(q, k, v, scale=0.4, bias=bias), reference(q, k, v, 0.4, bias=bias))


def test_a_decoding_step_survives_extreme_logits():
    q, k, v = (normal(i, (1, 2, 1, 4), np.float32) for i in range(3))
    y = cpu.attention_step(q * 1e4, np.repeat(k, 9, axis=2) * 1e4, np.repeat(v, 9, axis=2), scale=1.0)
    assert_close(y, v)


@pytest.mark.parity
@pytest.mark.parametrize("causal", [True, False])
def test_attention_and_its_gradients_match_torch(causal):
    torch = pytest.importorskip("torch")
    q, k, v, dy = packed(1, 2, 100, 3, 16, np.float32)
    leaves = [torch.tensor(a, requires_grad=True) for a in (q, k, v)]
    want = torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=causal)
    want.backward(torch.tensor(dy))
    y, saved = cpu.attention(q, k, v, scale=0.25, causal=causal)
    assert_close(y, want.detach().numpy())
    for got, leaf in zip(cpu.attention_backward(dy, saved), leaves):
        assert_close(got, leaf.grad.numpy())
