import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinytensor as tt
from tests.helpers import assert_close, assert_same_as_torch, gradient, last_keys, seeds, tensor
from tinytensor import Tensor, gradcheck, ops
from tinytensor.ops.attention import plain_attention


def reference(q, k, v, causal=False, window=None, mask=None, bias=None, scale=None):
    """The plain version; the window is one more mask."""
    near = last_keys(q.shape[2], k.shape[2], window)
    mask = near if mask is None else mask if near is None else mask & near
    return plain_attention(q, k, v, causal=causal, mask=mask, bias=0.0 if bias is None else bias, scale=scale)


@st.composite
def cases(draw):
    B, H, D = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    T, S = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    seed = draw(seeds)
    causal = draw(st.booleans())
    options = dict(
        causal=causal,
        window=draw(st.sampled_from([None, 1, 2, 10])) if causal else None,
        scale=draw(st.sampled_from([None, 1.0, 0.3])),
    )
    ones_or = lambda full: draw(st.tuples(*(st.sampled_from([1, n]) for n in full)))
    if draw(st.booleans()):
        options["mask"] = np.random.default_rng(seed).random(ones_or((B, H, T, S))) < 0.6
    bias = tensor(*ones_or((B, H, T, S)), seed=seed + 3) if draw(st.booleans()) else None
    q, k, v = tensor(B, H, T, D, seed=seed), tensor(B, H, S, D, seed=seed + 1), tensor(B, H, S, D, seed=seed + 2)
    return (q, k, v), bias, options


@given(case=cases(), recompute=st.booleans())
def test_attention_has_its_formulas_values_and_the_gradients_of_finite_differences(case, recompute):
    (q, k, v), bias, options = case
    got = ops.attention(q, k, v, bias=bias, recompute=recompute, **options)
    expected = reference(q.data, k.data, v.data, bias=None if bias is None else bias.data, **options)
    assert_close(got.data, expected, 1e-12)
    inputs = [q, k, v] + ([bias] if bias is not None else [])
    if sum(x.size for x in inputs) <= 60:
        fn = lambda q, k, v, bias=None: ops.attention(q, k, v, bias=bias, recompute=recompute, **options)
        gradcheck(fn, inputs)


@given(case=cases())
def test_looking_at_nothing_gives_zeros_and_no_gradient(case):
    (q, k, v), bias, options = case
    options["mask"] = np.zeros((1, 1, 1, 1), bool)
    for recompute in (False, True):
        fn = lambda *qkv, again=recompute: ops.attention(*qkv, bias=bias, recompute=again, **options)
        assert not fn(q, k, v).data.any()
        assert not any(g.any() for g in gradient(fn, q, k, v))


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("causal, window", [(False, None), (True, None), (True, 5), (True, 70)])
@pytest.mark.parametrize("T, S", [(65, 65), (1, 130), (64, 150), (130, 20)])
def test_attention_over_several_strips_is_its_formula(T, S, causal, window, recompute):
    q, k, v = tensor(2, 3, T, 4), tensor(2, 3, S, 4, seed=1), tensor(2, 3, S, 4, seed=2)
    bias = tensor(1, 3, T, S, seed=3)
    mask = np.random.default_rng(4).random((2, 1, 1, S)) < 0.8
    y = ops.attention(q, k, v, causal=causal, window=window, mask=mask, bias=bias, recompute=recompute)
    options = dict(causal=causal, window=window, mask=mask)
    assert_close(y.data, reference(q.data, k.data, v.data, bias=bias.data, **options), 1e-12)
    g = np.random.default_rng(5).standard_normal(y.shape)
    y.backward(g)

    # The gradient by the plain ops, which gradcheck has passed.
    twins = [Tensor(x.data, requires_grad=True) for x in (q, k, v, bias)]
    scores = twins[0] @ twins[1].swapaxes(2, 3) * 0.5 + twins[3]
    may = np.tri(T, S, S - T, dtype=bool) if causal else np.ones((T, S), bool)
    may = may & mask if window is None else may & mask & last_keys(T, S, window)
    p = ops.where(may, scores, -1e9).softmax() * may.any(-1, keepdims=True)
    (p @ twins[2]).backward(g)
    for x, twin in zip((q, k, v, bias), twins):
        assert_close(x.grad, twin.grad, 1e-11)


@pytest.mark.parametrize("shift", [0.0, 200.0, -200.0])
@pytest.mark.parametrize("recompute", [False, True])
def test_large_scores_overflow_neither_value_nor_gradient(shift, recompute):
    q, k, v = (Tensor(tensor(1, 2, 5, 3, seed=i).data.astype(np.float32), requires_grad=True) for i in range(3))
    bias = Tensor(np.full((1, 1, 1, 5), shift, np.float32))
    fn = lambda *qkv: ops.attention(*qkv, bias=bias, recompute=recompute)
    plain = lambda *qkv: ops.attention(*qkv, recompute=recompute)
    assert_close(fn(q, k, v).data, plain(q, k, v).data, 1e-4)  # adding 200 leaves float32 5 digits behind the point
    for got, expected in zip(gradient(fn, q, k, v), gradient(plain, q, k, v)):
        assert_close(got, expected, 1e-4)


def test_scores_of_minus_infinity_are_like_a_mask():
    q, k, v = (tensor(1, 1, 3, 2, seed=i) for i in range(3))
    mask = np.array([True, False, True])
    bias = Tensor(np.where(mask, 0, -np.inf).reshape(1, 1, 1, 3))
    masked, biased = (lambda *a: ops.attention(*a, mask=mask)), (lambda *a: ops.attention(*a, bias=bias))
    assert_close(masked(q, k, v).data, biased(q, k, v).data, 1e-14)
    for got, expected in zip(gradient(biased, q, k, v), gradient(masked, q, k, v)):
        assert_close(got, expected, 1e-14)


@pytest.mark.parametrize("T, S", [(0, 3), (3, 0), (0, 0)])
def test_attention_works_on_empty_sequences(T, S):
    q, k, v = tensor(2, 2, T, 3), tensor(2, 2, S, 3), tensor(2, 2, S, 3)
    for causal in (False, True):
        y = ops.attention(q, k, v, causal=causal)
        assert y.shape == (2, 2, T, 3) and not y.data.any()
        assert [g.shape for g in gradient(lambda *a: ops.attention(*a, causal=causal), q, k, v)] == [  # noqa: B023
            q.shape, k.shape, v.shape,
        ]  # fmt: skip


def test_attention_works_on_arrays_that_are_not_contiguous():
    views = [Tensor(tensor(2, 3, 4, 8, seed=i).data.swapaxes(1, 2)[..., ::-2], requires_grad=True) for i in range(3)]
    assert_close(ops.attention(*views).data, reference(*(x.data for x in views)), 1e-13)
    gradcheck(ops.attention, views)


# ---- self-attention from one packed array


few = st.integers(1, 2)


@given(B=few, T=st.integers(1, 4), H=st.integers(1, 3), D=few, causal=st.booleans(), seed=seeds)
def test_self_attention_is_attention_of_the_three_parts(B, T, H, D, causal, seed):
    x = tensor(B, T, 3 * H * D, seed=seed)

    def plain(x):
        q, k, v = (part.reshape(B, T, H, D).swapaxes(1, 2) for part in x.chunk(3, -1))
        return ops.attention(q, k, v, causal=causal).swapaxes(1, 2).reshape(B, T, H * D)

    packed = lambda x: ops.self_attention(x, H, causal=causal)
    assert_close(packed(x).data, plain(x).data, 1e-13)
    assert_close(gradient(packed, x)[0], gradient(plain, x)[0], 1e-13)
    if x.size <= 40:
        gradcheck(packed, [x])


@pytest.mark.parametrize("window", [None, 1, 3, 9])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_one_query_without_a_gradient_gets_what_it_gets_with_one(window, masked, biased):
    """Decoding takes another way through the kernels than training."""
    B, H, S, D = 3, 2, 7, 4
    q, k, v = tensor(B, H, 1, D), tensor(B, H, S, D, seed=1), tensor(B, H, S, D, seed=2)
    mask = np.arange(S) >= np.array([0, 4, 6])[:, None, None, None] if masked else None
    options = dict(causal=True, window=window, mask=mask, bias=tensor(1, H, 1, S, seed=3) if biased else None)
    expected = ops.attention(q, k, v, **options)
    plain = [Tensor(x.data) for x in (q, k, v)]
    if biased:
        options["bias"] = Tensor(options["bias"].data)
    got = ops.attention(*plain, **options)
    assert expected.requires_grad and not got.requires_grad
    assert_close(got.data, expected.data, 1e-13)


def test_one_query_that_may_look_at_nothing_gets_zeros():
    q, k, v = (Tensor(tensor(1, 1, n, 2).data) for n in (1, 3, 3))
    assert ops.attention(q, k, v, mask=np.zeros((1, 1, 1, 3), bool)).data.tolist() == [[[[0, 0]]]]



def test_self_attention_takes_a_bias_with_a_gradient_and_a_scale():
    x, bias = tensor(2, 3, 12), tensor(2, 3, 3, seed=1)

    def plain(x, bias):
        q, k, v = (part.reshape(2, 3, 2, 2).swapaxes(1, 2) for part in x.chunk(3, -1))
        return ops.attention(q, k, v, bias=bias, scale=1.0, causal=True).swapaxes(1, 2).reshape(2, 3, 4)

    packed = lambda x, bias: ops.self_attention(x, 2, bias=bias, scale=1.0, causal=True)
    assert_close(packed(x, bias).data, plain(x, bias).data, 1e-13)
    for ours, expected in zip(gradient(packed, x, bias), gradient(plain, x, bias)):
        assert_close(ours, expected, 1e-13)
    gradcheck(packed, [x, bias])


# ---- dropout


def test_dropout_keeps_the_mean_and_is_the_same_for_the_same_seed():
    q, k, v = (tensor(1, 1, 1, 2, seed=i) for i in range(3))
    k, v = (Tensor(np.repeat(x.data, 40_000, 2)) for x in (k, v))
    tt.manual_seed(5)
    first = ops.attention(q, k, v, dropout=0.25).data
    tt.manual_seed(5)
    np.testing.assert_array_equal(ops.attention(q, k, v, dropout=0.25).data, first)
    # 40,000 equal keys: the mean of independent keeps, within five standard deviations.
    assert_close(first, v.data[:, :, :1], 5 * math.sqrt(0.25 / 0.75 / 40_000) * 2)


@pytest.mark.parametrize("recompute", [False, True])
def test_the_gradient_with_dropout_is_that_of_finite_differences(recompute):
    def fn(q, k, v):
        tt.manual_seed(11)
        return ops.attention(q, k, v, causal=True, dropout=0.5, recompute=recompute)

    gradcheck(fn, [tensor(1, 2, 3, 2, seed=i) for i in range(3)])


def test_recomputing_draws_the_same_dropout():
    inputs = [tensor(2, 2, 70, 3, seed=i) for i in range(3)]
    results = []
    for recompute in (False, True):
        tt.manual_seed(11)
        y = lambda *a, again=recompute: ops.attention(*a, causal=True, dropout=0.5, recompute=again)
        results.append(gradient(y, *inputs))
    for kept, recomputed in zip(*results):
        assert_close(recomputed, kept, 1e-13)


# ---- bad input


@pytest.mark.parametrize(
    "q, k, v",
    [((2, 3, 4), (2, 3, 4), (2, 3, 4)), ((1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 3, 5)),
     ((1, 2, 3, 4), (2, 2, 3, 4), (2, 2, 3, 4)),
     ((1, 2, 3, 4), (1, 1, 3, 4), (1, 1, 3, 4)), ((1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 6, 4))],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_named(q, k, v):
    with pytest.raises(ValueError) as error:
        ops.attention(tensor(*q), tensor(*k), tensor(*v))
    assert str(error.value) == f"attention: q {q}, k {k} and v {v} must be (B, H, T, D) and twice (B, H, S, D)"


def test_bad_options_are_named():
    q = tensor(1, 2, 3, 4)
    with pytest.raises(ValueError, match=r"mask has shape \(2,\), which does not broadcast to .* \(1, 2, 3, 3\)"):
        ops.attention(q, q, q, mask=np.ones(2, bool))
    with pytest.raises(ValueError, match=r"mask must be boolean .* not int64"):
        ops.attention(q, q, q, mask=np.ones(3, np.int64))
    with pytest.raises(ValueError, match="bias has shape"):
        ops.attention(q, q, q, bias=tensor(4))
    with pytest.raises(ValueError, match="q and v: float64 and float32 do not mix"):
        ops.attention(q, q, Tensor(q.data.astype(np.float32)))
    with pytest.raises(ValueError, match=r"window=2 must be at least 1 .* with causal=True"):
        ops.attention(q, q, q, window=2)
    with pytest.raises(ValueError, match="window=0"):
        ops.attention(q, q, q, causal=True, window=0)
    with pytest.raises(ValueError, match=r"dropout=1\.5 is not a share"):
        ops.attention(q, q, q, dropout=1.5)
    with pytest.raises(ValueError, match=r"qkv \(2, 3, 8\) must be \(B, T, 3 \* C\), with C divisible by 2 heads"):
        ops.self_attention(tensor(2, 3, 8), 2)
    with pytest.raises(ValueError, match=r"qkv \(3, 12\) must be"):
        ops.self_attention(tensor(3, 12), 2)


@pytest.mark.parity
def test_values_and_gradients_are_torchs():
    torch = pytest.importorskip("torch")
    sdpa = torch.nn.functional.scaled_dot_product_attention
    q, k, v = tensor(2, 3, 70, 4), tensor(2, 3, 70, 4, seed=1), tensor(2, 3, 70, 4, seed=2)
    assert_same_as_torch(ops.attention, sdpa, q, k, v)
    causal = lambda *a: ops.attention(*a, causal=True)
    assert_same_as_torch(causal, lambda *a: sdpa(*a, is_causal=True), q, k, v)
    mask = np.random.default_rng(0).random((2, 1, 70, 70)) < 0.5
    masked = lambda *a: ops.attention(*a, mask=mask, scale=1.0)
    assert_same_as_torch(masked, lambda *a: sdpa(*a, attn_mask=torch.tensor(mask), scale=1.0), q, k, v)
    bias = tensor(1, 3, 70, 70, seed=3)
    assert_same_as_torch(
        lambda q, k, v, b: ops.attention(q, k, v, bias=b), lambda q, k, v, b: sdpa(q, k, v, attn_mask=b), q, k, v, bias
    )
