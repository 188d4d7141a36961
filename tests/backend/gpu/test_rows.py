"""Norms, softmax, losses, GELU, dropout, embedding, optimizers: the kernels' sources under the CUDA emulator.

Each is compared with the CPU's kernel in float64.
"""

import inspect

import numpy as np
import pytest

from tests.backend.gpu.reference import assert_close, normal, wide
from tinytensor.backend import cpu, gpu
from tinytensor.backend.gpu.arrays import add_bias, sort_ids
from tinytensor.backend.gpu.softmax import cross_entropy_into
from tinytensor.ops.softmax import plain_cross_entropy

SHAPES = [(3, 64), (2, 3, 13), (5, 1), (1, 2100)]


@pytest.fixture(params=["float32", "float16"])
def dtype(request, emulated):
    return np.dtype(request.param)


def test_both_backends_have_the_same_functions_with_the_same_signatures():
    ours, theirs = (dict(inspect.getmembers(kernels, inspect.isfunction)) for kernels in (gpu, cpu))
    assert ours.keys() == theirs.keys() and "attention_backward" in ours
    for name, function in ours.items():
        assert inspect.signature(function) == inspect.signature(theirs[name]), name


def check(name, *arguments, way=None, **options):
    """gpu.name(*arguments) against cpu.name in float64, and its backward kernel, given one gradient per output.

    way: options that both kernels take, forward and backward.
    """
    way = way or {}
    got = getattr(gpu, name)(*arguments, **options, **way)
    want = getattr(cpu, name)(*map(wide, arguments), **{k: wide(v) for k, v in options.items()}, **way)
    values = lambda result: list(result[:-1]) if isinstance(result, tuple) else [result]
    for g, w in zip(values(got), values(want)):
        assert_close(g, w, factor=2)
    gradients = [normal(7 + i, v.shape, v.dtype) for i, v in enumerate(values(got))]
    saved = (got[-1], want[-1]) if isinstance(got, tuple) else (got, want)
    back = getattr(gpu, name + "_backward")(*gradients, saved[0], **way)
    right = getattr(cpu, name + "_backward")(*map(wide, gradients), saved[1], **way)
    check_all(back, right)


def check_all(got, want):
    as_list = lambda result: list(result) if isinstance(result, tuple) else [result]
    for g, w in zip(as_list(got), as_list(want)):
        assert (g is None) == (w is None)
        if g is not None:
            assert_close(g, w, factor=3)  # sums over rows of products that were rounded before


@pytest.mark.parametrize("shape", [(1, 1), (7, 40), (300, 24), (200, 13), (70, 600), (3, 1000), (0, 5), (4, 0)])
def test_sums_of_columns_equal_float64(dtype, shape):
    x = normal(1, shape, dtype)
    assert_close(gpu.column_sums(x), wide(x).sum(axis=0), factor=4)
    assert gpu.column_sums(x).dtype == dtype and gpu.column_sums(x, np.float64).dtype == np.float64
    padded = np.full((len(x), shape[1] + 5), np.nan, dtype)[:, : shape[1]]
    padded[...] = x
    assert_close(gpu.column_sums(padded), wide(x).sum(axis=0), factor=4)
    assert_close(gpu.column_sums(np.asfortranarray(x)), wide(x).sum(axis=0), factor=4)


def test_sums_of_many_rows_of_16_bits_are_rounded_once(emulated):
    x = np.full((5000, 9), 0.1, np.float16)
    assert (gpu.column_sums(x) == np.float16(5000 * float(np.float16(0.1)))).all()


@pytest.mark.parametrize("shape", [(1, 1), (7, 40), (300, 24), (200, 13), (0, 5)])
def test_a_bias_is_added_to_rows_that_lie_close_or_apart(dtype, shape):
    x, bias = normal(1, shape, dtype), normal(2, shape[1:], dtype)
    padded = np.full((len(x), -(-shape[1] // 8) * 8 + 8), np.nan, dtype)
    for y in (x.copy(), padded[:, : shape[1]], x.copy(order="F")):
        y[...] = x
        add_bias(y, bias)
        assert_close(y, wide(x) + wide(bias))
    assert np.isnan(padded[:, shape[1] :]).all()
    weight = normal(3, (9, shape[1]), dtype)
    got = gpu.matmul(weight, x.T, bias=(more := normal(4, (len(x),), dtype)))
    assert_close(got, wide(weight) @ wide(x).T + wide(more), factor=2)


@pytest.mark.parametrize("classes", [1, 7, 8, 50, 1030])
def test_rows_of_logits_that_lie_as_if_there_were_more_equal_float64(dtype, classes):
    room = np.full((5, -(-classes // 8) * 8), np.nan, dtype)
    logits, targets = room[:, :classes], np.array([0, classes - 1, -100, classes // 2, classes - 1])
    logits[...] = normal(3, logits.shape, dtype)
    options = dict(ignore_index=-100, label_smoothing=0.1, z_loss=0.01)
    losses, saved = gpu.cross_entropy(logits, targets, **options)
    right, right_saved = cpu.cross_entropy(wide(logits), targets, **options)
    assert_close(losses, right)
    dlosses = normal(4, (5,), losses.dtype)
    want = cpu.cross_entropy_backward(wide(dlosses), right_saved)
    assert_close(gpu.cross_entropy_backward(dlosses, saved), want)
    assert_close(cross_entropy_into(logits, dlosses, saved), want)
    assert np.isnan(room[:, classes:]).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_norms_and_their_gradients_equal_float64(dtype, shape):
    x, branch = normal(1, shape, dtype) + dtype.type(0.5), normal(2, shape, dtype)
    weight, bias = normal(3, shape[-1:], dtype), normal(4, shape[-1:], dtype)
    check("normalize", x, None, weight, bias, 1e-3, centre=True)
    check("normalize", x, None, weight, None, 1e-3, centre=False)
    check("normalize", x, branch, weight, None, 1e-3, centre=True)
    check("normalize", x, branch, None, None, 1e-3, centre=False)


@pytest.mark.parametrize("shape", SHAPES)
def test_dropout_before_the_sum_equals_float64_with_the_mask_of_dropout_alone(dtype, shape):
    x, branch, dtotal, dy = (normal(i, shape, dtype) for i in range(4))
    weight, p, rng = normal(4, shape[-1:], dtype), 0.3, lambda: np.random.default_rng(1)
    dropped, mask = gpu.dropout(branch.astype(np.float32), p, rng())
    *got, saved = gpu.normalize(x, branch, weight, None, 1e-3, centre=True, dropout=p, rng=rng())
    *want, right = cpu.normalize(wide(x), wide(dropped), wide(weight), None, 1e-3, centre=True)
    for g, w in zip(got, want):
        assert_close(g, w, factor=2)
    dx, _, *others = cpu.normalize_backward(wide(dtotal), wide(dy), right)
    dbranch = gpu.dropout_backward(dx.astype(np.float32), mask, p)
    check_all(gpu.normalize_backward(dtotal, dy, saved), (dx, dbranch, *others))


def test_a_norm_of_many_rows_adds_up_its_weights_gradient_over_all_of_them(emulated):
    shape = (5000, 16)
    check("normalize", normal(1, shape), None, normal(2, (16,)), normal(3, (16,)), 1e-5, centre=True)


def test_norms_refuse_rows_that_are_too_long(emulated):
    x = np.zeros((1, 9000), np.float32)[:, :8999]
    with pytest.raises(ValueError, match="rows of at most 8192, not 8999"):
        gpu.normalize(x, None, None, None, 1e-6, centre=False)


@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_and_log_softmax_equal_float64(dtype, shape):
    x = normal(1, shape, dtype, scale=3)
    check("softmax", x)
    check("softmax", x, way={"log": True})


def test_softmax_of_masked_logits_equals_float64(emulated):
    x = normal(1, (3, 50))
    x[0, :30] = -np.inf
    x[1, 1:] = -np.inf
    check("softmax", x)


@pytest.mark.parametrize("classes", [2, 65, 5000, 50257])
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "z_loss": 0.01}])
def test_cross_entropy_equals_float64_and_ignores_what_it_should(dtype, classes, options):
    logits = normal(1, (6, classes), dtype, scale=4)
    targets = np.random.default_rng(2).integers(0, classes, 6)
    targets[3] = -100
    losses, saved = gpu.cross_entropy(logits, targets, ignore_index=-100, **options)
    right = plain_cross_entropy(wide(logits), targets, **options)
    _, right_saved = cpu.cross_entropy(wide(logits), targets, ignore_index=-100, **options)
    assert losses.dtype == np.float32 and losses[3] == 0
    assert_close(losses, right, dtype=np.dtype(np.float32))
    dlosses = normal(3, (6,))
    dlogits = gpu.cross_entropy_backward(dlosses, saved)
    assert not dlogits[3].any()
    assert_close(dlogits, cpu.cross_entropy_backward(wide(dlosses), right_saved))


def test_a_loss_near_zero_keeps_its_digits_beside_large_logits(emulated):
    logits = np.array([[1e4, 1e4 - 10, 1e4 - 12]], np.float32)
    losses, _ = gpu.cross_entropy(logits, np.array([0]), ignore_index=-100)
    assert abs(losses[0] / np.log1p(np.exp(-10.0) + np.exp(-12.0)) - 1) < 3e-3


def test_linear_cross_entropy_turns_its_logits_into_their_gradient(emulated):
    x, weight, targets = normal(1, (7, 16)), normal(2, (300, 16)), np.arange(7) * 40
    targets[2] = -100
    for bias in (None, normal(3, (300,))):
        options = dict(ignore_index=-100)
        losses, saved = gpu.linear_cross_entropy(x, weight, targets, bias=bias, **options)
        right, right_saved = cpu.linear_cross_entropy(wide(x), wide(weight), targets, bias=wide(bias), **options)
        assert_close(losses, right)
        out = np.empty_like(weight)
        dx, dweight, dbias = gpu.linear_cross_entropy_backward(np.ones(7, np.float32), saved, out=out)
        want = cpu.linear_cross_entropy_backward(np.ones(7), right_saved)
        assert dweight is out
        for got, w in zip((dx, dweight, dbias), want):
            assert (got is None) == (w is None)
            if got is not None:
                assert_close(got, w)


@pytest.mark.parametrize("approximate", [False, True])
def test_gelu_with_its_bias_and_slope_equals_float64(dtype, approximate):
    x, bias = normal(1, (3, 40), dtype, scale=3), normal(2, (40,), dtype)
    x[0, :4] = [60, -60, 0, 8]  # the exponential under- and overflows
    for given in (None, bias):
        y, slope = gpu.gelu(x, approximate, bias=given)
        right_y, right_slope = cpu.gelu(wide(x), approximate, bias=wide(given))
        assert_close(y, right_y)
        assert_close(slope, right_slope)
    for rows, width in ((3, 40), (3, 13), (200, 40)):
        slope, dy = normal(3, (rows, width), dtype), normal(4, (rows, width), dtype)
        dx, dbias = gpu.gelu_backward(dy, slope, need_bias=True)
        assert_close(dx, wide(dy) * wide(slope))
        assert_close(dbias, (wide(dy) * wide(slope)).sum(axis=0), factor=2)
        assert_close(gpu.gelu_backward(dy, slope)[0], wide(dy) * wide(slope))


def test_dropout_keeps_its_share_scaled_and_backward_keeps_the_same(dtype):
    x = np.ones((100, 333), dtype)
    y, mask = gpu.dropout(x, 0.3, np.random.default_rng(1))
    kept = y != 0
    assert_close(y[kept], np.full(kept.sum(), 1 / 0.7), factor=4)  # 0.3 is rounded to a share of 65536
    assert abs(kept.mean() - 0.7) < 0.012  # 33300 draws: 4.8 standard deviations
    assert (gpu.dropout_backward(x, mask, 0.3) == y).all()
    other, _ = gpu.dropout(x, 0.3, np.random.default_rng(2))
    assert 0.5 < ((other != 0) == kept).mean() < 0.66  # 0.58 where masks are independent


def test_ids_are_sorted_and_equal_ones_stay_in_their_order(emulated):
    """With one digit, two and three; over several blocks, and one that is not full."""
    for count, rows in ((1, 1), (255, 40), (5000, 40), (4100, 50257), (300, 70_000)):
        ids = np.random.default_rng(count).integers(0, rows, count)
        ordered, places = sort_ids(ids, rows)
        assert (places == np.argsort(ids, kind="stable")).all()
        assert (ordered == ids[places]).all()


@pytest.mark.parametrize("rows, count, width", [(65, 500, 50), (5, 33, 48), (1000, 20, 48), (3, 400, 264), (1, 64, 8)])
def test_the_embedding_gradient_adds_up_repeated_ids(dtype, rows, count, width):
    """Ids of one place, within a chunk of 32 sorted places, from one into the next, and over many."""
    ids = np.random.default_rng(1).integers(0, rows, (count,))
    dy = normal(2, (count, width), dtype)
    want = cpu.embedding_backward(wide(dy), ids, rows)
    for kind in (np.float32, dtype):
        out = np.empty((rows, width), kind)
        got = gpu.embedding_backward(dy, ids, rows, out=out)
        assert got is out
        assert_close(out, want)
    assert (gpu.embedding(dy, ids[:5] % count) == dy[ids[:5] % count]).all()


@pytest.mark.parametrize("width", [64, 13])
def test_a_row_does_not_depend_on_the_others(dtype, width):
    """To the bit, in value and gradient: who else is in a batch decides nothing."""
    x, branch, dy, dtotal = (normal(i, (5, width), dtype) for i in range(4))
    weight, bias = normal(5, (width,), dtype), normal(6, (width,), dtype)
    targets, dlosses = np.array([3, 0, -100, 12, 7]), normal(7, (5,))

    def results(rows):
        parts = [a[rows] for a in (x, branch, dy, dtotal)]
        yield from gpu.normalize(*parts[:2], weight, bias, 1e-5, centre=True)[:2]
        _, _, saved = gpu.normalize(*parts[:2], weight, None, 1e-5, centre=False)
        yield gpu.normalize_backward(parts[3], parts[2], saved)[0]
        for log in (False, True):
            yield (y := gpu.softmax(parts[0], log))
            yield gpu.softmax_backward(parts[2], y, log)
        losses, saved = gpu.cross_entropy(parts[0], targets[rows], ignore_index=-100, label_smoothing=0.1, z_loss=0.01)
        yield losses
        yield gpu.cross_entropy_backward(dlosses[rows], saved)
        yield from gpu.gelu(parts[0], True, bias=bias)

    together = list(results(slice(None)))
    for row in range(5):
        for alone, whole in zip(results(slice(row, row + 1)), together):
            assert alone.tobytes() == whole[row : row + 1].tobytes()


def test_an_empty_batch_gives_empty_results_and_gradients_of_zero(dtype):
    x, weight, no_ids = np.zeros((0, 24), dtype), np.ones(24, dtype), np.zeros(0, int)
    for centre in (True, False):
        total, y, saved = gpu.normalize(x, x, weight, weight if centre else None, 1e-5, centre=centre)
        dx, dbranch, dweight, dbias = gpu.normalize_backward(x, y, saved)
        assert total.shape == y.shape == dx.shape == dbranch.shape == (0, 24)
        assert dweight.shape == (24,) and not dweight.any()
        assert (dbias is None) == (not centre)
    assert gpu.softmax_backward(x, gpu.softmax(x)).shape == (0, 24)
    losses, saved = gpu.cross_entropy(x, no_ids, ignore_index=-100)
    assert losses.shape == (0,) and gpu.cross_entropy_backward(losses, saved).shape == (0, 24)
    losses, saved = gpu.linear_cross_entropy(x, np.ones((7, 24), dtype), no_ids, ignore_index=-100)
    dx, dweight, _ = gpu.linear_cross_entropy_backward(losses, saved)
    assert dx.shape == (0, 24) and dweight.shape == (7, 24) and not dweight.any()
    assert gpu.gelu(x, False)[0].shape == gpu.dropout(x, 0.5, np.random.default_rng(0))[0].shape == (0, 24)
    assert gpu.embedding(np.ones((7, 24), dtype), no_ids).shape == (0, 24)
    assert not gpu.embedding_backward(x, no_ids, 7).any()


def test_adamw_equals_float64_decays_a_part_and_writes_the_rounded_copy(emulated):
    n, decayed = 5000, 3000
    p, g, v = normal(1, (n,)), normal(2, (n,), np.float16), np.abs(normal(3, (n,)))
    m, copy = normal(4, (n,)), np.zeros(n, np.float16)
    want = [wide(a) for a in (p, g, m, v)]
    options = dict(lr=1e-2, beta1=0.9, beta2=0.99, eps=1e-8, weight_decay=0.1, step=3, grad_scale=0.5, decayed=decayed)
    gpu.adamw(p, g, m, v, copy=copy, **options)
    cpu.adamw(*want, **options)
    for got, right in zip((p, m, v), (want[0], want[2], want[3])):
        assert_close(got, right)
    assert (copy == p.astype(np.float16)).all()


@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd_equals_float64(emulated, momentum, nesterov):
    p, g, u = normal(1, (300,)), normal(2, (300,)), normal(3, (300,)) if momentum else None
    want = [wide(a) for a in (p, g, u)]
    options = dict(lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=0.1, grad_scale=0.5, decayed=100)
    gpu.sgd(p, g, u, **options)
    cpu.sgd(*want, **options)
    assert_close(p, want[0])
    if momentum:
        assert_close(u, want[2])


@pytest.mark.parametrize("size", [0, 1, 100_003])
def test_the_squared_norm_equals_float64(dtype, size):
    x = normal(1, (size,), dtype)
    assert gpu.squared_norm(x) == pytest.approx((wide(x) ** 2).sum(), rel=1e-6)
