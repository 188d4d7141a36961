import numpy as np
import pytest
from hypothesis import given

import tinytensor as tt
from tests.helpers import apart, assert_close, assert_same_as_torch, gradient, pairs, seeds, shapes, tensor
from tinytensor import Tensor, gradcheck, ops

# name -> (op, NumPy's formula, inputs on which it is smooth)
anywhere = lambda *shape, seed=0: tensor(*shape, seed=seed)
positive = lambda *shape, seed=0: tensor(*shape, seed=seed, low=0.3, high=2.0)
away_from_kinks = lambda *shape, seed=0: apart(*shape, seed=seed)
sigmoid = lambda x: 1 / (1 + np.exp(-x))

UNARY = {
    "neg": (ops.neg, np.negative, anywhere),
    "exp": (ops.exp, np.exp, anywhere),
    "log": (ops.log, np.log, positive),
    "sqrt": (ops.sqrt, np.sqrt, positive),
    "sin": (ops.sin, np.sin, anywhere),
    "cos": (ops.cos, np.cos, anywhere),
    "tanh": (ops.tanh, np.tanh, anywhere),
    "sigmoid": (ops.sigmoid, sigmoid, anywhere),
    "silu": (ops.silu, lambda x: x * sigmoid(x), anywhere),
    "abs": (ops.abs, np.abs, away_from_kinks),
    "relu": (ops.relu, lambda x: np.maximum(x, 0), away_from_kinks),
    "clip": (lambda a: ops.clip(a, -0.3, 0.4), lambda x: np.clip(x, -0.3, 0.4), away_from_kinks),
    "clip from below": (lambda a: ops.clip(a, low=-0.3), lambda x: np.maximum(x, -0.3), away_from_kinks),
    "clip from above": (lambda a: ops.clip(a, high=0.4), lambda x: np.minimum(x, 0.4), away_from_kinks),
    "cube": (lambda a: a**3, lambda x: x**3, anywhere),
    "to the power of 0": (lambda a: a**0, lambda x: np.ones_like(x), anywhere),
    "to the power of 1": (lambda a: a**1, lambda x: x, anywhere),
    "to the power of -2": (lambda a: a**-2, lambda x: 1 / (x * x), positive),
    "to the power of 1.5": (lambda a: a**1.5, lambda x: np.sqrt(x) * x, positive),
    "plus a number": (lambda a: a + 3, lambda x: x + 3, anywhere),
    "minus a number": (lambda a: a - 3, lambda x: x - 3, anywhere),
    "a number minus": (lambda a: 3 - a, lambda x: 3 - x, anywhere),
    "times a number": (lambda a: a * 3, lambda x: x * 3, anywhere),
    "by a number": (lambda a: a / 3, lambda x: x / 3, anywhere),
    "a number by": (lambda a: 3 / a, lambda x: 3 / x, positive),
    "gelu": (ops.gelu, None, anywhere),
    "gelu's tanh form": (
        lambda a: ops.gelu(a, approximate=True),
        lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
        anywhere,
    ),
    "astype": (lambda a: a.astype(np.float64), lambda x: x, anywhere),
}

BINARY = {
    "add": (ops.add, np.add, anywhere),
    "sub": (ops.sub, np.subtract, anywhere),
    "mul": (ops.mul, np.multiply, anywhere),
    "div": (ops.div, np.divide, positive),
    "maximum": (ops.maximum, np.maximum, None),
    "minimum": (ops.minimum, np.minimum, None),
    "where": (
        lambda a, b: ops.where((a > 0).data & (b.data > -1), a, b),
        lambda x, y: np.where((x > 0) & (y > -1), x, y),
        anywhere,
    ),
}


def two(name: str, shape_a, shape_b, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two inputs on which the op is smooth."""
    make = BINARY[name][2]
    if make:
        return make(*shape_a, seed=seed), make(*shape_b, seed=seed + 1)
    values = np.random.default_rng(seed).permutation(1000) / 100  # no two are within 0.01
    a, b = int(np.prod(shape_a)), int(np.prod(shape_b))
    return (
        Tensor(values[:a].reshape(shape_a), requires_grad=True),
        Tensor(values[a : a + b].reshape(shape_b), requires_grad=True),
    )


@pytest.mark.parametrize("name", UNARY)
@given(shape=shapes, seed=seeds)
def test_unary_ops_have_numpys_values_and_the_gradients_of_finite_differences(name, shape, seed):
    op, formula, make = UNARY[name]
    shape = shape[:3]
    x = make(*shape, seed=seed)
    if formula:
        assert_close(op(x).data, formula(x.data), 1e-14)
    gradcheck(op, [x])
    assert x.grad is None or x.grad.shape == shape


@pytest.mark.parametrize("name", BINARY)
@given(both=pairs, seed=seeds)
def test_binary_ops_broadcast_like_numpy_and_sum_their_gradients_back(name, both, seed):
    op, formula, _ = BINARY[name]
    a, b = two(name, *both, seed=seed)
    assert_close(op(a, b).data, formula(a.data, b.data), 1e-14)
    gradcheck(op, [a, b])


AWKWARD = [((), ()), ((0,), (1,)), ((0, 3), (3,)), ((1, 1), ()), ((2, 1, 3), (4, 1)), ((1,), (1, 1)), ((3, 0), (1, 0))]


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize("both", AWKWARD)
def test_binary_ops_work_on_awkward_shapes(name, both):
    a, b = two(name, *both)
    y = BINARY[name][0](a, b)
    assert y.shape == np.broadcast_shapes(*both)
    gradcheck(BINARY[name][0], [a, b])
    y.backward(np.ones(y.shape))
    assert a.grad.shape == a.shape and b.grad.shape == b.shape


@pytest.mark.parametrize("name", BINARY)
def test_binary_ops_work_on_arrays_that_are_not_contiguous(name):
    a, b = two(name, (4, 6), (4, 6))
    a, b = Tensor(a.data[::2, ::-2], requires_grad=True), Tensor(b.data.T[:3, 1:3].T, requires_grad=True)
    assert_close(BINARY[name][0](a, b).data, BINARY[name][1](a.data, b.data), 1e-14)
    gradcheck(BINARY[name][0], [a, b])


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("view", [lambda x: x.T, lambda x: x[::-2, ::2], lambda x: np.broadcast_to(x[:1], (3, 4))])
def test_unary_ops_work_on_arrays_that_are_not_contiguous(name, view):
    op, formula, make = UNARY[name]
    x = Tensor(view(make(4, 4).data), requires_grad=True)
    if formula:
        assert_close(op(x).data, formula(x.data), 1e-14)
    gradcheck(op, [x])


@pytest.mark.parametrize("name", BINARY)
def test_a_tensor_may_meet_itself(name):
    x = tensor(3, low=0.5)
    if name in ("maximum", "minimum"):  # a tie everywhere: each half gets half of the gradient
        assert gradient(lambda a: BINARY[name][0](a, a), x)[0].tolist() == [1, 1, 1]
    else:
        gradcheck(lambda a: BINARY[name][0](a, a), [x])


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "maximum", "minimum", "where"])
def test_shapes_that_do_not_broadcast_are_named_with_the_op(name):
    with pytest.raises(ValueError, match=rf"^{name}: shapes \(2, 3\) and \(2,\) do not broadcast"):
        ops.where(np.ones(2, bool), tensor(2, 3), tensor(2)) if name == "where" else BINARY[name][0](
            tensor(2, 3), tensor(2)
        )


def test_ties_share_the_gradient():
    a, b = tensor(2), tensor(2, seed=1)
    a.data[:] = [1, 5]
    b.data[:] = [1, 3]
    for op, expected in ((ops.maximum, [0.5, 1]), (ops.minimum, [0.5, 0])):
        da, db = gradient(op, a, b)
        assert da.tolist() == expected and db.tolist() == [1 - e for e in expected]


def test_the_gradient_of_relu_and_abs_at_zero_is_zero():
    x = Tensor(np.zeros(3), requires_grad=True)
    for op in (ops.relu, ops.abs):
        assert gradient(op, x)[0].tolist() == [0, 0, 0]


def test_powers_have_gradients_at_zero():
    x = Tensor(np.zeros(1), requires_grad=True)
    assert [gradient(lambda a, n=n: a**n, x)[0].item() for n in (0, 1, 2, 3)] == [0, 1, 0, 0]


@pytest.mark.parametrize("op", [ops.sigmoid, ops.silu, ops.tanh, ops.gelu, lambda a: ops.gelu(a, approximate=True)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_squashing_functions_do_not_overflow(op, dtype):
    x = Tensor(np.array([-1e4, -800, -100, 100, 800, 1e4], dtype), requires_grad=True)
    y = op(x)
    y.sum().backward()
    assert np.isfinite(y.data).all() and np.isfinite(x.grad).all()


def test_sigmoid_keeps_its_digits_far_below_zero():
    x = np.array([-80, -40, -20, -10], np.float32)
    expected = np.exp(x.astype(np.float64)) / (1 + np.exp(x.astype(np.float64)))
    np.testing.assert_allclose(Tensor(x).sigmoid().data, expected, rtol=1e-6)  # a few roundings of float32


def test_where_of_two_numbers_is_float32():
    assert ops.where(np.array([True, False]), 1.0, 0.0).dtype == np.float32


def test_the_condition_of_where_broadcasts_too():
    a, b = tensor(3), tensor(1)
    condition = np.array([[True], [False]])
    gradcheck(lambda a, b: ops.where(condition, a, b), [a, b])
    assert ops.where(Tensor(condition), a, b).shape == (2, 3)


def test_where_refuses_a_condition_that_is_not_boolean():
    with pytest.raises(ValueError, match="condition must be boolean, not int64"):
        ops.where(np.array([1, 0]), tensor(2), tensor(2))


def test_astype_carries_the_gradient_back_in_the_first_dtype():
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = x.astype(np.float64)
    (y * np.array([3.0, 4.0])).sum().backward()
    assert y.dtype == np.float64 and x.grad.dtype == np.float32 and x.grad.tolist() == [3, 4]


def test_astype_carries_the_gradient_through_bfloat16():
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    x = Tensor([1.0, 2.0], requires_grad=True)
    x.astype(bfloat16).astype(np.float32).sum().backward()
    assert x.grad.dtype == np.float32 and (x.grad == 1).all()


def test_astype_to_integers_ends_the_graph():
    assert not Tensor([1.7], requires_grad=True).astype(np.int64).requires_grad


def test_integers_stay_integers():
    x = Tensor([1, 2, 3])
    for y in (x + 1, x * x, -x, 5 - x, x.sum(), x[1:], x.reshape(3, 1)):
        assert y.dtype.kind == "i"


@pytest.mark.parity
def test_values_and_gradients_are_torchs():
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    for op, theirs, make in [
        (ops.exp, torch.exp, anywhere), (ops.log, torch.log, positive), (ops.sqrt, torch.sqrt, positive),
        (ops.sin, torch.sin, anywhere), (ops.cos, torch.cos, anywhere), (ops.tanh, torch.tanh, anywhere),
        (ops.sigmoid, torch.sigmoid, anywhere), (ops.silu, f.silu, anywhere), (ops.abs, torch.abs, anywhere),
        (ops.relu, torch.relu, anywhere), (ops.gelu, f.gelu, anywhere),
        (lambda a: ops.gelu(a, approximate=True), lambda a: f.gelu(a, approximate="tanh"), anywhere),
        (lambda a: a**2.5, lambda a: a**2.5, positive), (lambda a: 2 / a, lambda a: 2 / a, positive),
        (lambda a: a.clip(-0.5, 0.5), lambda a: a.clamp(-0.5, 0.5), anywhere),
    ]:  # fmt: skip
        assert_same_as_torch(op, theirs, make(5, 7))
    for name, theirs in [
        ("add", torch.add), ("sub", torch.sub), ("mul", torch.mul), ("div", torch.div),
        ("maximum", torch.maximum), ("minimum", torch.minimum),
    ]:  # fmt: skip
        assert_same_as_torch(BINARY[name][0], theirs, *two(name, (2, 1, 4), (3, 1)))
        x = two(name, (3, 4), (3, 4))[0]
        assert_same_as_torch(lambda a, op=BINARY[name][0]: op(a, a), lambda a, op=theirs: op(a, a), x)


def test_ops_under_no_grad_have_the_same_values():
    for op, _, make in UNARY.values():
        x = make(3, 2)
        with tt.no_grad():
            y = op(x)
        assert not y.requires_grad
        np.testing.assert_array_equal(y.data, op(x).data)


@pytest.mark.parametrize("approximate", [False, True])
def test_gelu_adds_its_bias_first(approximate):
    x, bias = tensor(3, 4, seed=1), tensor(4, seed=2)
    gradcheck(lambda x, bias: ops.gelu(x, approximate, bias=bias), [x, bias])
    assert_close(ops.gelu(x, approximate, bias=bias).data, ops.gelu(x + bias, approximate).data, 1e-12)
    with pytest.raises(ValueError, match=r"bias has shape \(3,\), expected \(4,\)"):
        ops.gelu(x, bias=tensor(3))
