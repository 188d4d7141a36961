"""What becomes of a number's type: integers among floats, numbers of 16 bits, numbers that do not fit, 0-d tensors."""

import array

import numpy as np
import pytest

from tests.helpers import assert_close, gradient, tensor
from tinytensor import Tensor, gradcheck, ops

INTEGERS = [np.int64, np.uint8, np.int16, np.bool_]
FRACTIONS = {
    **{op.__name__: op for op in (
        ops.exp, ops.log, ops.log1p, ops.sqrt, ops.sin, ops.cos, ops.tanh, ops.sigmoid, ops.gelu, ops.silu,
        ops.softplus, ops.leaky_relu, ops.mean, ops.var, ops.std, ops.logsumexp, ops.softmax, ops.log_softmax,
        ops.layer_norm,
        ops.rms_norm)},
    "a number more": lambda a: a + 0.5, "a number less": lambda a: a - 0.5, "less than a number": lambda a: 0.5 - a,
    "times": lambda a: a * 0.5, "by a number": lambda a: a / 2, "a number by": lambda a: 2 / a,
    "halves": lambda a: a / a, "root": lambda a: a**0.5, "power of a number": lambda a: 2.5**a,
    "the larger": lambda a: ops.maximum(a, 0.5),
    "where": lambda a: ops.where(a > 1, a, 0.5), "clip": lambda a: a.clip(0.5, 2),
    "pad": lambda a: ops.pad(a, [(1, 1), (0, 0)], 0.5),
    "list": lambda a: a * [0.5, 1.0, 2.0], "beside float32": lambda a: a * Tensor([0.5, 1.0, 2.0]),
    "matmul": lambda a: a @ Tensor([0.5, 1.0, 2.0]),
    "joined": lambda a: ops.concatenate([a, Tensor([[0.5, 1.0, 2.0]])]),
    "mse_loss": lambda a: ops.mse_loss(a, a * 2), "binary_cross_entropy": lambda a: ops.binary_cross_entropy(a, a > 1),
    "cross_entropy": lambda a: ops.cross_entropy(a, np.array([0, 2])),
}  # fmt: skip


@pytest.mark.parametrize("name", FRACTIONS)
def test_integers_and_booleans_meet_floats_as_float32(name):
    op = FRACTIONS[name]
    for kind in INTEGERS:
        x = np.array([[1, 1, 3], [2, 1, 1]]).astype(kind)
        y = op(Tensor(x))
        assert y.dtype == np.float32
        right = op(Tensor(x.astype(np.float32))) if name != "binary_cross_entropy" else y
        np.testing.assert_allclose(y.data, right.data, rtol=1e-6)


def test_a_mean_of_booleans_meets_float32():
    f = Tensor([0.5, 2.0], requires_grad=True)
    y = f - (f > 1).mean()
    assert y.dtype == np.float32 and y.tolist() == [0, 1.5]


@pytest.mark.parametrize("op", [lambda a: a + 1, lambda a: a - 1, lambda a: 1 - a, lambda a: a * 2, lambda a: a**2,
                                lambda a: 2**a, lambda a: a.clip(0, 1), ops.relu, ops.abs, lambda a: a.max()])
def test_what_makes_no_fractions_keeps_integers(op):
    for kind in INTEGERS[:3]:
        assert op(Tensor(np.array([1, 2], kind))).dtype == kind


def test_layers_refuse_integers_beside_their_weights():
    x, w = Tensor([[1, 2]]), Tensor([[0.5, 1.0]])
    for layer in (lambda: ops.linear(x, w), lambda: ops.layer_norm(x, w[0]), lambda: ops.conv1d(x[None], w[..., None])):
        with pytest.raises(ValueError, match="int64 and float32 do not mix"):
            layer()
    for op in (lambda q: ops.attention(q, q, q), lambda q: ops.lstm(q[0], q[0, 0], q[0, 0])):
        with pytest.raises(ValueError, match="convert"):
            op(Tensor(np.ones((1, 1, 4, 1), int)))


def test_an_unsigned_integer_may_be_taken_off():
    assert (Tensor([1.5]) - np.uint8(1)).tolist() == [0.5]
    assert (Tensor(np.array([3], np.uint8)) - 1).tolist() == [2]


def test_large_numbers_meet_floats_and_are_refused_where_they_do_not_fit():
    assert (10**20 - Tensor([1.0])).tolist() == [np.float32(1e20)] and (10**20 - tensor(1)).dtype == np.float64
    for op in (lambda a: a + 10**20, lambda a: 10**20 - a, lambda a: ops.maximum(10**20, a), lambda a: a * -(10**20)):
        with pytest.raises(ValueError, match="100000000000000000000 does not fit into int64"):
            op(Tensor([1]))
    with pytest.raises(ValueError, match="clip: -1 does not fit into uint8"):
        Tensor(np.array([1], np.uint8)).clip(-1, 5)
    with pytest.raises(ValueError, match="int64 and uint64 do not mix"):
        Tensor([1]) + Tensor(np.array([1], np.uint64))


@pytest.mark.parametrize("wrong", [None, "1", [None], 1j])
def test_what_is_no_number_is_refused(wrong):
    with pytest.raises(ValueError, match="Tensor holds numbers"):
        Tensor([1.0]) + wrong


def test_a_0d_float64_tensor_keeps_its_type_beside_any_number():
    x, n = Tensor(np.array(2.0), requires_grad=True), np.float32(3)
    for op in (lambda: x + n, lambda: n + x, lambda: x - n, lambda: n - x, lambda: x * n, lambda: n * x, lambda: x / n,
               lambda: n / x, lambda: x**n, lambda: n**x, lambda: ops.maximum(x, n), lambda: ops.minimum(n, x),
               lambda: ops.where(True, x, n), lambda: x.clip(n, n), lambda: x + np.array(n), lambda: x.sum() * n):
        y = op()
        x.grad = None
        y.backward()
        assert y.dtype == x.grad.dtype == np.float64


@pytest.mark.parametrize("op", [
    lambda a: a.mean(0, keepdims=True), lambda a: a.mean([0]), lambda a: a.sum(-1), lambda a: a.var(0, correction=0),
    lambda a: a.max(0), lambda a: a.min(-1, keepdims=True), lambda a: a.logsumexp(0, keepdims=True),
    lambda a: a.squeeze(0), lambda a: a.squeeze(), lambda a: a.flip(0), lambda a: a.softmax(0),
    lambda a: a.sort(0)[0], lambda a: a.topk(1)[0], lambda a: a.cumsum(0),
    lambda a: ops.take_along_axis(a, np.array(0), 0), lambda a: a.gather(0, np.array(0)), lambda a: ops.pad(a, []),
    lambda a: a.prod(0), lambda a: a.repeat(), lambda a: a.T, lambda a: a.clip(0, 5), lambda a: a**a,
])  # fmt: skip
def test_0d_tensors_have_an_axis_to_be_asked_for(op):
    x = Tensor(np.array(1.5), requires_grad=True)
    assert op(x).shape == ()
    gradcheck(op, [x])
    assert Tensor(1.5).argmax(0).tolist() == 0 and x.flatten().shape == (1,) and x.repeat(3).shape == (3,)


def test_axes_may_be_a_list_and_are_checked():
    x = tensor(2, 3)
    assert_close(x.mean(axis=[0]).data, x.data.mean(0), 1e-15)
    with pytest.raises(ValueError, match=r"sum: axis \(0, -2\) names an axis of shape \(2, 3\) twice"):
        x.sum((0, -2))
    with pytest.raises(ValueError, match=r"max: axis 1 is out of bounds for shape \(\)"):
        tensor().max(1)


@pytest.mark.parametrize("index", [((0, 0, 1),), ((0, 0), slice(None)), (..., (0, 0)), array.array("i", [0, 0, 1]),
                                   (array.array("q", [1, 1]), 0), (slice(None), range(2)), ((),), ((0, 0), [1, 1])])
def test_whatever_holds_integers_indexes_and_repeated_places_add_up(index):
    x = tensor(2, 2)
    as_list = lambda i: i if isinstance(i, slice | type(...) | int) else np.array(list(i), int)
    plain = tuple(map(as_list, index)) if isinstance(index, tuple) else as_list(index)
    assert_close(x[index].data, x.data[plain], 0)
    gradcheck(lambda a: a[index], [x])


# ---- numbers of 16 bits are added up in float32

HALF = np.float16
outlier = Tensor(np.array([0.0] * 63 + [240.0], HALF), requires_grad=True)


def test_the_variance_of_an_outlier_is_finite_in_float16():
    x = outlier.data.astype(np.float32)
    assert outlier.var().item() == HALF(x.var(ddof=1)) and outlier.std(correction=0).item() == HALF(x.std())
    (da,) = gradient(lambda a: a.var(), outlier)
    assert_close(da, ((x - x.mean()) * 2 / 63).astype(HALF), 0)
    wide = Tensor(np.array([-600, 600], HALF))  # the variance, 360000, is more than float16 holds
    assert wide.std(correction=0).item() == 600


def test_layer_norm_and_rms_norm_of_large_float16_numbers_are_those_of_float32():
    x = Tensor(np.array([[600, -600, 600, -600.0], [1, 2, 3, 4]], HALF), requires_grad=True)
    added = lambda a: ops.add_layer_norm(a, a)[1], lambda a: ops.add_rms_norm(a, a)[1]
    for op in (ops.layer_norm, ops.rms_norm, *added):
        double = Tensor(x.data.astype(np.float64), requires_grad=True)
        assert op(x).dtype == HALF
        assert_close(op(x).data, op(double).data, 1e-3)  # one rounding of float16 (5e-4)
        assert_close(gradient(lambda a, op=op: op(a) * a, x)[0], gradient(lambda a, op=op: op(a) * a, double)[0], 2e-3)


SUMS = {
    "sum": lambda a: a.sum(0), "mean": lambda a: a.mean(), "logsumexp": lambda a: a.logsumexp(),
    "softmax": lambda a: (a.softmax(0) * a).sum(), "cumsum": lambda a: a.cumsum(0)[-1],
    "broadcast": lambda a: a.sum(), "prod": lambda a: (a * 2).prod(0), "std": lambda a: a.std(),
    "cross_entropy": lambda a: ops.cross_entropy(a.reshape(-1, 2), np.zeros(a.size // 2, int)),
    "linear_cross_entropy": lambda a: ops.linear_cross_entropy(
        a.reshape(-1, 2), Tensor(np.array([[1, 0.5], [2, 1]], a.dtype)), np.zeros(a.size // 2, int)),
    "attention": lambda a: ops.attention(*[a.reshape(1, 1, -1, 2)] * 3),
    "gelu": lambda a: a.gelu(), "einsum": lambda a: ops.einsum("i,i->", a, a),
}  # fmt: skip


@pytest.mark.parametrize("name", SUMS)
def test_sums_of_many_float16_numbers_are_rounded_once(name):
    """0.1 added 4000 times in float16 stops at 256, where 0.1 is less than half of the last digit."""
    x = np.full(4000, 0.1, HALF)
    x[::3] = 0.2
    op, half, double = SUMS[name], Tensor(x, requires_grad=True), Tensor(x.astype(np.float64), requires_grad=True)
    y, right = op(half), op(double)
    assert y.dtype == HALF
    assert_close(y.data, right.data, 1e-3)
    assert_close(gradient(op, half)[0], gradient(op, double)[0], 1e-3)


def test_the_gradient_of_what_was_broadcast_is_added_up_in_float32():
    b = Tensor(np.zeros(1, HALF), requires_grad=True)
    ones = Tensor(np.full((4000, 1), 0.1, HALF))
    assert gradient(lambda b: ones + b, b)[0] == 4000
    assert gradient(lambda b: ones * b, b)[0] == HALF(4000 * float(HALF(0.1)))
    assert gradient(lambda b: ops.linear(ones, Tensor(np.ones((1, 1), HALF)), b), b)[0] == 4000


def test_softmax_of_large_float16_numbers():
    x = Tensor(np.array([60000, 60000, 0], HALF))
    assert x.softmax().tolist() == [0.5, 0.5, 0]
    assert x.log_softmax().tolist() == [HALF(-np.log(2)), HALF(-np.log(2)), HALF(-60000)]


# ---- words and bounds


def test_gelu_takes_pytorchs_words():
    x = tensor(4)
    assert (ops.gelu(x, approximate="none").data == ops.gelu(x).data).all()
    assert (ops.gelu(x, approximate="tanh").data == ops.gelu(x, True).data).all()
    with pytest.raises(ValueError, match="approximate='erf'; choose from"):
        ops.gelu(x, approximate="erf")


def test_clip_with_low_above_high_is_high_and_has_no_gradient():
    x = Tensor(np.array([0.0, 1.5, 3.0]), requires_grad=True)
    assert x.clip(2, 1).tolist() == [1, 1, 1] and gradient(lambda a: a.clip(2, 1), x)[0].tolist() == [0, 0, 0]
    assert gradient(lambda a: a.clip(0, 3), x)[0].tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="low and high are numbers"):
        x.clip(x, 1)


@pytest.mark.parity
def test_float16_is_torchs():
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=(8, 512)).astype(HALF) * HALF(20)
    for ours, theirs in [
        (lambda a: a.var(axis=1), lambda a: a.var(1)), (lambda a: a.mean(), torch.mean),
        (lambda a: a.sum(axis=0), lambda a: a.sum(0)), (lambda a: a.softmax(), lambda a: a.softmax(-1)),
        (ops.layer_norm, lambda a: torch.nn.functional.layer_norm(a, (512,))),
        (ops.gelu, torch.nn.functional.gelu),
        (lambda a: ops.cross_entropy(a, np.arange(8)),
         lambda a: torch.nn.functional.cross_entropy(a, torch.arange(8))),
    ]:  # fmt: skip
        a, b = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        y, z = ours(a), theirs(b)
        y.sum().backward()
        z.sum().backward()
        assert y.dtype == HALF and z.dtype == torch.float16
        assert_close(y.data, z.detach().numpy(), 2e-3)  # two roundings of float16
        assert_close(a.grad, b.grad.numpy(), 2e-3)
