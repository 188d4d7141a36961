import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import assert_close, assert_same_as_torch, filled, gradient, seeds, tensor
from tinytensor import Tensor, gradcheck, ops
from tinytensor.ops.softmax import plain_cross_entropy


def softmax(x, axis=-1):
    e = np.exp(x)
    return e / e.sum(axis=axis, keepdims=True)


# ---- softmax


@given(shape=filled, data=st.data(), seed=seeds)
def test_softmax_has_its_formulas_values_and_the_gradients_of_finite_differences(shape, data, seed):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = tensor(*shape, seed=seed)
    assert_close(x.softmax(axis).data, softmax(x.data, axis), 1e-14)
    assert_close(x.log_softmax(axis).data, np.log(softmax(x.data, axis)), 1e-13)
    if x.size <= 40:
        gradcheck(lambda a: a.softmax(axis), [x])
        gradcheck(lambda a: a.log_softmax(axis), [x])


@given(shape=filled, shift=st.floats(-1e4, 1e4))
def test_adding_a_number_to_all_scores_changes_nothing(shape, shift):
    x = tensor(*shape)
    assert_close((x + shift).softmax().data, x.softmax().data, 1e-10)  # adding 1e4 costs four digits


@pytest.mark.parametrize("shape", [(0, 3), (3, 1), (1,), (2, 0, 4)])
def test_softmax_works_on_awkward_shapes(shape):
    x = tensor(*shape)
    assert x.softmax().shape == x.log_softmax().shape == shape
    gradcheck(lambda a: a.softmax(), [x])
    gradcheck(lambda a: a.log_softmax(), [x])


def test_softmax_works_on_arrays_that_are_not_contiguous():
    x = Tensor(tensor(4, 6).data[::2, ::-2].T, requires_grad=True)
    for axis in (0, 1):
        assert_close(x.softmax(axis).data, softmax(x.data, axis), 1e-14)
        gradcheck(lambda a, axis=axis: a.softmax(axis), [x])
        gradcheck(lambda a, axis=axis: a.log_softmax(axis), [x])


def test_a_number_alone_has_all_of_the_probability():
    x = tensor()
    assert x.softmax().item() == 1 and x.log_softmax(0).item() == 0 and x.softmax().shape == ()
    gradcheck(lambda a: a.softmax(), [x])
    gradcheck(lambda a: a.log_softmax(0), [x])


def test_a_score_of_minus_infinity_has_probability_and_gradient_zero():
    x = Tensor(np.array([0.0, -np.inf, 0.0]), requires_grad=True)
    assert x.softmax().data.tolist() == [0.5, 0, 0.5]
    da = gradient(lambda a: (a.softmax() * np.array([1.0, 5.0, 2.0])), x)[0]
    assert_close(da, [-0.25, 0, 0.25], 1e-15)


# ---- cross-entropy


@st.composite
def rows_and_targets(draw):
    """Logits (..., V), targets (...) of which some may be ignored, and options."""
    batch, classes = draw(st.lists(st.integers(1, 3), max_size=3)), draw(st.integers(1, 5))
    x = tensor(*batch, classes, seed=draw(seeds))
    rows = x.size // classes
    ids = np.array(draw(st.lists(st.sampled_from([-100, *range(classes)]), min_size=rows, max_size=rows)))
    options = dict(
        label_smoothing=draw(st.sampled_from([0.0, 0.1, 1.0])),
        z_loss=draw(st.sampled_from([0.0, 0.01])),
    )
    return x, ids.astype(np.int64).reshape(batch), options


@given(case=rows_and_targets(), reduction=st.sampled_from(["mean", "sum", "none"]))
def test_cross_entropy_is_its_formula_averaged_over_the_rows_that_count(case, reduction):
    x, ids, options = case
    losses = plain_cross_entropy(x.data.reshape(ids.size, -1), ids.reshape(-1), **options)
    mean = losses.sum() / max(1, (ids != -100).sum())
    expected = {"mean": mean, "sum": losses.sum(), "none": losses.reshape(ids.shape)}
    fn = lambda a: ops.cross_entropy(a, ids, reduction=reduction, **options)
    assert_close(fn(x).data, expected[reduction], 1e-13)
    gradcheck(fn, [x])


@given(case=rows_and_targets(), reduction=st.sampled_from(["mean", "sum", "none"]), width=st.integers(1, 3))
def test_linear_cross_entropy_is_the_two_ops_one_after_the_other(case, reduction, width):
    logits, ids, options = case
    x, w = tensor(*logits.shape[:-1], width), tensor(logits.shape[-1], width, seed=1)
    fused = lambda a, b, c=None: ops.linear_cross_entropy(a, b, ids, c, reduction=reduction, **options)
    plain = lambda a, b, c=None: ops.cross_entropy(ops.linear(a, b, c), ids, reduction=reduction, **options)
    for inputs in ([x, w], [x, w, tensor(logits.shape[-1], seed=2)]):
        assert_close(fused(*inputs).data, plain(*inputs).data, 1e-13)
        for got, expected in zip(gradient(fused, *inputs), gradient(plain, *inputs)):
            assert_close(got, expected, 1e-13)
        gradcheck(fused, inputs)


@pytest.mark.parametrize("label_smoothing, z_loss", [(0.0, 0.0), (0.1, 0.0), (0.0, 0.01)])
def test_a_batch_in_which_nothing_counts_has_loss_and_gradients_zero(label_smoothing, z_loss):
    options = dict(label_smoothing=label_smoothing, z_loss=z_loss)
    x, w, ids = tensor(2, 3), tensor(4, 3, seed=1), np.array([-100, -100])
    logits = tensor(2, 4)
    assert ops.cross_entropy(logits, ids, **options).item() == 0
    assert not gradient(lambda a: ops.cross_entropy(a, ids, **options), logits)[0].any()
    assert not any(g.any() for g in gradient(lambda a, b: ops.linear_cross_entropy(a, b, ids, **options), x, w))


def test_the_ignored_index_may_be_any_number():
    x = tensor(3, 4)
    some = ops.cross_entropy(x, [1, 0, 3], ignore_index=0).item()
    assert_close(some, plain_cross_entropy(x.data, np.array([1, 0, 3]), ignore_index=0).sum() / 2, 1e-14)


def test_one_row_without_a_batch_is_a_batch_too():
    x = tensor(4)
    assert_close(ops.cross_entropy(x, 2).item(), plain_cross_entropy(x.data[None], np.array([2]))[0], 1e-14)
    gradcheck(lambda a: ops.cross_entropy(a, np.int64(2), reduction="none"), [x])


def test_an_empty_batch_has_loss_zero():
    x, ids = tensor(0, 4), np.zeros(0, np.int64)
    assert ops.cross_entropy(x, ids).item() == 0
    assert gradient(lambda a: ops.cross_entropy(a, ids), x)[0].shape == (0, 4)
    assert ops.linear_cross_entropy(tensor(0, 2), tensor(4, 2), ids).item() == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int8, np.int32])
def test_targets_may_be_any_kind_of_integer(dtype):
    x, ids = tensor(3, 200), np.array([100, 0, 7])
    assert ops.cross_entropy(x, ids.astype(dtype)).item() == ops.cross_entropy(x, ids).item()
    assert ops.cross_entropy(x, Tensor(ids.astype(dtype))).item() == ops.cross_entropy(x, ids).item()


@pytest.mark.parametrize("scale", [1e3, 1e30])
def test_large_logits_overflow_neither_loss_nor_gradient(scale):
    x = Tensor(np.array([[1, -1, 0], [0, 1, 0.5]], np.float32) * np.float32(scale), requires_grad=True)
    loss = ops.cross_entropy(x, [1, 1])
    loss.backward()
    assert_close(loss.item() / scale, 1, 1e-6)  # float32; row 0 loses 2 * scale, row 1 nothing
    assert_close(x.grad, [[0.5, -0.5, 0], [0, 0, 0]], 1e-6)
    w = Tensor(np.eye(3, dtype=np.float32), requires_grad=True)
    x.grad = None
    loss = ops.linear_cross_entropy(x, w, [1, 1])
    loss.backward()
    assert_close(loss.item() / scale, 1, 1e-6)
    assert_close(x.grad, [[0.5, -0.5, 0], [0, 0, 0]], 1e-6)


def test_bad_targets_are_named():
    x = tensor(2, 3)
    for op in (lambda ids: ops.cross_entropy(x, ids), lambda ids: ops.linear_cross_entropy(x, tensor(3, 3), ids)):
        with pytest.raises(ValueError, match=r"target 3 is outside the 3 classes 0\.\.2"):
            op([0, 3])
        with pytest.raises(ValueError, match="target -1 is outside the 3 classes"):
            op([-1, 0])
        with pytest.raises(ValueError, match=r"targets have shape \(3,\), expected \(2,\)"):
            op([0, 1, 2])
        with pytest.raises(ValueError, match="targets must be integers, not float64"):
            op([0.0, 1.0])


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="unknown reduction 'avg'; choose from mean, sum, none"):
        ops.cross_entropy(tensor(2, 3), [0, 1], reduction="avg")
    with pytest.raises(ValueError, match=r"x \(2, 3\) and weight \(4, 5\) must end in the same length"):
        ops.linear_cross_entropy(tensor(2, 3), tensor(4, 5), [0, 1])
    with pytest.raises(ValueError, match=r"linear_cross_entropy: bias has shape \(3,\), expected \(4,\)"):
        ops.linear_cross_entropy(tensor(2, 3), tensor(4, 3), [0, 1], tensor(3))
    with pytest.raises(ValueError, match="linear_cross_entropy: float64 and float32 do not mix"):
        ops.linear_cross_entropy(tensor(2, 3), Tensor(np.ones((4, 3), np.float32)), [0, 1])


@given(case=rows_and_targets(), reduction=st.sampled_from(["mean", "sum", "none"]), seed=seeds)
def test_the_weight_of_a_class_says_how_much_its_rows_count(case, reduction, seed):
    x, ids, options = case
    smoothing, V = options["label_smoothing"], x.shape[-1]
    w = np.random.default_rng(seed).random(V) + 0.1
    log_p, counts = x.data - np.log(np.exp(x.data).sum(-1, keepdims=True)), ids != -100
    one_hot = np.eye(V)[np.where(counts, ids, 0)]
    losses = -(((1 - smoothing) * one_hot + smoothing / V) * w * log_p).sum(-1) * counts
    own = w[np.where(counts, ids, 0)] * counts
    expected = {"mean": losses.sum() / (own.sum() or 1), "sum": losses.sum(), "none": losses}
    fn = lambda a: ops.cross_entropy(a, ids, w, label_smoothing=smoothing, reduction=reduction)
    assert_close(fn(x).data, expected[reduction], 1e-12)
    gradcheck(fn, [x])


@given(shape=filled, reduction=st.sampled_from(["mean", "sum", "none"]), weighted=st.booleans(), seed=seeds)
def test_a_target_may_be_probabilities_that_learn_too(shape, reduction, weighted, seed):
    x, q = tensor(*shape, seed=seed), tensor(*shape, seed=seed + 1, low=0, high=1)
    w = np.random.default_rng(seed).random(shape[-1]) if weighted else None
    log_p = x.data - np.log(np.exp(x.data).sum(-1, keepdims=True))
    losses = -((0.8 * q.data + 0.2 / shape[-1]) * log_p * (1 if w is None else w)).sum(-1)
    expected = {"mean": losses.mean(), "sum": losses.sum(), "none": losses}
    fn = lambda a, b: ops.cross_entropy(a, b, w, label_smoothing=0.2, reduction=reduction)
    assert_close(fn(x, q).data, expected[reduction], 1e-12)
    gradcheck(fn, [x, q])


def test_probabilities_of_one_class_are_that_class():
    x, ids = tensor(3, 4), np.array([1, 0, 3])
    assert_close(ops.cross_entropy(x, np.eye(4)[ids]).item(), ops.cross_entropy(x, ids).item(), 1e-14)


def test_targets_and_weights_that_do_not_fit_are_refused():
    x = tensor(2, 3)
    with pytest.raises(ValueError, match=r"must be integers, not float64 of shape \(2,\); or probabilities \(2, 3\)"):
        ops.cross_entropy(x, np.array([0.5, 1.0]))
    with pytest.raises(ValueError, match=r"weight has shape \(2,\), expected \(3,\), one a class"):
        ops.cross_entropy(x, [0, 1], [1.0, 2.0])
    with pytest.raises(ValueError, match="z_loss goes with one class a row, and without weights"):
        ops.cross_entropy(x, [0, 1], [1.0, 2.0, 3.0], z_loss=0.1)
    with pytest.raises(ValueError, match="unknown reduction 'all'; choose from mean, sum, none"):
        ops.cross_entropy(x, np.ones((2, 3)), reduction="all")


# ---- the other losses


@given(shape=filled, seed=seeds)
def test_mse_loss_is_the_mean_square_of_the_difference(shape, seed):
    a, b = tensor(*shape, seed=seed), tensor(*shape, seed=seed + 1)
    assert_close(ops.mse_loss(a, b).item(), ((a.data - b.data) ** 2).mean(), 1e-14)
    gradcheck(ops.mse_loss, [a, b])


@given(shape=filled, seed=seeds)
def test_binary_cross_entropy_is_the_negative_log_probability_of_the_label(shape, seed):
    x, t = tensor(*shape, seed=seed), tensor(*shape, seed=seed + 1, low=0, high=1)
    p = 1 / (1 + np.exp(-x.data))
    expected = -(t.data * np.log(p) + (1 - t.data) * np.log(1 - p)).mean()
    assert_close(ops.binary_cross_entropy(x, t).item(), expected, 1e-13)
    gradcheck(ops.binary_cross_entropy, [x, t])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weight", [None, (3,), (2, 1), (2, 3)])
@pytest.mark.parametrize("pos_weight", [None, (3,), ()])
def test_binary_cross_entropy_with_weights_is_its_formula(weight, pos_weight, reduction):
    x, t = tensor(2, 3), tensor(2, 3, seed=1, low=0, high=1)
    given = lambda shape, seed: None if shape is None else np.random.default_rng(seed).random(shape) + 0.5
    w, more, p = given(weight, 1), given(pos_weight, 2), 1 / (1 + np.exp(-x.data))
    losses = -(t.data * np.log(p) * (1 if more is None else more) + (1 - t.data) * np.log(1 - p))
    losses = losses if w is None else losses * w
    expected = {"mean": losses.mean(), "sum": losses.sum(), "none": losses}[reduction]
    fn = lambda a, b: ops.binary_cross_entropy(a, b, w, more, reduction)
    assert_close(fn(x, t).data, expected, 1e-13)
    gradcheck(fn, [x, t])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_mse_loss_is_reduced_as_asked(reduction):
    a, b = tensor(2, 3), tensor(2, 3, seed=1)
    squares = (a.data - b.data) ** 2
    expected = {"mean": squares.mean(), "sum": squares.sum(), "none": squares}[reduction]
    assert_close(ops.mse_loss(a, b, reduction=reduction).data, expected, 1e-14)
    gradcheck(lambda x, y: ops.mse_loss(x, y, reduction=reduction), [a, b])


def test_weights_that_do_not_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"pos_weight \(2,\) does not broadcast to the logits \(2, 3\)"):
        ops.binary_cross_entropy(tensor(2, 3), np.ones((2, 3)), pos_weight=[1.0, 2.0])
    with pytest.raises(ValueError, match=r"weight \(4, 2, 3\) does not broadcast to the logits \(2, 3\)"):
        ops.binary_cross_entropy(tensor(2, 3), np.ones((2, 3)), weight=np.ones((4, 2, 3)))


def test_binary_cross_entropy_does_not_overflow():
    x = Tensor(np.array([-1e4, 1e4], np.float32), requires_grad=True)
    loss = ops.binary_cross_entropy(x, [1.0, 0.0])
    loss.backward()
    assert loss.item() == 1e4 and x.grad.tolist() == [-0.5, 0.5]


@pytest.mark.parametrize("op", [ops.mse_loss, ops.binary_cross_entropy])
def test_losses_do_not_broadcast(op):
    with pytest.raises(ValueError, match=r"\(2, 1\) and .* \(2,\) must have the same shape"):
        op(tensor(2, 1), tensor(2))


@pytest.mark.parity
def test_values_and_gradients_are_torchs():
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    x = tensor(4, 5)
    for axis in (0, 1):
        assert_same_as_torch(lambda a, at=axis: a.softmax(at), lambda a, at=axis: a.softmax(at), x)
        assert_same_as_torch(lambda a, at=axis: a.log_softmax(at), lambda a, at=axis: a.log_softmax(at), x)
    ids = np.array([3, -100, 0, 4])
    for options in (dict(), dict(label_smoothing=0.1), dict(reduction="sum"), dict(reduction="none")):
        ours = lambda a, options=options: ops.cross_entropy(a, ids, **options)
        theirs = lambda a, options=options: f.cross_entropy(a, torch.tensor(ids), **options)
        assert_same_as_torch(ours, theirs, x)
    w, soft = np.arange(1.0, 6), tensor(4, 5, seed=3, low=0, high=1, grad=False)
    for options in (dict(), dict(label_smoothing=0.1), dict(reduction="sum"), dict(reduction="none")):
        ours = lambda a, options=options: ops.cross_entropy(a, ids, w, **options)
        theirs = lambda a, options=options: f.cross_entropy(a, torch.tensor(ids), torch.tensor(w), **options)
        assert_same_as_torch(ours, theirs, x)
        ours = lambda a, options=options: ops.cross_entropy(a, soft, w, **options)
        theirs = lambda a, options=options: f.cross_entropy(a, torch.tensor(soft.data), torch.tensor(w), **options)
        assert_same_as_torch(ours, theirs, x)
    assert_same_as_torch(ops.mse_loss, f.mse_loss, x, tensor(4, 5, seed=1))
    targets = tensor(4, 5, low=0, high=1, grad=False)
    assert_same_as_torch(ops.binary_cross_entropy, f.binary_cross_entropy_with_logits, x, targets)
