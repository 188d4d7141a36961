import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn import Parameter
from tests.helpers import assert_close, assert_same_as_torch, gradient, pairs, seeds, tensor
from tinytensor import Tensor, gradcheck, ops

sides = st.integers(0, 3)


@given(batches=pairs, n=sides, k=sides, m=sides, seed=seeds)
def test_matmul_broadcasts_like_numpy_and_has_the_gradients_of_finite_differences(batches, n, k, m, seed):
    a = tensor(*batches[0][:2], n, k, seed=seed)
    b = tensor(*batches[1][:2], k, m, seed=seed + 1)
    try:
        expected = a.data @ b.data
    except ValueError:  # cutting the batch shapes may have made them differ
        with pytest.raises(ValueError, match="matmul: shapes"):
            ops.matmul(a, b)
        return
    assert_close((a @ b).data, expected, 1e-14)
    gradcheck(ops.matmul, [a, b])


@pytest.mark.parametrize(
    "left, right",
    [((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((4, 2, 3), (3,)), ((3,), (4, 3, 2)), ((0,), (0,)), ((1,), (1, 1)),
     ((2, 0), (0, 3)), ((0, 2), (2, 3)), ((2, 1, 2, 3), (5, 3, 1)), ((3, 2), (4, 2, 2)), ((0, 2, 2), (2, 2))],
)  # fmt: skip
def test_matmul_works_on_awkward_shapes(left, right):
    a, b = tensor(*left), tensor(*right, seed=1)
    assert_close((a @ b).data, a.data @ b.data, 1e-14)
    gradcheck(ops.matmul, [a, b])
    y = a @ b
    y.backward(np.ones(y.shape))
    assert a.grad.shape == left and b.grad.shape == right


def test_matmul_works_on_arrays_that_are_not_contiguous():
    a, b = tensor(6, 4).data, tensor(3, 8).data
    gradcheck(ops.matmul, [Tensor(a[::-2], requires_grad=True), Tensor(b[:, ::2].T, requires_grad=True)])


@pytest.mark.parametrize("left, right", [((2, 3), (2, 3)), ((), (2,)), ((2,), ()), ((3,), (2,)), ((3,), (2, 3))])
def test_matmul_names_both_shapes_when_the_inner_lengths_differ(left, right):
    with pytest.raises(ValueError) as error:
        tensor(*left) @ tensor(*right)
    assert str(error.value) == f"matmul: shapes {left} and {right} do not fit: the inner lengths must be equal"


def test_matmul_names_the_batch_shapes_that_do_not_broadcast():
    with pytest.raises(ValueError, match=r"matmul: shapes \(2,\) and \(3,\) do not broadcast"):
        tensor(2, 4, 4) @ tensor(3, 4, 4)


@given(batch=st.lists(sides, max_size=3), inputs=sides, outputs=sides, with_bias=st.booleans(), seed=seeds)
def test_linear_is_a_product_with_the_transposed_weight(batch, inputs, outputs, with_bias, seed):
    x, w = tensor(*batch, inputs, seed=seed), tensor(outputs, inputs, seed=seed + 1)
    b = tensor(outputs, seed=seed + 2) if with_bias else None
    assert_close(ops.linear(x, w, b).data, x.data @ w.data.T + (b.data if with_bias else 0), 1e-14)
    gradcheck(ops.linear, [x, w, b]) if with_bias else gradcheck(ops.linear, [x, w])


def test_linear_works_on_arrays_that_are_not_contiguous():
    x, w = tensor(3, 2, 4).data.swapaxes(0, 2), tensor(3, 5).data.T
    gradcheck(ops.linear, [Tensor(x, requires_grad=True), Tensor(w, requires_grad=True)])


def test_linear_computes_no_gradient_of_an_input_that_needs_none():
    x = tensor(2, 3, grad=False)
    w = tensor(4, 3)
    ops.linear(x, w).sum().backward()
    assert x.grad is None
    assert_close(w.grad, np.tile(x.data.sum(0), (4, 1)), 1e-14)


def test_linear_names_the_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"linear: x \(2, 3\) .* weight \(4, 5\)"):
        ops.linear(tensor(2, 3), tensor(4, 5))
    with pytest.raises(ValueError, match=r"linear: x \(3,\) .* weight \(3,\)"):
        ops.linear(tensor(3), tensor(3))
    with pytest.raises(ValueError, match=r"bias has shape \(1,\), expected \(4,\)"):
        ops.linear(tensor(2, 3), tensor(4, 3), tensor(1))


def test_linear_does_not_mix_float_dtypes():
    with pytest.raises(ValueError, match="linear: float64 and float32 do not mix"):
        ops.linear(tensor(2, 3), Tensor(np.ones((4, 3), np.float32)))


@pytest.mark.parametrize(
    "op",
    [
        lambda a, b: ops.linear(a, b) * np.arange(9.0).reshape(3, 3),
        lambda a, b: ops.linear_cross_entropy(a, b, [0, 1, 2]),
    ],
)
def test_a_parameter_with_a_place_for_its_gradient_may_be_both_factors(op):
    """The op writes one of the two gradients into that place before either has arrived."""
    parameter = Parameter(tensor(3, 3).data)
    expected = gradient(lambda w: op(w, w), parameter)[0]
    parameter.grad, parameter.gradient_place = None, np.full((3, 3), np.nan)
    op(parameter, parameter).sum().backward()
    assert_close(parameter.grad, expected, 1e-14)
    assert parameter.grad is parameter.gradient_place


@pytest.mark.parametrize("rows", [1, 2, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_few_rows_and_either_layout_of_the_weight_give_the_same_products(rows, order):
    x, weight, bias = tensor(rows, 7), tensor(5, 7, seed=1), tensor(5)
    weight.data = np.asarray(weight.data, order=order)
    expected = [[sum(x.data[i] * weight.data[j]) + bias.data[j] for j in range(5)] for i in range(rows)]
    assert_close(ops.linear(x, weight, bias).data, expected, 1e-14)
    reference = lambda x, weight, bias: x @ weight.T + bias
    for got, wanted in zip(gradient(ops.linear, x, weight, bias), gradient(reference, x, weight, bias)):
        assert_close(got, wanted, 1e-13)


@pytest.mark.parity
def test_values_and_gradients_are_torchs():
    torch = pytest.importorskip("torch")
    shapes = [((3, 4), (4, 5)), ((2, 1, 3, 4), (6, 4, 2)), ((4,), (2, 4, 3)), ((2, 3, 4), (4,)), ((4,), (4,))]
    for left, right in shapes:
        assert_same_as_torch(ops.matmul, torch.matmul, tensor(*left), tensor(*right, seed=1))
    assert_same_as_torch(ops.linear, torch.nn.functional.linear, tensor(2, 3, 4), tensor(5, 4), tensor(5))
