"""Optimizers against their published formulas, written out plainly here, and against PyTorch's."""

import numpy as np
import pytest

from nn import Linear, Parameter
from tinytensor.threads import Threads
from train.adafactor import Adafactor
from train.optim import AdamW, FlatParameters, clip_grad_norm
from train.sgd import SGD
from train.trainer import TrainConfig

SHAPES = [(3, 4), (5,), (2, 3), (1,)]


def parameters(seed=0, dtype=np.float64):
    draw = np.random.default_rng(seed)
    return [Parameter(draw.standard_normal(shape).astype(dtype)) for shape in SHAPES]


def give_gradients(params, seed):
    draw = np.random.default_rng(seed)
    for p in params:
        p.grad = None
        p.accumulate(draw.standard_normal(p.shape).astype(p.dtype))


def test_packing_keeps_the_values_and_puts_matrices_first():
    params = parameters()
    before = [p.data.copy() for p in params]
    flat = FlatParameters(params)
    assert [p.ndim for p in flat.parameters] == [2, 2, 1, 1]
    assert flat.decayed == 18
    for p, value in zip(params, before):
        np.testing.assert_array_equal(p.data, value)
        assert np.shares_memory(p.data, flat.data)


def test_a_gradient_lands_in_the_flat_array():
    params = parameters()
    flat = FlatParameters(params)
    give_gradients(params, 1)
    expected = np.concatenate([p.grad.ravel() for p in flat.parameters])
    flat.complete_gradients(flat.parameters)
    np.testing.assert_array_equal(flat.grad, expected)


def test_a_parameter_without_a_gradient_stays_as_it_is():
    params = parameters()
    optimizer = AdamW(params, lr=0.1, weight_decay=0.5)
    optimizer.flat.grad[:] = 7  # left over from a step before
    params[0].accumulate(np.ones((3, 4)))
    untouched = params[1].data.copy()
    optimizer.step()
    np.testing.assert_array_equal(params[1].data, untouched)


def test_frozen_parameters_are_left_alone():
    params = parameters()
    params[0].requires_grad = False
    before = params[0].data.copy()
    optimizer = SGD(params, lr=1.0)
    give_gradients(params[1:], 0)
    optimizer.step()
    np.testing.assert_array_equal(params[0].data, before)


def test_nothing_to_train_is_said_so():
    with pytest.raises(ValueError, match="nothing to train"):
        AdamW([])


def test_adamw_follows_its_formula_and_decays_matrices_only():
    params = parameters()
    optimizer = AdamW(params, lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    expected = [p.data.copy() for p in params]
    m, v = [np.zeros(s) for s in SHAPES], [np.zeros(s) for s in SHAPES]
    for t in range(1, 6):
        give_gradients(params, t)
        for i, p in enumerate(params):
            g = p.grad.copy()
            m[i] = 0.9 * m[i] + 0.1 * g
            v[i] = 0.95 * v[i] + 0.05 * g * g
            if p.ndim >= 2:
                expected[i] *= 1 - 0.01 * 0.1
            expected[i] -= 0.01 * (m[i] / (1 - 0.9**t)) / (np.sqrt(v[i] / (1 - 0.95**t)) + 1e-8)
        optimizer.step()
        optimizer.zero_grad()
    for p, value in zip(params, expected):
        np.testing.assert_allclose(p.data, value, rtol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_follows_its_formula(nesterov):
    params = parameters()
    optimizer = SGD(params, lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.01)
    expected, u = [p.data.copy() for p in params], [np.zeros(s) for s in SHAPES]
    for t in range(4):
        give_gradients(params, t)
        for i, p in enumerate(params):
            g = p.grad + (0.01 * expected[i] if p.ndim >= 2 else 0)
            u[i] = 0.9 * u[i] + g
            expected[i] = expected[i] - 0.1 * (g + 0.9 * u[i] if nesterov else u[i])
        optimizer.step()
    for p, value in zip(params, expected):
        np.testing.assert_allclose(p.data, value, rtol=1e-12)


def rms(x):
    return np.sqrt((x * x).mean())


def test_adafactor_follows_its_formula():
    params = parameters()
    optimizer = Adafactor(params, lr=0.05)
    expected = [p.data.copy() for p in params]
    rows = [np.zeros(s[:-1]) for s in SHAPES]
    columns = [np.zeros(s[-1:]) for s in SHAPES]
    for t in range(1, 5):
        give_gradients(params, t)
        keep = 1 - t**-0.8
        for i, p in enumerate(params):
            g = p.grad.copy()
            square = g * g + 1e-30
            if p.ndim == 2:
                rows[i] = keep * rows[i] + (1 - keep) * square.mean(1)
                columns[i] = keep * columns[i] + (1 - keep) * square.mean(0)
                u = g / np.sqrt(np.outer(rows[i], columns[i]) / rows[i].mean())
            else:
                columns[i] = keep * columns[i] + (1 - keep) * square
                u = g / np.sqrt(columns[i])
            u = u / max(1, rms(u))
            expected[i] = expected[i] - 0.05 * max(1e-3, rms(expected[i])) * u
        optimizer.step()
    for p, value in zip(params, expected):
        np.testing.assert_allclose(p.data, value, rtol=1e-10)


OPTIMIZERS = pytest.mark.parametrize("make", [AdamW, Adafactor, lambda p, **who: SGD(p, momentum=0.9, **who)])


@OPTIMIZERS
@pytest.mark.parametrize("size", [2, 3, 7])
def test_workers_that_share_an_update_give_what_one_gives_and_hold_their_share_of_the_state(make, size):
    whole, parts = parameters(), parameters()
    one, flat = make(whole), FlatParameters(parts)
    many = [make(flat, rank=rank, size=size) for rank in range(size)]
    for t in range(3):
        give_gradients(whole, t)
        give_gradients(parts, t)
        one.step()
        flat.complete_gradients(flat.parameters)
        for optimizer in many:
            optimizer.steps += 1
            optimizer.update(flat.grad, optimizer.lr)
    for a, b in zip(whole, parts):
        np.testing.assert_array_equal(a.data, b.data)
    for name, state in one.state.items():
        np.testing.assert_array_equal(np.concatenate([optimizer.state[name] for optimizer in many]), state)
    assert [i for part in many[0].parts for i in range(flat.size)[part]] == list(range(flat.size))


@OPTIMIZERS
def test_a_state_that_was_gathered_is_taken_up_by_any_number_of_workers(make):
    flat, states = FlatParameters(parameters()), []

    def work(comm):
        optimizer = make(flat, rank=comm.rank, size=comm.size)
        if states:
            optimizer.load_state(states[0], 5)
        else:
            for name, array in optimizer.state.items():
                array[:] = np.arange(len(array)) + 100 * comm.rank + len(name)
        comm.barrier()
        return optimizer.whole_state(comm)

    for size in (2, 1, 3):
        states.append(Threads(size).run(work))
    for state in states[1:]:
        assert state.keys() == states[0].keys() and state
        for name, array in state.items():
            np.testing.assert_array_equal(array, states[0][name])


def test_clipping_scales_all_gradients_to_the_given_length():
    params = parameters()
    give_gradients(params, 3)
    before = np.concatenate([p.grad.ravel() for p in params])
    norm = clip_grad_norm(params, 1.0)
    after = np.concatenate([p.grad.ravel() for p in params])
    assert norm == pytest.approx(np.linalg.norm(before))
    np.testing.assert_allclose(after, before / norm, rtol=1e-5)  # 1e-6 is added to the norm, as PyTorch does


def test_short_gradients_are_not_clipped():
    params = parameters()
    give_gradients(params, 3)
    before = [p.grad.copy() for p in params]
    clip_grad_norm(params, 100.0)
    for p, value in zip(params, before):
        np.testing.assert_array_equal(p.grad, value)


def test_rates_and_betas_that_make_no_sense_are_refused():
    parameters = Linear(2, 2).parameters()
    for lr in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="lr must be a number from 0 on"):
            SGD(parameters, lr)
    with pytest.raises(ValueError, match=r"betas must be shares in \[0, 1\), not \(0.9, 1.0\)"):
        AdamW(parameters, betas=(0.9, 1.0))


def test_values_that_make_no_sense_are_refused_by_name():
    layer = Linear(2, 2)
    for name, value in (("weight_decay", -1), ("weight_decay", np.nan), ("eps", -1), ("eps", np.inf)):
        with pytest.raises(ValueError, match=f"{name} must be a number from 0 on, not {value}"):
            AdamW(layer.parameters(), **{name: value})
    with pytest.raises(ValueError, match=r"momentum must be a share in \[0, 1\), not -0.5"):
        SGD(layer.parameters(), momentum=-0.5)
    with pytest.raises(ValueError, match="nesterov looks ahead along the momentum, which is 0; give a momentum"):
        SGD(layer.parameters(), nesterov=True)
    with pytest.raises(ValueError, match="clip_threshold must be above 0, not 0"):
        Adafactor(layer.parameters(), clip_threshold=0)
    with pytest.raises(ValueError, match="lr must be a number from 0 on, not nan"):
        SGD(layer.parameters()).step(lr=float("nan"))


def test_what_is_no_list_of_parameters_is_refused_in_a_sentence():
    layer = Linear(2, 2)
    refusals = {
        r"trains a list, not one Linear; give model.parameters\(\)": layer,
        r"trains a list, not one Parameter; give \[parameter\]": layer.weight,
        "trains parameters and tensors, not ndarray": [layer.weight.data],
        r"a tensor \(2, 2\) was computed from others; train those": [layer.weight * 2],
        "given to an optimizer twice": [layer.weight, layer.weight],
        'a group is a dict with "params" in it': [{"lr": 1.0}],
        "a group may have its own lr and weight_decay, not betas": [{"params": [layer.weight], "betas": (0, 0)}],
        "numbers from 0 on, not weight_decay -1": [{"params": [layer.weight], "weight_decay": -1}],
    }
    for sentence, given in refusals.items():
        with pytest.raises(ValueError, match=sentence):
            AdamW(given)


def test_what_no_longer_fits_its_optimizer_is_refused_in_a_sentence():
    layer = Linear(2, 3)
    optimizer = SGD(layer.parameters())
    layer.weight.data = layer.weight.data.astype(np.float64)
    with pytest.raises(ValueError, match=r"is float64 \(3, 2\) on cpu, but its optimizer was made for float32"):
        optimizer.step()
    layer.weight.data, layer.weight.grad = np.zeros((3, 2), np.float32), np.ones((1, 2), np.float32)
    with pytest.raises(ValueError, match=r"a parameter \(3, 2\) has a gradient of shape \(1, 2\)"):
        optimizer.step()
    layer.weight.requires_grad = False
    optimizer = SGD(layer.parameters())
    layer.requires_grad_()
    with pytest.raises(ValueError, match="was frozen when its optimizer was made learns now; make a new optimizer"):
        optimizer.step()


def test_a_state_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"m is \(3,\), expected \(24,\)"):
        AdamW(parameters()).load_state({"m": np.zeros(3), "v": np.zeros(24)}, 1)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_ten_steps_agree_with_pytorch(name):
    torch = pytest.importorskip("torch")
    ours = parameters()
    theirs = [torch.nn.Parameter(torch.tensor(p.data.copy())) for p in ours]
    matrices, vectors = [p for p in theirs if p.ndim == 2], [p for p in theirs if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    if name == "adamw":
        optimizer = AdamW(ours, lr=0.01, betas=(0.8, 0.9), weight_decay=0.1)
        peer = torch.optim.AdamW(groups, lr=0.01, betas=(0.8, 0.9))
    else:
        optimizer = SGD(ours, lr=0.01, momentum=0.9, weight_decay=0.1)
        peer = torch.optim.SGD(groups, lr=0.01, momentum=0.9)
    for t in range(10):
        give_gradients(ours, t)
        for p, q in zip(ours, theirs):
            q.grad = torch.tensor(p.grad.copy())
        optimizer.step()
        peer.step()
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-10)


@pytest.mark.parametrize("make", [AdamW, SGD, Adafactor])
def test_in_mixed_precision_small_updates_add_up_in_the_unrounded_parameters(make):
    """Steps of a tenth of float16's spacing at 1 would all be rounded away if they were added to float16."""
    parameter = Parameter(np.ones((4, 4), np.float32))
    optimizer = make(FlatParameters([parameter], np.dtype(np.float16)), lr=1e-4, weight_decay=0.0)
    assert parameter.dtype == np.float16
    for _ in range(100):
        parameter.accumulate(np.ones((4, 4), np.float16))
        optimizer.step()
        optimizer.zero_grad()
    np.testing.assert_allclose(optimizer.flat.data, 0.99, atol=2e-3)
    assert (parameter.data == optimizer.flat.data.reshape(4, 4).astype(np.float16)).all()
    with optimizer.flat.full_precision():
        assert parameter.dtype == np.float32
        parameter.data[...] = 2
    assert parameter.dtype == np.float16 and (parameter.data == 2).all()


def test_both_forms_of_adafactor_are_choices_of_training():
    flat = FlatParameters(Linear(3, 2).parameters())
    for name, relative in (("adafactor", False), ("adafactor-relative", True)):
        assert TrainConfig(optimizer=name).make_optimizer(flat).relative is relative
