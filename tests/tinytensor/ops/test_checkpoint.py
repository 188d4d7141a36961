import gc
import threading
import tracemalloc

import numpy as np
import pytest

import tinytensor as tt
from nn import Linear, Parameter
from tests.helpers import assert_close, gradient, tensor
from tinytensor import Tensor, ops


def stretch(x, w):
    return (ops.linear(x, w).gelu() + x).softmax() * 3


def both(fn, *inputs):
    """(value, gradients) of fn plain and checkpointed, from the same random stream."""
    results = []
    for wrapped in (fn, lambda *a: tt.checkpoint(fn, *a)):
        tt.manual_seed(4)
        value = wrapped(*inputs).data
        tt.manual_seed(4)
        results.append((value, gradient(wrapped, *inputs)))
    return results


def assert_equal(plain, checkpointed):
    np.testing.assert_array_equal(checkpointed[0], plain[0])
    for got, expected in zip(checkpointed[1], plain[1], strict=True):
        np.testing.assert_array_equal(got, expected)


def test_values_and_gradients_are_the_same():
    assert_equal(*both(stretch, tensor(4, 3), tensor(3, 3)))


def test_dropout_inside_draws_the_same_mask():
    assert_equal(*both(lambda x: ops.dropout(x * 2, 0.5), tensor(200)))


def test_the_stream_goes_on_after_backward_as_if_nothing_had_been_drawn_again():
    x = tensor(50)
    draws = []
    for wrapped in (ops.dropout, lambda *a: tt.checkpoint(ops.dropout, *a)):
        tt.manual_seed(4)
        wrapped(x, 0.5).sum().backward()
        draws.append(tt.random.generator().random())
    assert draws[0] == draws[1]


def test_parameters_inside_get_their_gradients():
    layer, x = Linear(3, 2), Tensor(tensor(4, 3, grad=False).data.astype(np.float32))
    layer(x).exp().sum().backward()
    expected = [p.grad for p in layer.parameters()]
    layer.zero_grad()
    tt.checkpoint(lambda x: layer(x).exp(), x).sum().backward()  # x itself needs no gradient
    for parameter, grad in zip(layer.parameters(), expected, strict=True):
        np.testing.assert_array_equal(parameter.grad, grad)


def test_a_tensor_of_the_outer_graph_used_inside_gets_its_gradient():
    """Also where others use it too, before and after: its node must wait until all their gradients have arrived."""

    def fn(x, wrap):
        y = x * 2
        before = y.sin()
        inside = wrap(lambda a: a * y, x)
        return before + inside + y.exp()

    x = tensor(3)
    plain = gradient(lambda x: fn(x, lambda f, *a: f(*a)), x)
    np.testing.assert_allclose(gradient(lambda x: fn(x, tt.checkpoint), x)[0], plain[0], rtol=1e-14)


def test_checkpoints_may_be_nested():
    inner = lambda x: ops.dropout(x.exp(), 0.5)
    plain, nested = lambda x: inner(x).sin() * x, lambda x: tt.checkpoint(inner, x).sin() * x
    results = []
    for fn in (plain, lambda x: tt.checkpoint(nested, x)):
        tt.manual_seed(4)
        results.append(gradient(fn, x := tensor(20))[0])
    assert x.grad is results[1]
    np.testing.assert_array_equal(results[0], results[1])


def test_the_same_input_may_come_twice_and_other_things_pass_untouched():
    x = tensor(3)
    fn = lambda a, b, power, *, _=None: a**power * b
    assert_close(gradient(lambda x: tt.checkpoint(fn, x, x, 2), x)[0], 3 * x.data**2, 1e-14)


def test_a_function_that_computes_nothing_passes_the_gradient_on():
    x = tensor(3)
    assert gradient(lambda x: tt.checkpoint(lambda a: a, x) * 2, x)[0].tolist() == [2, 2, 2]
    y = lambda x: x * 3
    assert gradient(lambda x: tt.checkpoint(lambda a: a, y(x)) * 2, x)[0].tolist() == [6, 6, 6]


def test_a_function_that_needs_no_gradient_gives_none():
    x, c = tensor(3), tensor(3, grad=False)
    assert gradient(lambda x: tt.checkpoint(lambda c: c.exp(), c) + x, x)[0].tolist() == [1, 1, 1]
    assert c.grad is None


def test_nothing_is_recorded_under_no_grad():
    with tt.no_grad():
        assert not tt.checkpoint(lambda a: a.exp(), tensor(3)).requires_grad


def test_backward_may_be_called_under_no_grad():
    x = tensor(3)
    y = tt.checkpoint(lambda a: a * 2, x).sum()
    with tt.no_grad():
        y.backward()
    assert x.grad.tolist() == [2, 2, 2]


def test_it_gives_a_parameter_its_gradient_in_its_place():
    parameter = Parameter(np.ones((2, 2)))
    parameter.gradient_place = np.full((2, 2), np.nan)
    tt.checkpoint(ops.linear, tensor(3, 2), parameter).sum().backward()
    assert parameter.grad is parameter.gradient_place and np.isfinite(parameter.grad).all()


def test_anomaly_mode_names_the_op_inside():
    x = Tensor(np.array([0.0]), requires_grad=True)
    with tt.detect_anomaly(), np.errstate(all="ignore"):
        y = tt.checkpoint(lambda a: a.sqrt(), x)
        with pytest.raises(FloatingPointError, match="the gradient of sqrt produced an infinity"):
            y.backward()


def test_a_long_chain_of_checkpoints_is_walked_and_let_go_of():
    def chain():
        y = x = Tensor(np.array(0.0), requires_grad=True)
        for _ in range(5_000):
            y = tt.checkpoint(lambda a: a + 1.0, y)
        return x, y

    x, y = chain()
    y.backward()
    assert x.grad == 1
    x, y = chain()
    del x, y


def test_checkpointing_takes_less_memory():
    """Ten stretches of ten ops: kept are the ten inputs and one stretch at a time, not a hundred arrays."""
    x = Tensor(np.full(100_000, 0.5), requires_grad=True)
    array = x.data.nbytes

    def stretch(a):
        for _ in range(10):
            a = (-a).exp()
        return a

    def peak(wrap):
        gc.collect()
        tracemalloc.start()
        try:
            y = x
            for _ in range(10):
                y = wrap(stretch, y)
            forward = tracemalloc.get_traced_memory()[1]
            y.sum().backward()
            return forward / array, tracemalloc.get_traced_memory()[1] / array
        finally:
            tracemalloc.stop()

    plain, checkpointed = peak(lambda fn, a: fn(a)), peak(tt.checkpoint)
    assert plain[0] > 100 and plain[1] > 100
    assert checkpointed[0] < 16 and checkpointed[1] < 30


def test_threads_replay_their_own_streams():
    results = {}

    def work(seed):
        tt.manual_seed(seed)
        x = tensor(100, seed=seed)
        y = tt.checkpoint(lambda a: ops.dropout(a, 0.5), x)
        y.sum().backward()
        results[seed] = ((y.data != 0) == (x.grad != 0)).all()

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(results.values()) and len(results) == 4
