"""The attention kernels' own sources, run under the CUDA emulator: values against the plain version in float64, and
gradients against the CPU's kernels."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.backend.gpu import emulator
from tests.backend.gpu.emulator import GAMES, H100, T4
from tests.backend.gpu.reference import assert_close, normal, wide
from tests.helpers import last_keys
from tinytensor.backend import cpu, gpu
from tinytensor.backend.gpu import launch
from tinytensor.backend.gpu.attention import Rules, backward_plan, check_head_width, forward_plan
from tinytensor.ops.attention import plain_attention

RULES = Rules(False, None, None, None, None, 0, 0)
few = settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])


def inputs(B, H, T, S, D, dtype, seed=0):
    shapes = {"q": (B, H, T, D), "k": (B, H, S, D), "v": (B, H, S, D), "dy": (B, H, T, D)}
    return {name: normal(seed + i, shape, dtype) for i, (name, shape) in enumerate(shapes.items())}


def plain(q, k, v, scale, causal=False, window=None, mask=None, bias=0.0):
    """The plain version; the window is one more mask."""
    near = last_keys(q.shape[2], k.shape[2], window)
    mask = near if mask is None else mask if near is None else mask & near
    return plain_attention(q, k, v, scale=scale, causal=causal, mask=mask, bias=bias)


def check(B, H, T, S, D, dtype, seed=0, **options):
    """Value and every gradient, against float64."""
    q, k, v, dy = inputs(B, H, T, S, D, dtype, seed).values()
    options = {"scale": D**-0.5, **options}
    need_bias = options.get("bias") is not None
    y, saved = gpu.attention(q, k, v, **options)
    gradients = gpu.attention_backward(dy, saved, need_bias=need_bias)
    options = {name: wide(value) for name, value in options.items()}
    _, right_saved = cpu.attention(*map(wide, (q, k, v)), **options)
    right_gradients = cpu.attention_backward(wide(dy), right_saved, need_bias=need_bias)
    assert_close(y, plain(*map(wide, (q, k, v)), **options))
    for got, want in zip(gradients, right_gradients):
        assert (got is None) == (want is None)
        if got is not None:
            assert got.dtype == q.dtype
            assert_close(got, want)


@pytest.fixture(params=["float32", "float16"])
def dtype(request, emulated):
    return np.dtype(request.param)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("T, S, D", [(1, 1, 32), (70, 70, 64), (33, 100, 32), (100, 33, 32), (5, 0, 32)])
def test_the_kernel_to_be_read_is_the_plain_version(emulated, T, S, D, causal):
    q, k, v, _ = inputs(2, 3, T, S, D, np.float32, seed=1).values()
    q *= 30  # scores of about 30, so that a later tile's highest matters
    y = np.full_like(q, np.nan)
    arguments = (q, k, v, y, T, S, D**-0.5, int(causal))
    launch.launch("attention_minimal.cu", f"attention_minimal<{D}>", (-(-T // 32), 3, 2), 32, arguments)
    assert_close(y, plain_attention(*map(wide, (q, k, v)), causal=causal))


@given(T=st.integers(1, 150), S=st.integers(1, 150), B=st.integers(1, 2), seed=st.integers(0, 99))
@few
def test_full_attention_of_unequal_lengths_equals_float64(dtype, T, S, B, seed):
    check(B, 2, T, S, 64, dtype, seed)


@given(T=st.sampled_from([1, 5, 63, 64, 65, 128, 140]), seed=st.integers(0, 99))
@few
def test_causal_attention_equals_float64_at_every_edge_of_a_tile(dtype, T, seed):
    check(1, 2, T, T, 64, dtype, seed, causal=True)


def test_causal_queries_are_level_with_the_last_keys(dtype):
    check(1, 1, 70, 150, 64, dtype, causal=True)
    check(1, 1, 150, 70, 64, dtype, causal=True)  # the first 80 queries see nothing and give zeros


@pytest.mark.parametrize("window", [1, 20, 64, 100])
def test_a_window_of_keys_equals_float64(dtype, window):
    check(1, 1, 130, 150, 64, dtype, causal=True, window=window)


def test_padding_mask_and_bias_and_their_gradients_equal_float64(dtype):
    mask = np.arange(90) < np.array([50, 90])[:, None]
    check(2, 2, 80, 90, 64, dtype, mask=mask[:, None, None, :])
    check(2, 2, 80, 90, 64, dtype, mask=mask[:, None, None, :], bias=normal(9, (1, 2, 80, 90), dtype), scale=1.0)
    check(2, 2, 80, 90, 64, dtype, bias=normal(9, (90,), dtype), causal=True)


def test_an_arbitrary_mask_equals_float64_also_in_rows_without_any_key(dtype):
    mask = np.random.default_rng(3).random((1, 2, 70, 70)) < 0.3
    mask[0, 1, 5] = False
    check(1, 2, 70, 70, 64, dtype, mask=mask)


def test_a_mask_for_whole_texts_opens_or_closes_all_their_keys(dtype):
    check(2, 1, 20, 70, 64, dtype, mask=np.array([True, False])[:, None, None, None])


@pytest.mark.parametrize("D", [32, 80, 128])
def test_other_head_widths_equal_float64(dtype, D):
    check(1, 1, 70, 70, D, dtype, causal=True)
    check(1, 1, 70, 90, D, dtype, bias=normal(9, (1, 1, 70, 90), dtype))


@pytest.mark.parametrize("D", [96, 128])
def test_a_gpu_with_less_shared_memory_takes_smaller_tiles_of_wide_heads(dtype, emulated, D):
    emulated.setattr(emulator, "gpu", GAMES)
    q = np.empty((1, 1, 70, D), dtype)
    assert backward_plan(q, RULES, H100).shared_bytes > GAMES.shared_memory
    assert backward_plan(q, RULES, GAMES).shared_bytes <= GAMES.shared_memory
    check(1, 1, 70, 90, D, dtype, causal=True)


@pytest.mark.parametrize("D", [64, 128])
def test_a_gpu_before_the_a100_takes_plain_kernels_that_fit_into_it(dtype, emulated, D):
    emulated.setattr(emulator, "gpu", T4)
    q = np.empty((1, 1, 70, D), dtype)
    for plan in (forward_plan(q, RULES, 1.0, T4), backward_plan(q, RULES, T4)):
        assert plan.file == "attention_plain.cu" and plan.shared_bytes <= T4.shared_memory
    check(1, 1, 70, 90, D, dtype, causal=True)
    check(1, 1, 2, 90, D, dtype, causal=True)  # decoding's kernel forward, the plain one backward


@pytest.mark.parametrize("gpu", [H100, T4])
def test_16_bit_heads_wider_than_the_tensor_cores_kernels_take_equal_float64(emulated, gpu):
    emulated.setattr(emulator, "gpu", gpu)
    for D in (136, 256):
        check(1, 1, 40, 70, D, np.dtype(np.float16), causal=True)
        check(1, 1, 2, 70, D, np.dtype(np.float16), bias=normal(9, (1, 1, 2, 70), np.float16))


def test_what_fits_into_no_tile_is_said_to(emulated):
    wide = np.zeros((1, 1, 40, 256), np.float32)
    assert forward_plan(wide, RULES, 1.0, GAMES).shared_bytes <= GAMES.shared_memory
    assert backward_plan(wide, RULES, GAMES).shared_bytes > GAMES.shared_memory  # launch.run says so
    assert backward_plan(wide.astype(np.float16), RULES, T4).shared_bytes <= T4.shared_memory


def test_training_with_heads_too_wide_for_a_gpu_is_refused_with_both_numbers(emulated):
    emulated.setattr(emulator, "gpu", GAMES)
    for D, dtype in ((128, np.float32), (256, np.float16)):
        check_head_width(D, dtype)
    what = "heads of 256 numbers in float32 takes 102 KB of shared memory, and this GPU has at most 99 KB for a block"
    with pytest.raises(ValueError, match=f"{what}; take narrower heads, or --dtype bfloat16$"):
        check_head_width(256, np.float32)
    emulated.setattr(emulator, "gpu", H100)
    check_head_width(256, np.float32)
    with pytest.raises(ValueError, match="at most 256 numbers, not 300"):
        check_head_width(300, np.float32)


def test_heads_whose_rows_cannot_be_loaded_whole_are_copied(dtype):
    check(1, 1, 9, 9, 20, dtype, causal=True)


def test_bfloat16_equals_float64(emulated, bfloat16):
    check(1, 2, 70, 90, 64, bfloat16, causal=True)
    check(1, 2, 1, 300, 64, bfloat16, causal=True)


def test_a_negative_scale_equals_float64(dtype):
    check(1, 1, 70, 70, 64, dtype, scale=-0.2)


def test_a_bias_of_minus_infinity_closes_keys(dtype):
    for T in (1, 40):
        q, k, v, _ = inputs(1, 2, T, 90, 64, dtype).values()
        bias = np.zeros((1, 2, 1, 90), dtype)
        bias[..., :70] = -np.inf
        bias[0, 1] = -np.inf  # a head that may see nothing gives zeros
        y = gpu.attention_step(q, k, v, scale=0.125, bias=bias)
        assert_close(y, cpu.attention_step(*map(wide, (q, k, v)), scale=0.125, bias=wide(bias)))
        assert not y[0, 1].any()


@pytest.mark.parametrize("T", [1, 3])
def test_few_queries_against_a_long_cache_equal_float64(dtype, T):
    check(2, 2, T, 700, 64, dtype, causal=True)
    q, k, v, _ = inputs(2, 2, T, 700, 64, dtype).values()
    lengths = np.array([700, 300])
    bias = normal(5, (1, 2, T, 700), dtype)
    y = gpu.attention_step(q, k, v, scale=0.125, lengths=lengths, bias=bias)
    want = cpu.attention_step(*map(wide, (q, k, v)), scale=0.125, lengths=lengths, bias=wide(bias))
    assert_close(y, want)


def test_float64_is_as_exact_as_on_the_cpu(emulated):
    check(2, 1, 40, 70, 64, np.dtype("float64"), causal=True, window=30)


def test_gradients_are_written_into_views_of_one_packed_array(dtype):
    B, H, T, D = 2, 2, 33, 64
    packed = normal(1, (B, T, 3, H, D), dtype)
    q, k, v = (packed[:, :, part].swapaxes(1, 2) for part in range(3))
    _, saved = gpu.attention(q, k, v, scale=0.125, causal=True)
    dpacked = np.full_like(packed, np.nan)
    dy = normal(2, (B, H, T, D), dtype)
    gpu.attention_backward(dy, saved, out=[dpacked[:, :, part].swapaxes(1, 2) for part in range(3)])
    _, right = cpu.attention(*map(wide, (q, k, v)), scale=0.125, causal=True)
    for part, want in enumerate(cpu.attention_backward(wide(dy), right)[:3]):
        assert_close(dpacked[:, :, part].swapaxes(1, 2), want)


def test_dropout_drops_its_share_and_backward_drops_the_same(dtype):
    """With one value vector of ones, a row of y is the kept probability mass over 1 - p."""
    B, H, T, S, D, p = 1, 2, 80, 130, 64, 0.25
    q, k, _, dy = inputs(B, H, T, S, D, dtype).values()
    v = np.zeros((B, H, S, D), dtype)
    places = np.arange(D)
    v[:, :, places, places] = 1  # y[t, d] = P[t, d] kept[t, d] / (1 - p) for the first D keys
    y, saved = gpu.attention(q, k, v, scale=0.125, dropout=p, rng=np.random.default_rng(1))
    whole, _ = gpu.attention(q, k, v, scale=0.125)
    kept = y != 0
    assert_close(y[kept], wide(whole)[kept] / (1 - p), factor=2)
    assert abs(kept.mean() - (1 - p)) < 0.02  # 10240 draws: 4.7 standard deviations
    # dP = dy v^T is dy itself for those keys, so with dS = P (kept dP / (1 - p) - delta) all gradients follow.
    _, dk, dv, _ = gpu.attention_backward(dy, saved)
    P = np.exp(np.float64(0.125) * wide(q) @ wide(k).swapaxes(2, 3))
    P /= P.sum(-1, keepdims=True)
    want_dv = ((P[..., :D] * kept).swapaxes(2, 3) @ wide(dy)) / (1 - p)
    assert_close(dv[:, :, :D], want_dv)
    dS = -P * (wide(dy) * wide(y)).sum(-1, keepdims=True)
    dS[..., :D] += P[..., :D] * kept * wide(dy) / (1 - p)
    assert_close(dk, 0.125 * dS.swapaxes(2, 3) @ wide(q), factor=2)


@pytest.mark.parametrize("S", [90, 91])
def test_a_bias_is_read_alike_whether_its_neighbours_lie_side_by_side_or_not(emulated, S):
    q, k, v, dy = inputs(1, 2, 70, S, 64, np.float16).values()
    bias = normal(9, (1, 2, 70, S), np.float16)
    kinds = [bias, np.ascontiguousarray(bias.swapaxes(2, 3)).swapaxes(2, 3), bias[:, :1], bias[:, :, :1]]
    for one in kinds:
        y, saved = gpu.attention(q, k, v, scale=0.125, bias=one)
        right, right_saved = cpu.attention(*map(wide, (q, k, v)), scale=0.125, bias=wide(one))
        assert_close(y, right)
        want = cpu.attention_backward(wide(dy), right_saved)
        for got, w in zip(gpu.attention_backward(dy, saved)[:3], want):
            assert_close(got, w)


def test_dropout_masks_of_different_seeds_heads_and_rows_differ(emulated):
    q, k, _, _ = inputs(1, 2, 64, 64, 64, np.float32).values()
    v = np.broadcast_to(np.eye(64, dtype=np.float32), (1, 2, 64, 64))
    masks = [gpu.attention(q, k, v, scale=0.1, dropout=0.5, rng=np.random.default_rng(s))[0] != 0 for s in (1, 2)]
    flat = np.concatenate([mask.reshape(-1, 64) for mask in masks])
    agreement = (flat[:, None] == flat[None]).mean(-1)
    np.fill_diagonal(agreement, 0.5)
    assert 0.1 < agreement.min() and agreement.max() < 0.9  # 64 coins: 6 standard deviations from a half


def test_a_row_of_the_batch_does_not_depend_on_the_others(dtype):
    q, k, v, _ = inputs(3, 1, 40, 40, 64, dtype).values()
    together, _ = gpu.attention(q, k, v, scale=0.125, causal=True)
    for row in range(3):
        alone, _ = gpu.attention(*(a[row : row + 1] for a in (q, k, v)), scale=0.125, causal=True)
        assert alone.tobytes() == together[row : row + 1].tobytes()


def test_an_empty_batch_and_no_queries_give_empty_results(dtype):
    for B, T in ((0, 5), (1, 0)):
        q, k, v, dy = inputs(B, 2, T, 5, 64, dtype).values()
        y, saved = gpu.attention(q, k, v, scale=0.125)
        dq, dk, dv, _ = gpu.attention_backward(dy, saved)
        assert y.shape == dq.shape == q.shape
        assert dk.shape == k.shape
        assert not dk.any() and not dv.any()


@pytest.mark.parametrize("order", [emulator.DOWNWARDS, emulator.RANDOM])
def test_the_order_in_which_threads_run_changes_nothing(emulated, order):
    """A missing barrier would let one order read what another has not written yet."""
    for dtype in (np.float16, np.float32):
        q, k, v, dy = inputs(1, 1, 100, 140, 64, dtype).values()
        results = []
        for threads in (emulator.UPWARDS, order):
            emulated.setattr(emulator, "order", threads)
            y, saved = gpu.attention(q, k, v, scale=0.125, causal=True)
            _, dk, dv, _ = gpu.attention_backward(dy, saved)  # dq is added up in any order
            results.append([a.tobytes() for a in (y, dk, dv)])
        assert results[0] == results[1]


def test_tiles_are_read_without_bank_conflicts(emulated):
    for D in (64, 96):
        q, k, v, dy = inputs(1, 1, 70, 70, D, np.float16).values()
        _, saved = gpu.attention(q, k, v, scale=0.125)
        gpu.attention_backward(dy, saved)
        rules, scale = saved[6], saved[5]
        for plan in (forward_plan(q, rules, scale, H100), backward_plan(q, rules, H100)):
            assert emulator.bank_conflicts(plan.file, plan.name) == 0


def test_a_head_too_wide_is_refused_with_its_width(emulated):
    q, k, v, _ = inputs(1, 1, 8, 8, 300, np.float32).values()
    with pytest.raises(ValueError, match="at most 256 numbers, not 300"):
        gpu.attention(q, k, v, scale=1.0)
