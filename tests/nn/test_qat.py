"""Training as if quantized: the straight-through gradient, and that the stored integers compute what was trained."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinytensor as tt
from nn.compression import qat, storage
from nn.compression.quantize import Quantized, quantize
from tests.helpers import assert_close, tensor
from tests.nn.test_quantize import batch, gpt
from tinytensor import ops
from train.optim import AdamW


@given(seed=st.integers(0, 99), bits=st.integers(2, 8))
def test_fake_quantization_gives_multiples_of_the_step_and_leaves_them_as_they_are(seed, bits):
    x, step, top = tensor(7, 9, seed=seed), tensor(7, 1, seed=seed, low=0.05, high=0.3), 2 ** (bits - 1) - 1
    y = ops.fake_quantize(x, step, -top, top)
    multiples = y.data / step.data
    assert_close(multiples, np.rint(multiples), 1e-9)
    assert np.abs(multiples).max() <= top + 1e-9
    free = np.abs(x.data / step.data) <= top
    assert (np.abs(y.data - x.data)[free] <= (np.broadcast_to(step.data, x.shape) / 2 + 1e-9)[free]).all()
    assert_close(ops.fake_quantize(y, step, -top, top).data, y.data, 1e-9)


def test_the_gradient_goes_straight_through_and_stops_where_values_are_clipped():
    x = tt.Tensor(np.array([0.26, -0.9, 5.0, -7.0]), requires_grad=True)
    step = tt.Tensor(np.array([0.5]), requires_grad=True)
    y = ops.fake_quantize(x, step, -3, 3)
    assert_close(y.data, [0.5, -1.0, 1.5, -1.5], 1e-12)
    y.backward(np.array([1.0, 10.0, 100.0, 1000.0]))
    assert_close(x.grad, [1, 10, 0, 0], 1e-12)
    # round(v) - v inside, the end outside; four values share the step, and 3 is the highest integer
    expected = (1 * (1 - 0.52) + 10 * (-2 + 1.8) + 100 * 3 + 1000 * -3) / np.sqrt(4 * 3)
    assert_close(step.grad, [expected], 1e-9)


@pytest.mark.parity
def test_fake_quantization_is_that_of_torch():
    torch = pytest.importorskip("torch")
    x, step = tensor(5, 6, low=-4), tensor(1, low=0.2, high=0.3)
    a, s = (torch.tensor(t.data.astype(np.float32), requires_grad=True) for t in (x, step))
    factor = 1 / np.sqrt(30 * 7)
    zero = torch.zeros(1)
    theirs = torch._fake_quantize_learnable_per_tensor_affine(a, s, zero, -7, 7, factor)
    ours = ops.fake_quantize(x, step, -7, 7)
    assert_close(ours.data, theirs.detach().numpy(), 1e-6)
    g = np.random.default_rng(0).standard_normal((5, 6))
    ours.backward(g)
    theirs.backward(torch.tensor(g.astype(np.float32)))
    assert_close(x.grad, a.grad.numpy(), 1e-6)
    assert_close(step.grad, s.grad.numpy(), 1e-5)


@pytest.mark.parametrize(("bits", "group"), [(8, 32), (4, 8), (4, 32), (2, 4)])
def test_the_stored_integers_compute_what_the_model_was_trained_to(bits, group):
    model, data = gpt(), [batch(n) for n in range(3)]
    qat.prepare(model, bits, data, group)
    optimizer = AdamW(model.parameters(), lr=1e-3)
    for number in range(5):
        model.loss(data[number % 3]).backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = model.eval()(batch()["ids"]).data
    qat.finish(model)
    assert sum(isinstance(module, Quantized) for module in model.modules()) == 2 + 2 * 4
    # An input that lies within rounding of the middle between two integers may fall to either: one step in a few.
    assert np.abs(model(batch()["ids"]).data - trained).mean() < 1e-3 * np.abs(trained).mean()
    again = gpt(seed=5)
    storage.load(again, storage.state(model))
    assert_close(again(batch()["ids"]).data, model(batch()["ids"]).data, 0)


def test_training_wins_back_much_of_what_two_bits_lose():
    model, data = gpt(), batch(rows=8)
    optimizer = AdamW(model.parameters(), lr=1e-2)
    for _ in range(60):
        model.loss(data).backward()
        optimizer.step()
        optimizer.zero_grad()
    best = model.loss(data).item()
    import copy

    rounded = quantize(copy.deepcopy(model), 2, group=4).loss(data).item()
    qat.prepare(model, 2, [data], group=4)
    optimizer = AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        model.loss(data).backward()
        optimizer.step()
        optimizer.zero_grad()
    trained = qat.finish(model).loss(data).item()
    assert rounded - best > 0.3
    assert trained - best < 0.6 * (rounded - best)


def test_preparing_needs_batches_and_bits_that_exist():
    with pytest.raises(ValueError, match="bits must be 2 to 8, not 1"):
        qat.prepare(gpt(), 1, [batch()])
    with pytest.raises(ValueError, match="give batches="):
        qat.prepare(gpt(), 4, [])
