"""The LSTM kernel: against plain formulas in both precisions, on any layout, and what it must leave alone."""

import numpy as np
import pytest

from tests.backend.cpu.reference import DTYPES, assert_close, normal, numeric_gradient, scattered
from tinytensor.backend import cpu
from tinytensor.ops.recurrent import plain_lstm_step

B, T, I, H, P = 3, 5, 4, 6, 2
SHAPES = [(B, T, I), (4 * H, I), (4 * H, P), (4 * H,), (P, H), (B, P), (B, H)]  # x, w_x, w_h, bias, w_proj, h0, c0
MASK = np.arange(T) < np.array([[5], [2], [0]])
OPTIONS = dict(cell_clip=0.8, proj_clip=0.5)


def arrays(dtype=np.float64):
    return [normal(seed, shape, dtype) for seed, shape in enumerate(SHAPES)]


def formula(x, w_x, w_h, bias, w_proj, h, c, mask, reverse, cell_clip, proj_clip):
    """The plain step again and again; the state stands still on padding."""
    y = np.zeros((B, T, P))
    for t in reversed(range(T)) if reverse else range(T):
        new_h, new_c = plain_lstm_step(x[:, t], h, c, w_x, w_h, bias, w_proj, cell_clip, proj_clip)
        there = mask[:, t, None]
        h, c = np.where(there, new_h, h), np.where(there, new_c, c)
        y[:, t] = np.where(there, h, 0)
    return y, h, c


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reverse", [False, True])
def test_it_is_its_formula_on_any_layout(dtype, reverse):
    inputs = arrays(dtype)
    expected = formula(*(a.astype(np.float64) for a in inputs), MASK, reverse, **OPTIONS)
    for given in (inputs, [scattered(a) for a in inputs]):
        *got, _ = cpu.lstm(*given, MASK, reverse=reverse, **OPTIONS)
        for one, want in zip(got, expected):
            assert one.dtype == dtype
            assert_close(one, want)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_gradients_are_those_of_finite_differences(reverse):
    inputs = arrays()
    weights = [normal(20 + n, shape) for n, shape in enumerate([(B, T, P), (B, P), (B, H)])]
    saved = cpu.lstm(*inputs, MASK, reverse=reverse, **OPTIONS)[3]
    got = cpu.lstm_backward(*weights, saved)
    for place, gradient in enumerate(got):

        def loss(moved, place=place):
            answers = cpu.lstm(*inputs[:place], moved, *inputs[place + 1 :], MASK, reverse=reverse, **OPTIONS)
            return sum((a * w).sum() for a, w in zip(answers, weights))

        np.testing.assert_allclose(gradient, numeric_gradient(loss, inputs[place]), atol=1e-7)


def test_neither_pass_touches_what_it_was_given_or_what_was_saved():
    inputs = arrays(np.float32)
    before = [a.copy() for a in inputs]
    y, h, c, saved = cpu.lstm(*inputs, MASK, **OPTIONS)
    grads = [np.ones_like(a) for a in (y, h, c)]
    first = cpu.lstm_backward(*grads, saved)
    for result in (y, h, c):
        result[...] = 7  # the results are the caller's: nothing that backward needs may be one of them
    for one, again in zip(first, cpu.lstm_backward(*grads, saved)):
        np.testing.assert_array_equal(one, again)
    for a, b in zip([*inputs, *grads], [*before, *(np.ones_like(g) for g in grads)]):
        np.testing.assert_array_equal(a, b)
