import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices, integer_array_indices

from tests.helpers import assert_close, assert_same_as_torch, filled, pairs, seeds, shapes, tensor
from tinytensor import Tensor, gradcheck, ops


def check(fn, formula, *inputs):
    """fn moves elements as NumPy's formula does, and its gradient is that of finite differences."""
    assert_close(fn(*inputs).data, formula(*(x.data for x in inputs)), 0)
    if sum(x.size for x in inputs) <= 40:
        gradcheck(fn, list(inputs))


@given(shape=shapes, seed=seeds)
def test_reshape_keeps_the_order(shape, seed):
    x = tensor(*shape, seed=seed)
    check(lambda a: a.reshape(-1), np.ravel, x)
    check(lambda a: a.reshape(shape[::-1]), lambda a: a.reshape(shape[::-1]), x)
    if x.size:
        check(lambda a: a.reshape(*shape[::-1], -1), lambda a: a.reshape(*shape[::-1], 1), x)


@pytest.mark.parametrize(
    "before, after", [((2, 3), (4,)), ((2, 3), (-1, 4)), ((2, 3), (-1, -1)), ((0,), (-1, 0)), ((2,), (-2,)), ((), (2,))]
)
def test_reshape_names_the_shapes_that_do_not_fit(before, after):
    with pytest.raises(ValueError, match=r"reshape: .* elements and cannot become"):
        tensor(*before).reshape(*after)


@given(shape=shapes, data=st.data())
def test_transpose_undoes_itself_in_the_gradient(shape, data):
    axes = data.draw(st.permutations(range(len(shape))))
    axes = [axis - len(shape) * data.draw(st.integers(0, 1)) for axis in axes]
    x = tensor(*shape)
    check(lambda a: a.T, np.transpose, x)
    check(lambda a: a.transpose(*axes), lambda a: a.transpose(axes or None), x)
    check(lambda a: a.transpose(tuple(axes)), lambda a: a.transpose(axes or None), x)


def test_transpose_names_an_order_that_is_none():
    with pytest.raises(ValueError, match=r"\(0, 0\) is no order of the 2 axes of shape \(2, 3\)"):
        tensor(2, 3).transpose(0, 0)
    with pytest.raises(ValueError, match="no order of the 3 axes"):
        tensor(2, 3, 4).transpose(1, 2)


@given(shape=filled, data=st.data())
def test_axes_can_be_exchanged_added_removed_and_reversed(shape, data):
    axis = st.integers(-len(shape), len(shape) - 1)
    first, second = data.draw(axis), data.draw(axis)
    x = tensor(*shape)
    check(lambda a: a.swapaxes(first, second), lambda a: a.swapaxes(first, second), x)
    check(lambda a: a.expand_dims(first), lambda a: np.expand_dims(a, first), x)
    check(lambda a: a.expand_dims(first).squeeze(first), lambda a: a, x)
    check(lambda a: a.squeeze(), np.squeeze, x)
    check(lambda a: a.flip(first), lambda a: np.flip(a, first), x)


def test_squeeze_names_an_axis_that_is_too_long():
    with pytest.raises(ValueError, match=r"axis 1 of shape \(1, 3\) has length 3, not 1"):
        tensor(1, 3).squeeze(1)


@given(both=pairs)
def test_broadcast_to_sums_the_gradient_over_the_repeats(both):
    shape = np.broadcast_shapes(*both)
    x = tensor(*both[0])
    check(lambda a: a.broadcast_to(shape), lambda a: np.broadcast_to(a, shape), x)


def test_broadcast_to_names_both_shapes():
    with pytest.raises(ValueError, match=r"\(2, 3\) does not broadcast to \(3, 2\)"):
        tensor(2, 3).broadcast_to((3, 2))


# ---- indexing


@given(shape=filled, data=st.data(), seed=seeds)
def test_slices_integers_none_and_ellipsis_index_like_numpy(shape, data, seed):
    index = data.draw(basic_indices(shape, allow_newaxis=True))
    check(lambda a: a[index], lambda a: a[index], tensor(*shape, seed=seed))


@given(shape=filled, data=st.data(), seed=seeds)
def test_integer_arrays_index_like_numpy_and_repeated_places_add_up(shape, data, seed):
    index = data.draw(integer_array_indices(shape))
    check(lambda a: a[index], lambda a: a[index], tensor(*shape, seed=seed))


@given(shape=filled, seed=seeds)
def test_boolean_masks_index_like_numpy(shape, seed):
    mask = np.random.default_rng(seed).random(shape) < 0.5
    check(lambda a: a[mask], lambda a: a[mask], tensor(*shape, seed=seed))
    check(lambda a: a[Tensor(mask)], lambda a: a[mask], tensor(*shape, seed=seed))


@pytest.mark.parametrize(
    "index",
    [
        np.s_[[0, 0, 2]], np.s_[:, [1, 1], :], np.s_[[2, 0], :, [1, 1]], np.s_[[[0, 1], [1, 0]], None, 1],
        np.s_[..., np.array([True, False, True, True])], np.s_[np.array([True, False, True]), [1, 0]],
        np.s_[np.int64(1)], np.s_[1, [0, 0]], np.s_[np.array(1), ...], np.s_[[]], np.s_[:, [], :], np.s_[()],
        np.s_[...], np.s_[None], np.s_[0, 0, 0], np.s_[::-1, ::2, -1:], np.s_[3:1], np.s_[-1, -1], np.s_[True],
        np.s_[np.zeros((3, 2, 4), bool)], np.s_[np.array([-1, 2])], np.s_[np.array([0, 255], np.uint8) % 3],
    ],
)  # fmt: skip
def test_every_kind_of_index_has_a_gradient(index):
    check(lambda a: a[index], lambda a: a[index], tensor(3, 2, 4))


def test_tensors_of_integers_index_too():
    x = tensor(4, 3)
    ids = Tensor([0, 0, 3])
    check(lambda a: a[ids], lambda a: a[ids.data], x)
    check(lambda a: a[ids, Tensor([2, 2, 1])], lambda a: a[ids.data, [2, 2, 1]], x)


def test_a_0d_tensor_can_be_indexed_by_nothing():
    check(lambda a: a[()], lambda a: a[()], tensor())
    check(lambda a: a[None], lambda a: a[None], tensor())


def test_an_index_out_of_range_is_an_index_error():
    with pytest.raises(IndexError, match="out of bounds"):
        tensor(3)[3]


@given(shape=filled, data=st.data(), seed=seeds)
def test_take_along_axis_is_numpys(shape, data, seed):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    draw = np.random.default_rng(seed)
    count = list(shape)
    count[axis] = data.draw(st.integers(0, 3))
    indices = draw.integers(-shape[axis], shape[axis], count)
    take = lambda a: np.take_along_axis(a, indices, axis)
    check(lambda a: ops.take_along_axis(a, indices, axis), take, tensor(*shape, seed=seed))


def test_take_along_axis_broadcasts_like_numpy():
    indices = np.array([[0], [1]])
    for shape, places in [((1, 3), indices), ((2, 3), indices), ((2, 3), indices[:1])]:
        take = lambda a, places=places: np.take_along_axis(a, places, 1)
        check(lambda a, places=places: ops.take_along_axis(a, Tensor(places), 1), take, tensor(*shape))


# ---- joining and cutting


@given(shape=filled, data=st.data())
def test_concatenate_gives_each_its_stretch_of_the_gradient(shape, data):
    axis = data.draw(st.integers(0, len(shape) - 1))
    lengths = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    parts = [tensor(*shape[:axis], n, *shape[axis + 1 :], seed=i) for i, n in enumerate(lengths)]
    axis -= data.draw(st.sampled_from([0, len(shape)]))
    check(lambda *a: ops.concatenate(a, axis), lambda *a: np.concatenate(a, axis), *parts)


@given(shape=shapes, count=st.integers(1, 3), data=st.data())
def test_stack_gives_each_its_slice_of_the_gradient(shape, count, data):
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    parts = [tensor(*shape, seed=i) for i in range(count)]
    check(lambda *a: ops.stack(a, axis), lambda *a: np.stack(a, axis), *parts)


def test_what_cannot_be_concatenated_is_refused():
    with pytest.raises(ValueError, match="no tensors were given"):
        ops.concatenate([])
    with pytest.raises(ValueError, match=r"shapes \[\(2, 3\), \(2, 4\)\] differ outside axis 0"):
        ops.concatenate([tensor(2, 3), tensor(2, 4)])
    with pytest.raises(ValueError, match="concatenate: float64 and float32 do not mix"):
        ops.concatenate([tensor(2), Tensor([1.0])])
    with pytest.raises(ValueError, match="a 0-d tensor has no axis"):
        ops.concatenate([tensor()])


@given(shape=filled, length=st.integers(1, 3), data=st.data())
def test_split_puts_the_pieces_gradients_side_by_side(shape, length, data):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    shape = list(shape)
    shape[axis] = data.draw(st.integers(0, 5))
    x = tensor(*shape)
    pieces = x.split(length, axis)
    expected = np.split(x.data, range(length, shape[axis], length), axis)
    for piece, wanted in zip(pieces, expected, strict=True):
        assert_close(piece.data, wanted, 0)
    if x.size <= 40:
        gradcheck(lambda a: a.split(length, axis), [x])
        gradcheck(lambda a: a.split(length, axis)[-1], [x])  # the others get no gradient


def test_chunks_are_as_long_as_the_first_and_the_last_has_the_rest():
    x = tensor(5, 2)
    assert [piece.shape for piece in x.chunk(2)] == [(3, 2), (2, 2)]
    assert [piece.shape for piece in x.chunk(4)] == [(2, 2), (2, 2), (1, 2)]
    gradcheck(lambda a: a.chunk(2, -1), [x])
    for wrong, said in ((lambda: x.chunk(0), "at least 1 piece, not 0"), (lambda: x.split(0), "1 long, not 0")):
        with pytest.raises(ValueError, match=said):
            wrong()


@given(shape=filled, data=st.data())
def test_pad_gives_the_middle_of_the_gradient(shape, data):
    width = st.integers(0, 2)
    widths = [(data.draw(width), data.draw(width)) for _ in shape]
    check(lambda a: ops.pad(a, widths, 1.5), lambda a: np.pad(a, widths, constant_values=1.5), tensor(*shape))


def test_pad_wants_a_pair_of_widths_for_every_axis():
    with pytest.raises(ValueError, match=r"1 pairs of widths for the 2 axes of shape \(2, 3\)"):
        ops.pad(tensor(2, 3), [(1, 1)])


def test_shape_ops_work_on_arrays_that_are_not_contiguous():
    x = Tensor(tensor(4, 6).data[::2, ::-3].T, requires_grad=True)  # (2, 2)
    check(lambda a: a.reshape(4), np.ravel, x)
    check(lambda a: a[[1, 1], [0, 1]], lambda a: a[[1, 1], [0, 1]], x)
    check(lambda a: ops.concatenate([a, a], 1), lambda a: np.concatenate([a, a], 1), x)
    check(lambda a: ops.pad(a, [(1, 0), (0, 1)]), lambda a: np.pad(a, [(1, 0), (0, 1)]), x)


@pytest.mark.parity
def test_values_and_gradients_are_torchs():
    torch = pytest.importorskip("torch")
    x = tensor(2, 3, 4)
    ids = np.array([2, 0, 2])
    for ours, theirs in [
        (lambda a: a.reshape(4, 6), lambda a: a.reshape(4, 6)),
        (lambda a: a.transpose(2, 0, 1), lambda a: a.permute(2, 0, 1)),
        (lambda a: a.swapaxes(0, 2), lambda a: a.swapaxes(0, 2)),
        (lambda a: a.expand_dims(1), lambda a: a.unsqueeze(1)),
        (lambda a: a.broadcast_to((5, 2, 3, 4)), lambda a: a.broadcast_to((5, 2, 3, 4))),
        (lambda a: a[:, ids], lambda a: a[:, torch.tensor(ids)]),
        (lambda a: a[1, ..., None, 1:3], lambda a: a[1, ..., None, 1:3]),
        (lambda a: a[a.data > 0], lambda a: a[a > 0]),
        (lambda a: a.split(2)[0], lambda a: a.split(2)[0]), (lambda a: a.split(3, 2)[1], lambda a: a.split(3, 2)[1]),
        (lambda a: a.chunk(2, -1)[1], lambda a: a.chunk(2, -1)[1]), (lambda a: a.chunk(2)[1], lambda a: a.chunk(2)[1]),
        (lambda a: a.flip(1), lambda a: a.flip(1)),
        (lambda a: ops.pad(a, [(0, 0), (1, 2), (3, 0)]), lambda a: torch.nn.functional.pad(a, (3, 0, 1, 2))),
        (lambda a: ops.stack([a, a * 2], 1), lambda a: torch.stack([a, a * 2], 1)),
        (lambda a: ops.concatenate([a, a * 2], 1), lambda a: torch.cat([a, a * 2], 1)),
        (
            lambda a: ops.take_along_axis(a, ids[None, :, None], 1),
            lambda a: torch.take_along_dim(a, torch.tensor(ids)[None, :, None], 1),
        ),
    ]:
        assert_same_as_torch(ours, theirs, x)


# ---- diagonals


@given(rows=st.integers(1, 4), columns=st.integers(1, 4), lead=st.lists(st.integers(0, 3), max_size=2), seed=seeds)
def test_toeplitz_is_constant_along_its_diagonals(rows, columns, lead, seed):
    x = tensor(*lead, rows + columns - 1, seed=seed)
    places = np.arange(columns) - np.arange(rows)[:, None] + rows - 1
    check(lambda a: ops.toeplitz(a, rows, columns), lambda a: a[..., places], x)


def test_toeplitz_names_diagonals_that_do_not_fit():
    with pytest.raises(ValueError, match=r"2 rows and 3 columns have 4 diagonals, not \(5, 3\)"):
        ops.toeplitz(tensor(5, 3), 2, 3)


@given(rows=st.integers(1, 4), length=st.integers(1, 4), more=st.integers(0, 2), start=st.integers(0, 3), seed=seeds)
def test_stretches_begin_one_place_earlier_in_each_row_or_where_they_are_told_to(rows, length, more, start, seed):
    x = tensor(2, 2, rows, rows - 1 + start + length + more, seed=seed)
    places = start + np.arange(rows)[::-1][:, None] + np.arange(length)
    y = lambda a: np.take_along_axis(a, np.broadcast_to(places, (2, 2, rows, length)), axis=-1)
    check(lambda a: ops.stretches(a, rows - 1 + start, length), y, x)
    starts = np.random.default_rng(seed).integers(0, x.shape[-1] - length + 1, (2, rows))
    at = np.broadcast_to(starts[:, None, :, None] + np.arange(length), (2, 2, rows, length))
    check(lambda a: ops.stretches(a, starts, length), lambda a: np.take_along_axis(a, at, axis=-1), x)


@pytest.mark.parametrize("starts", [0, 3, np.array([[0, 3]]), np.array([[-1, 0]])])
def test_stretches_that_leave_their_rows_are_named(starts):
    with pytest.raises(ValueError, match=r"stretches: 3 elements from place -?\d on are not in rows of 5"):
        ops.stretches(tensor(1, 1, 2, 5), starts, 3)
