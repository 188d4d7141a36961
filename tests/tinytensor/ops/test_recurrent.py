import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import assert_close, assert_same_as_torch, gradient, seeds, tensor
from tinytensor import Tensor, gradcheck, no_grad, ops
from tinytensor.ops.recurrent import plain_lstm_step


def reference(x, w_x, w_h, bias=0.0, w_proj=None, state=None, mask=None, reverse=False, cell_clip=None, proj_clip=None):
    """The plain step, row by row, over each row's own unpadded steps only."""
    B, T, _ = x.shape
    H, P = len(w_h) // 4, w_h.shape[1]
    y, h_n, c_n = np.zeros((B, T, P)), np.zeros((B, P)), np.zeros((B, H))
    for row in range(B):
        h, c = (np.zeros(P), np.zeros(H)) if state is None else (state[0][row], state[1][row])
        steps = [t for t in range(T) if mask is None or mask[row, t]]
        for t in reversed(steps) if reverse else steps:
            h, c = plain_lstm_step(x[row, t], h, c, w_x, w_h, bias, w_proj, cell_clip or np.inf, proj_clip or np.inf)
            y[row, t] = h
        h_n[row], c_n[row] = h, c
    return y, h_n, c_n


@st.composite
def cases(draw):
    B, T, inputs, H = (draw(st.integers(1, n)) for n in (3, 5, 3, 3))
    P, seed = draw(st.integers(0, 2)), draw(seeds)
    out = P or H
    names = {
        "x": (B, T, inputs),
        "w_x": (4 * H, inputs),
        "w_h": (4 * H, out),
        "bias": (4 * H,) if draw(st.booleans()) else None,
        "w_proj": (out, H) if P else None,
        "h": (B, out),
        "c": (B, H),
    }
    inputs = {name: tensor(*shape, seed=seed + n) for n, (name, shape) in enumerate(names.items()) if shape}
    options = dict(
        reverse=draw(st.booleans()),
        cell_clip=draw(st.sampled_from([None, 0.4])),
        proj_clip=draw(st.sampled_from([None, 0.3])) if P else None,
    )
    if draw(st.booleans()):
        lengths = np.random.default_rng(seed).integers(0, T + 1, B)
        options["mask"] = np.arange(T) < lengths[:, None]
    return inputs, options


def run(inputs, options):
    """ops.lstm on tensors by name."""
    rest = dict(inputs)
    state = rest.pop("h"), rest.pop("c")
    return ops.lstm(**rest, state=state, **options)


@given(case=cases())
def test_lstm_has_the_values_of_its_formulas_and_the_gradients_of_finite_differences(case):
    inputs, options = case
    raw = {name: t.data for name, t in inputs.items()}
    state = raw.pop("h"), raw.pop("c")
    for got, expected in zip(run(inputs, options), reference(**raw, state=state, **options)):
        assert_close(got.data, expected, 1e-12)
    if sum(t.size for t in inputs.values()) <= 90:
        names = list(inputs)
        gradcheck(lambda *tensors: run(dict(zip(names, tensors)), options), list(inputs.values()))


def weights(inputs=3, H=4, P=0):
    return tensor(4 * H, inputs, seed=1), tensor(4 * H, P or H, seed=2), tensor(4 * H, seed=3)


def test_without_a_state_it_starts_from_zeros():
    x, (w_x, w_h, b) = tensor(2, 5, 3), weights()
    zeros = Tensor(np.zeros((2, 4)))
    for got, expected in zip(ops.lstm(x, w_x, w_h, b), ops.lstm(x, w_x, w_h, b, None, (zeros, zeros))):
        assert_close(got.data, expected.data, 0)


def test_a_sequence_may_be_read_in_two_pieces_that_hand_the_state_on():
    x, (w_x, w_h, b) = tensor(2, 7, 3), weights()
    whole = ops.lstm(x, w_x, w_h, b)
    first, h, c = ops.lstm(x[:, :3], w_x, w_h, b)
    second, *end = ops.lstm(x[:, 3:], w_x, w_h, b, None, (h, c))
    assert_close(np.concatenate([first.data, second.data], axis=1), whole[0].data, 1e-14)
    assert_close(end[1].data, whole[2].data, 1e-14)
    pieces = lambda x: ops.lstm(x[:, 3:], w_x, w_h, b, None, ops.lstm(x[:, :3], w_x, w_h, b)[1:])[0]
    at_once = lambda x: ops.lstm(x, w_x, w_h, b)[0][:, 3:]
    assert_close(gradient(pieces, x)[0], gradient(at_once, x)[0], 1e-13)


def test_reading_backwards_is_reading_the_reversed_sequence():
    x, (w_x, w_h, b) = tensor(2, 5, 3), weights()
    backwards, h, _ = ops.lstm(x, w_x, w_h, b, reverse=True)
    forwards, h_again, _ = ops.lstm(x.flip(1), w_x, w_h, b)
    assert_close(backwards.data[:, ::-1], forwards.data, 0)
    assert_close(h.data, h_again.data, 0)


def test_what_stands_in_the_padding_changes_nothing():
    x, (w_x, w_h, b) = tensor(2, 5, 3), weights()
    mask = np.arange(5) < np.array([[5], [2]])
    for reverse in (False, True):
        other = Tensor(np.where(mask[:, :, None], x.data, 100.0))
        for got, expected in zip(*(ops.lstm(one, w_x, w_h, b, mask=mask, reverse=reverse) for one in (x, other))):
            assert_close(got.data, expected.data, 0)
        (dx,) = gradient(lambda x, reverse=reverse: ops.lstm(x, w_x, w_h, b, mask=mask, reverse=reverse)[0], x)
        assert not dx[1, 2:].any() and dx[1, :2].all()


def test_gradients_that_do_not_arrive_count_as_zero():
    x, (w_x, w_h, b) = tensor(2, 3, 3), weights()
    for part in range(3):
        gradcheck(lambda x, w_x, w_h, b, part=part: ops.lstm(x, w_x, w_h, b)[part], [x, w_x, w_h, b])


@pytest.mark.parametrize("shape", [(2, 0, 3), (0, 4, 3), (1, 1, 3)])
def test_lstm_works_on_awkward_shapes(shape):
    x, (w_x, w_h, b) = tensor(*shape), weights()
    y, h, c = ops.lstm(x, w_x, w_h, b)
    assert y.shape == (*shape[:2], 4) and h.shape == c.shape == (shape[0], 4)
    gradcheck(lambda x, w: ops.lstm(x, w, w_h, b), [x, w_x])


def test_lstm_works_on_arrays_that_are_not_contiguous():
    x = Tensor(tensor(3, 4, 6).data.T[::2, ::-2], requires_grad=True)
    w_x, w_h, b = (Tensor(w.data.repeat(2, 0)[::2], requires_grad=True) for w in weights())
    assert_close(ops.lstm(x, w_x, w_h, b)[0].data, reference(x.data, w_x.data, w_h.data, b.data)[0], 1e-12)
    gradcheck(lambda *tensors: ops.lstm(*tensors), [x, w_x, w_h, b])


@pytest.mark.parametrize("B, H, P", [(1, 64, 0), (3, 50, 7), (16, 64, 32), (160, 128, 0), (2, 5, 3)])
def test_float32_agrees_with_the_formulas_at_narrow_and_wide_batches(B, H, P):
    shapes = (B, 6, 24), (4 * H, 24), (4 * H, P or H), (4 * H,), *([(P, H)] if P else [])
    x, *rest = (tensor(*shape, seed=n, low=-0.3, high=0.3).data.astype(np.float32) for n, shape in enumerate(shapes))
    got = ops.lstm(Tensor(x), *map(Tensor, rest))
    for one, expected in zip(got, reference(*(a.astype(np.float64) for a in (x, *rest)))):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one.data, expected, atol=5e-6)  # sums of 150 products of size 0.1


def test_large_gates_neither_overflow_nor_spoil_the_values():
    x, (w_x, w_h, b) = tensor(2, 4, 3), weights()
    big = Tensor(w_x.data.astype(np.float32) * 1e4)
    y, _, c = ops.lstm(Tensor(x.data.astype(np.float32)), big, *(Tensor(w.data.astype(np.float32)) for w in (w_h, b)))
    assert np.isfinite(y.data).all() and np.abs(c.data).max() <= 4.01  # one more at most in each of four steps


def test_without_a_gradient_nothing_is_recorded():
    x, (w_x, w_h, b) = tensor(2, 3, 3), weights()
    with no_grad():
        assert all(one.node is None for one in ops.lstm(x, w_x, w_h, b))


def test_arguments_that_do_not_fit_are_named():
    x, (w_x, w_h, b) = tensor(2, 3, 3), weights()
    with pytest.raises(ValueError, match=r"x must be \(B, T, I\), not \(3, 3\)"):
        ops.lstm(tensor(3, 3), w_x, w_h, b)
    with pytest.raises(ValueError, match=r"w_x has shape \(16, 3\), expected \(16, 5\) with x \(2, 3, 5\)"):
        ops.lstm(tensor(2, 3, 5), w_x, w_h, b)
    with pytest.raises(ValueError, match=r"w_h must be \(4H, P\), four gates of H rows, not \(15, 4\)"):
        ops.lstm(x, w_x, tensor(15, 4), b)
    with pytest.raises(ValueError, match="reads an output of 2, but without w_proj the output has 4"):
        ops.lstm(x, w_x, tensor(16, 2), b)
    with pytest.raises(ValueError, match=r"the state's c has shape \(2, 2\), expected \(2, 4\)"):
        ops.lstm(x, w_x, tensor(16, 2), b, tensor(2, 4), (tensor(2, 2), tensor(2, 2)))
    with pytest.raises(ValueError, match=r"mask has shape \(3, 2\), expected \(2, 3\)"):
        ops.lstm(x, w_x, w_h, b, mask=np.ones((3, 2), bool))
    with pytest.raises(ValueError, match="the mask must be a plain boolean array, not int64"):
        ops.lstm(x, w_x, w_h, b, mask=np.ones((2, 3), np.int64))
    with pytest.raises(ValueError, match="proj_clip 3 clips a projection, but there is no w_proj"):
        ops.lstm(x, w_x, w_h, b, proj_clip=3)
    with pytest.raises(ValueError, match="float64 and float32 do not mix"):
        ops.lstm(x, w_x, w_h, Tensor(b.data.astype(np.float32)))


@pytest.mark.parity
@pytest.mark.parametrize("P", [0, 3])
def test_values_and_gradients_are_torchs(P):
    torch = pytest.importorskip("torch")
    net = torch.nn.LSTM(5, 6, proj_size=P, batch_first=True, dtype=torch.float64)
    names = [name for name, _ in net.named_parameters()]

    def theirs(x, h, c, *parameters):
        y, _ = torch.func.functional_call(net, dict(zip(names, parameters)), (x, (h[None], c[None])))
        return y

    def ours(x, h, c, w_x, w_h, b_x, b_h, w_proj=None):
        return ops.lstm(x, w_x, w_h, b_x + b_h, w_proj, (h, c))[0]

    own = [Tensor(p.detach().numpy().copy(), requires_grad=True) for p in net.parameters()]
    assert_same_as_torch(ours, theirs, tensor(4, 7, 5), tensor(4, P or 6, seed=1), tensor(4, 6, seed=2), *own)
