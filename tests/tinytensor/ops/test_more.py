"""Powers, products, running sums, order, choice, triangles, repeats, einsum: values and gradients."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import apart, assert_close, assert_same_as_torch, filled, gradient, pairs, seeds, tensor
from tests.tinytensor.ops.test_reduce import shape_and_axis
from tinytensor import Tensor, gradcheck, ops


@given(both=pairs, seed=seeds)
def test_powers_of_tensors_by_tensors(both, seed):
    a, b = tensor(*both[0], seed=seed, low=0.3), tensor(*both[1], seed=seed + 1)
    a.data[...] = np.abs(a.data) + 0.3
    assert_close((a**b).data, a.data**b.data, 1e-14)
    gradcheck(lambda a, b: a**b, [a, b])


def test_powers_of_zero_and_of_numbers():
    gradcheck(lambda b: 2**b, [tensor(3)])
    gradcheck(lambda b: np.array([1.0, 2.0, 3.0]) ** b, [tensor(3)])
    a, b = Tensor(np.array([0.0, 0.0, -2.0]), requires_grad=True), Tensor(np.array([0.0, 2.0, 3.0]))
    assert (a**b).tolist() == [1, 0, -8] and gradient(lambda a: a**b, a)[0].tolist() == [0, 0, 12]
    exponent = Tensor(np.array([0.0, 2.0]), requires_grad=True)
    assert gradient(lambda b: 0**b, exponent)[0].tolist() == [0, 0]
    assert (2 ** Tensor([1, 3])).tolist() == [2, 8]


@given(where=shape_and_axis(filled), keepdims=st.booleans(), seed=seeds)
def test_products_and_spreads_over_axes(where, keepdims, seed):
    (shape, axis), x = where, None
    x = apart(*shape, seed=seed, gap=0.3)
    assert_close(x.prod(axis, keepdims).data, x.data.prod(axis=axis, keepdims=keepdims), 1e-12)
    assert_close(x.std(axis, keepdims, 0).data, x.data.std(axis=axis, keepdims=keepdims), 1e-12)
    if x.size <= 8:
        gradcheck(lambda a: a.prod(axis, keepdims), [x], tolerance=1e-5)


def test_the_gradient_of_a_product_with_zeros_is_the_product_of_the_others():
    x = Tensor(np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 5.0]]), requires_grad=True)
    assert gradient(lambda a: a.prod(1), x)[0].tolist() == [[0, 6, 0], [0, 0, 0]]
    gradcheck(lambda a: a.prod((0, 1)), [tensor(2, 3)])
    gradcheck(lambda a: a.prod((0, 2)), [tensor(2, 3, 2)])


def test_the_standard_deviation_has_a_gradient():
    gradcheck(lambda a: a.std(1), [tensor(3, 4)])
    gradcheck(lambda a: a.std(correction=0), [tensor(3, 4)])
    assert gradient(lambda a: a.std(), Tensor(np.ones(3), requires_grad=True))[0].tolist() == [0, 0, 0]


@given(shape=filled, data=st.data(), seed=seeds)
def test_running_sums(shape, data, seed):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = tensor(*shape, seed=seed)
    assert_close(x.cumsum(axis).data, x.data.cumsum(axis), 1e-13)
    if x.size <= 32:
        gradcheck(lambda a: a.cumsum(axis), [x])


@given(shape=filled, data=st.data(), seed=seeds)
def test_order_and_the_largest(shape, data, seed):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    x, k, descending = apart(*shape, seed=seed), data.draw(st.integers(0, shape[axis])), data.draw(st.booleans())
    values, places = x.sort(axis, descending)
    expected = np.flip(np.sort(x.data, axis), axis) if descending else np.sort(x.data, axis)
    assert_close(values.data, expected, 0)
    assert_close(np.take_along_axis(x.data, places.data, axis), expected, 0)
    best, where = x.topk(k, axis, largest=descending)
    assert_close(best.data, np.take(expected, range(k), axis), 0)
    assert_close(np.take_along_axis(x.data, where.data, axis), best.data, 0)
    if x.size <= 32:
        gradcheck(lambda a: a.sort(axis, descending)[0], [x])
        gradcheck(lambda a: a.topk(k, axis, largest=descending)[0], [x])


def test_equal_elements_keep_their_order_either_way():
    x = Tensor([1, 0, 1, 0])
    assert x.argsort().tolist() == [1, 3, 0, 2] and x.argsort(descending=True).tolist() == [0, 2, 1, 3]
    assert x.argmax().item() == 0 and x.argmin().item() == 1


def test_places_of_extremes_keep_their_axis_if_asked():
    x = apart(2, 3)
    assert x.argmax(1, keepdims=True).shape == (2, 1) and x.argmin(keepdims=True).shape == (1, 1)
    assert x.argmax(0).tolist() == x.data.argmax(0).tolist() and x.argmin(-1).tolist() == x.data.argmin(-1).tolist()
    with pytest.raises(ValueError, match=r"argmax: there is nothing to choose from over axis 1 of shape \(2, 0\)"):
        tensor(2, 0).argmax(1)


def test_topk_and_gather_name_what_is_not_there():
    with pytest.raises(ValueError, match="there are no 4 among the 3 elements along axis -1"):
        tensor(2, 3).topk(4)
    with pytest.raises(ValueError, match=r"index 3 is outside the 3 elements along axis 1 of shape \(2, 3\)"):
        tensor(2, 3).gather(1, np.array([[3]]))
    with pytest.raises(ValueError, match=r"as those of a \(2, 3\), longer along axis 1 only; not of shape \(3, 1\)"):
        tensor(2, 3).gather(1, np.zeros((3, 1), int))
    with pytest.raises(ValueError, match="indices must be integers, not float64"):
        tensor(2, 3).gather(1, np.zeros((2, 1)))
    with pytest.raises(ValueError, match=r"take_along_axis: axis 5 is out of bounds for shape \(2, 3\)"):
        ops.take_along_axis(tensor(2, 3), np.zeros((2, 1), int), 5)


@pytest.mark.parametrize("op", [ops.sort, ops.argsort, ops.cumsum, lambda a, axis: ops.topk(a, 1, axis),
                                lambda a, axis: ops.gather(a, axis, a.argsort()), lambda a, axis: ops.split(a, 1, axis),
                                lambda a, axis: ops.take_along_axis(a, a.argsort(), axis)])  # fmt: skip
def test_what_goes_along_one_axis_takes_no_other(op):
    for axis in (None, [0, 1]):
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            op(tensor(2, 3), axis)


def test_gather_takes_a_part_where_the_indices_are_shorter():
    x, ids = tensor(3, 4), np.array([[0, 0, 3], [1, 1, 1]])
    assert_close(x.gather(1, ids).data, np.take_along_axis(x.data[:2], ids, 1), 0)
    gradcheck(lambda a: a.gather(1, Tensor(ids)), [x])
    gradcheck(lambda a: a.gather(0, ids % 3), [x])


@given(shape=filled, k=st.integers(-3, 3))
def test_triangles(shape, k):
    x = tensor(2, *shape)
    for op, numpys in ((ops.tril, np.tril), (ops.triu, np.triu)):
        assert_close(op(x, k).data, numpys(x.data, k), 0)
        if x.size <= 32:
            gradcheck(lambda a, op=op: op(a, k), [x])
    with pytest.raises(ValueError, match=r"tril: .* shape \(3,\) has fewer than two axes"):
        tensor(3).tril()


@given(shape=filled, data=st.data())
def test_repeating_the_whole(shape, data):
    times = data.draw(st.lists(st.integers(0, 2), min_size=len(shape), max_size=len(shape) + 1))
    x = tensor(*shape)
    assert_close(x.repeat(times).data, np.tile(x.data, times), 0)
    assert_close(x.repeat(*times).data, np.tile(x.data, times), 0)
    if x.size <= 16:
        gradcheck(lambda a: a.repeat(times), [x])
    with pytest.raises(ValueError, match="must say how often"):
        tensor(2, 2).repeat(2)


@given(shape=filled, data=st.data())
def test_flatten_joins_neighbouring_axes(shape, data):
    first = data.draw(st.integers(0, len(shape) - 1))
    last = data.draw(st.integers(first, len(shape) - 1))
    x = tensor(*shape)
    expected = (*shape[:first], int(np.prod(shape[first : last + 1])), *shape[last + 1 :])
    assert x.flatten(first, last - len(shape)).shape == expected and x.flatten().shape == (x.size,)


def test_flatten_of_axes_in_the_wrong_order_is_refused():
    with pytest.raises(ValueError, match=r"flatten: axis 1 comes after axis 0 of shape \(2, 3\)"):
        tensor(2, 3).flatten(1, 0)


def test_split_by_lengths():
    x = tensor(2, 6)
    pieces = x.split([1, 0, 3, 2], 1)
    assert [piece.shape for piece in pieces] == [(2, 1), (2, 0), (2, 3), (2, 2)]
    gradcheck(lambda a: a.split([1, 0, 3, 2], 1), [x])
    gradcheck(lambda a: a.split([1, 0, 3, 2], 1)[2], [x])
    with pytest.raises(ValueError, match=r"lengths \[2, 3\] do not add up to the 6 of axis 1 of shape \(2, 6\)"):
        x.split([2, 3], 1)
    with pytest.raises(ValueError, match="a 0-d tensor has no axis to be cut"):
        tensor().split(1)


SUMS = ["ij,jk->ik", "bij,bjk->bik", "ij->ji", "ii->i", "ii", "ij->", "i,j->ij", "ij,ij->ij", "bhtd,bhsd->bhts",
        "...ij,...jk->...ik", "...i,...i->...", "iij,jk", "i,i,i->i", "ij,jk,kl->il", "iji->j", "i...->...",
        "i,->i"]  # fmt: skip


@pytest.mark.parametrize("subscripts", SUMS)
def test_einsum_is_numpys_with_gradients(subscripts):
    lengths = dict(zip("bhtsdijkl", (2, 2, 3, 4, 2, 3, 3, 2, 4)))
    terms = subscripts.partition("->")[0].split(",")
    extra = [(5, 2), (1, 2), ()]  # what "..." stands for; the second broadcasts
    operands = []
    for n, term in enumerate(terms):
        named = tuple(lengths[letter] for letter in term.replace("...", ""))
        shape = (*named, *extra[n]) if term.endswith("...") else (*(extra[n] if "..." in term else ()), *named)
        operands.append(tensor(*shape, seed=n))
    assert_close(ops.einsum(subscripts, *operands).data, np.einsum(subscripts, *(x.data for x in operands)), 1e-13)
    gradcheck(lambda *a: ops.einsum(subscripts, *a), operands)


def test_einsum_of_one_tensor_twice_and_refusals():
    gradcheck(lambda a: ops.einsum("ij,kj->ik", a, a), [tensor(2, 3)])
    gradcheck(lambda a: ops.einsum("ij,j->i", a, np.arange(3.0)), [tensor(2, 3)])
    with pytest.raises(ValueError, match=r"'ij,j->i' does not fit operands of \[2, 2\] axes"):
        ops.einsum("ij,j->i", tensor(2, 2), tensor(2, 2))
    with pytest.raises(ValueError, match="einsum: float64 and float32 do not mix"):
        ops.einsum("i,i->", tensor(1), Tensor([1.0]))


@pytest.mark.parametrize("op", [ops.log1p, ops.softplus, ops.leaky_relu, lambda a: ops.leaky_relu(a, 0.3)])
def test_new_functions_have_the_gradients_of_finite_differences(op):
    x = apart(3, 4)
    x.data[...] = x.data * 1.2 + 0.01 if op is not ops.log1p else np.abs(x.data)
    gradcheck(op, [x])
    gradcheck(op, [Tensor(x.data.T[::2], requires_grad=True)])


def test_softplus_does_not_overflow_and_log1p_keeps_small_numbers():
    assert Tensor([1000.0, -1000.0]).softplus().tolist() == [1000, 0]
    assert Tensor(np.array([1e-20])).log1p().tolist() == [1e-20]


@pytest.mark.parity
def test_values_and_gradients_are_torchs():
    torch = pytest.importorskip("torch")
    f = torch.nn.functional
    ids = np.array([[0, 2, 2, 1]])
    for ours, theirs in [
        (lambda a: a.cumsum(1), lambda a: a.cumsum(1)), (lambda a: a.prod(0), lambda a: a.prod(0)),
        (lambda a: a.std(1), lambda a: a.std(1)),
        (lambda a: a.std(1, correction=0), lambda a: a.std(1, unbiased=False)),
        (lambda a: a.sort(0, True)[0], lambda a: a.sort(0, True)[0]),
        (lambda a: a.topk(2, 0)[0], lambda a: a.topk(2, 0)[0]),
        (lambda a: a.repeat(2, 1, 3), lambda a: a.repeat(2, 1, 3)),
        (lambda a: a.gather(0, ids), lambda a: a.gather(0, torch.tensor(ids))),
        (lambda a: a.tril(1), lambda a: a.tril(1)),
        (lambda a: a.softplus(), f.softplus), (lambda a: a.leaky_relu(0.2), lambda a: f.leaky_relu(a, 0.2)),
        (lambda a: a.split([1, 2], -1)[1], lambda a: a.split([1, 2], -1)[1]), (lambda a: 2**a, lambda a: 2**a),
        (lambda a: ops.einsum("ij,kj", a, a), lambda a: torch.einsum("ij,kj", a, a)), (lambda a: a**a, lambda a: a**a),
        (lambda a: a.flatten(), lambda a: a.flatten()), (lambda a: a.log1p(), lambda a: a.log1p()),
    ]:  # fmt: skip
        x = apart(3, 3 if "split" in ours.__code__.co_names else 4)
        x.data[...] = np.abs(x.data) + np.arange(x.size).reshape(x.shape) * 0.01 + 0.1
        assert_same_as_torch(ours, theirs, x)
