import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import apart, assert_close, assert_same_as_torch, seeds, tensor
from tinytensor import Tensor, gradcheck, ops


def reference(x, weight, bias=0.0):
    """Window by window."""
    K = weight.shape[2]
    places = [np.einsum("nkc,ock->no", x[:, t : t + K], weight) for t in range(x.shape[1] - K + 1)]
    return np.stack(places, axis=1) + bias


@given(sizes=st.tuples(*[st.integers(1, 3)] * 4), more=st.integers(0, 3), seed=seeds)
def test_convolutions_have_their_formulas_values_and_the_gradients_of_finite_differences(sizes, more, seed):
    N, C, O, K = sizes
    x, w, b = apart(N, K + more, C, seed=seed), tensor(O, C, K, seed=seed), tensor(O, seed=seed + 1)
    expected = reference(x.data, w.data, b.data)
    assert_close(ops.conv1d(x, w, b).data, expected, 1e-12)
    assert_close(ops.conv1d_max(x, w, b).data, expected.max(axis=1), 1e-12)
    assert_close(ops.conv1d_max(x, w).data, reference(x.data, w.data).max(axis=1), 1e-12)
    if x.size + w.size <= 30:
        gradcheck(ops.conv1d, [x, w, b])
        gradcheck(ops.conv1d, [x, w])
        gradcheck(ops.conv1d_max, [x, w, b])


def test_of_equal_maxima_the_first_gets_the_gradient():
    x = Tensor(np.array([[[1.0], [3.0], [3.0]]]), requires_grad=True)
    ops.conv1d_max(x, Tensor(np.ones((1, 1, 1)))).backward([[5.0]])
    assert_close(x.grad, [[[0.0], [5.0], [0.0]]], 0)


@pytest.mark.parametrize("shape", [(0, 3, 2), (1, 2, 2), (2, 2, 0)])
def test_convolutions_work_on_awkward_shapes(shape):
    x, w = tensor(*shape), tensor(3, shape[2], 2, seed=1)
    assert_close(ops.conv1d(x, w).data, reference(x.data, w.data), 1e-13)
    gradcheck(ops.conv1d, [x, w])
    gradcheck(ops.conv1d_max, [x, w])


def test_convolutions_work_on_arrays_that_are_not_contiguous():
    x = Tensor(tensor(2, 4, 10).data[:, ::-1, ::2].swapaxes(1, 2), requires_grad=True)
    w = Tensor(tensor(4, 4, 3, seed=1).data[::2], requires_grad=True)
    assert_close(ops.conv1d(x, w).data, reference(x.data, w.data), 1e-13)
    gradcheck(ops.conv1d, [x, w])


def test_arguments_that_do_not_fit_are_named():
    x, w = tensor(2, 5, 3), tensor(4, 3, 2)
    with pytest.raises(ValueError, match=r"conv1d: x \(2, 5, 3\) and weight \(4, 2, 2\) must be"):
        ops.conv1d(x, tensor(4, 2, 2))
    with pytest.raises(ValueError, match="conv1d_max: a window of 6 does not fit into 5 places; pad x first"):
        ops.conv1d_max(x, tensor(4, 3, 6))
    with pytest.raises(ValueError, match=r"conv1d: bias has shape \(3,\), expected \(4,\)"):
        ops.conv1d(x, w, tensor(3))
    with pytest.raises(ValueError, match="float64 and float32 do not mix"):
        ops.conv1d(x, Tensor(w.data.astype(np.float32)))


@pytest.mark.parity
def test_values_and_gradients_are_torchs():
    torch = pytest.importorskip("torch")
    theirs = lambda x, w, b: torch.nn.functional.conv1d(x.swapaxes(1, 2), w, b).swapaxes(1, 2)
    inputs = tensor(3, 9, 4), tensor(6, 4, 3, seed=1), tensor(6, seed=2)
    assert_same_as_torch(ops.conv1d, theirs, *inputs)
    assert_same_as_torch(ops.conv1d_max, lambda *a: theirs(*a).max(dim=1).values, *inputs)


# ---- stride, padding, dilation, groups

OPTIONS = st.fixed_dictionaries(dict(
    stride=st.integers(1, 3), padding=st.sampled_from([0, 1, 3, "valid"]), dilation=st.integers(1, 3),
    groups=st.integers(1, 3),
))  # fmt: skip


@given(options=OPTIONS, width=st.integers(1, 3), seed=seeds)
def test_windows_stand_where_stride_padding_and_dilation_put_them_and_groups_keep_to_themselves(options, width, seed):
    G, K, C, O = options["groups"], width, 2, 1
    x, w, b = tensor(2, 8, G * C, seed=seed), tensor(G * O, C, K, seed=seed + 1), tensor(G * O, seed=seed + 2)
    before = 0 if options["padding"] == "valid" else options["padding"]
    padded, step, apart_by = np.pad(x.data, [(0, 0), (before, before), (0, 0)]), options["stride"], options["dilation"]
    expected = [
        [sum(w.data[o, :, k] @ padded[n, t + k * apart_by, o // O * C : (o // O + 1) * C] for k in range(K)) + b.data[o]
         for o in range(G * O)]
        for n in range(2) for t in range(0, padded.shape[1] - (K - 1) * apart_by, step)
    ]  # fmt: skip
    fn = lambda *inputs: ops.conv1d(*inputs, **options)
    assert_close(fn(x, w, b).data, np.reshape(expected, (2, -1, G * O)), 1e-12)
    gradcheck(fn, [x, w, b])


@pytest.mark.parametrize("width, dilation", [(1, 1), (2, 1), (3, 2), (4, 3)])
def test_same_padding_keeps_the_length(width, dilation):
    y = ops.conv1d(tensor(2, 7, 3), tensor(4, 3, width), padding="same", dilation=dilation)
    assert y.shape == (2, 7, 4)


def test_options_that_do_not_fit_are_refused():
    x, w = tensor(1, 4, 4), tensor(2, 4, 2)
    with pytest.raises(ValueError, match='must be a number from 0 on, "valid", or "same" with stride 1'):
        ops.conv1d(x, w, padding="same", stride=2)
    with pytest.raises(ValueError, match="stride 0 and dilation 1 must be at least 1"):
        ops.conv1d(x, w, stride=0)
    with pytest.raises(ValueError, match=r"must be \(N, T, C\) and \(O, C / 2 groups, K\) of one C"):
        ops.conv1d(x, w, groups=2)
    with pytest.raises(ValueError, match="a window of 6 does not fit into 4 places; pad x first"):
        ops.conv1d(x, w, dilation=5)
