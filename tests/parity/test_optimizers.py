"""Optimizers against PyTorch's and transformers' over all their options, also where parameters are replaced on the way.

In float64, where two right ways to compute agree in all but the last of 16 digits.
"""

import copy
import itertools

import numpy as np
import pytest

from nn import Linear, Module, Parameter
from tests.helpers import assert_close
from tinytensor import Tensor
from train.adafactor import Adafactor
from train.optim import AdamW, Schedule, clip_grad_norm
from train.sgd import SGD

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

SHAPES = [(3, 4), (5,), (2, 3, 2), (1,), (4, 1)]
STEPS = 6


def ours_and_theirs(kind=Parameter):
    draw = np.random.default_rng(0)
    values = [draw.standard_normal(shape) for shape in SHAPES]
    wrap = (lambda x: Tensor(x, requires_grad=True)) if kind is Tensor else Parameter
    return [wrap(x.copy()) for x in values], [torch.nn.Parameter(torch.tensor(x)) for x in values]


def give_gradients(ours, theirs, step: int, missing=()) -> None:
    draw = np.random.default_rng([1, step])
    for number, (p, q) in enumerate(zip(ours, theirs)):
        gradient = draw.standard_normal(p.shape)
        p.grad, q.grad = None, None
        if number not in missing:
            p.accumulate(gradient)
            q.grad = torch.tensor(gradient)


def assert_equal(ours, theirs) -> None:
    for p, q in zip(ours, theirs):
        assert_close(p.data, q.detach().numpy(), 1e-10)


def groups_of(theirs, decay: float) -> list[dict]:
    """Ours decays matrices only; PyTorch is told so by groups."""
    split = [[q for q in theirs if q.ndim >= 2], [q for q in theirs if q.ndim < 2]]
    return [{"params": params, "weight_decay": d} for params, d in zip(split, (decay, 0.0))]


def adamw(ours, theirs, betas=(0.9, 0.999), eps=1e-8, decay=0.1):
    peer = torch.optim.AdamW(groups_of(theirs, decay), lr=0.1, betas=betas, eps=eps)
    return AdamW(ours, lr=0.1, betas=betas, eps=eps, weight_decay=decay), peer


def sgd(ours, theirs, momentum=0.9, nesterov=False, decay=0.1):
    peer = torch.optim.SGD(groups_of(theirs, decay), lr=0.1, momentum=momentum, nesterov=nesterov)
    return SGD(ours, lr=0.1, momentum=momentum, nesterov=nesterov, weight_decay=decay), peer


def adafactor(ours, theirs, relative=True, decay=0.1, clip=1.0, exponent=0.8):
    """transformers' decays by lr times the parameter's size, PyTorch's and ours by lr; so PyTorch's, if decaying."""
    if decay and relative:
        how = dict(lr=0.1, eps=(1e-30, 1e-3), d=clip, beta2_decay=-exponent)
        peer = torch.optim.Adafactor(groups_of(theirs, decay), **how)
    else:
        from transformers.optimization import Adafactor as Theirs

        peer = Theirs(groups_of(theirs, decay), lr=0.1, scale_parameter=relative, relative_step=False,
                      warmup_init=False, clip_threshold=clip, decay_rate=-exponent)
    how = dict(clip_threshold=clip, decay_exponent=exponent)
    return Adafactor(ours, lr=0.1, relative=relative, weight_decay=decay, **how), peer


MAKERS = {"adamw": adamw, "sgd": sgd, "adafactor": adafactor}
OPTIONS = {
    "adamw": dict(betas=[(0.9, 0.999), (0.0, 0.9), (0.8, 0.0)], eps=[1e-8, 1e-2, 0.0], decay=[0.0, 0.5]),
    "sgd": dict(momentum=[0.9, 0.0], nesterov=[False, True], decay=[0.0, 0.5]),
    "adafactor": dict(relative=[True, False], decay=[0.0, 0.5], clip=[1.0, 0.3], exponent=[0.8, 0.5]),
}
CASES = [(name, dict(zip(options, values))) for name, options in OPTIONS.items()
         for values in itertools.product(*options.values())]  # fmt: skip
refused = lambda how: ((how.get("nesterov") and not how["momentum"])  # by ours and PyTorch's
                       or (how.get("relative") and how["decay"] and how["clip"] < 1))  # by PyTorch's  # fmt: skip
CASES = [(name, how) for name, how in CASES if not refused(how)]
EACH = pytest.mark.parametrize("name", MAKERS)


@pytest.mark.parametrize("name, how", CASES)
def test_every_option_gives_their_steps(name, how):
    ours, theirs = ours_and_theirs()
    optimizer, peer = MAKERS[name](ours, theirs, **how)
    # PyTorch's Adafactor never takes more than 1/sqrt(step), so 0.1 for 100 steps.
    for step in range(STEPS):
        give_gradients(ours, theirs, step)
        optimizer.step()
        peer.step()
    assert_equal(ours, theirs)


@EACH
def test_parameters_without_a_gradient_stay_and_count_their_own_steps(name):
    ours, theirs = ours_and_theirs()
    optimizer, peer = MAKERS[name](ours, theirs, decay=0.5)
    for step, missing in enumerate([(0, 1), (2,), (0, 3), (), (0, 1, 2, 3, 4), ()]):
        give_gradients(ours, theirs, step, missing)
        optimizer.step()
        peer.step()
        assert_equal(ours, theirs)


@EACH
@pytest.mark.parametrize("size", [2, 3, 6])
def test_so_do_workers_that_share_the_update_and_a_state_that_was_saved_and_loaded(name, size):
    ours, theirs = ours_and_theirs()
    one, peer = MAKERS[name](ours, theirs, decay=0.5)
    make = {"adamw": AdamW, "sgd": SGD, "adafactor": Adafactor}[name]
    how = dict(lr=0.1, weight_decay=0.5) | ({"momentum": 0.9} if name == "sgd" else {})
    flat, states = one.flat, None
    for step, missing in enumerate([(0, 1), (2,), (0, 3), ()]):
        workers = [make(flat, **how, rank=rank, size=size) for rank in range(size)]
        give_gradients(ours, theirs, step, missing)
        arrived = flat.complete_gradients(flat.parameters)
        for worker in workers:
            if states:
                worker.load_state(states, step)
            worker.steps += 1
            worker.update(flat.grad, 0.1, arrived=arrived)
        whole = {key: np.concatenate([worker.state[key] for worker in workers]) for key in workers[0].state}
        states = whole | {"missed": np.array(workers[0].missed)}
        peer.step()
        assert_equal(ours, theirs)


class Two(Module):
    def __init__(self, ours):
        self.list = ours


def another_optimizer(ours, theirs, name):
    MAKERS[name](ours, theirs)


def assigned(ours, theirs, name):
    for p, q in zip(ours, theirs):
        p.data = p.data - 0.5
        q.data = q.data - 0.5


def assigned_backwards(ours, theirs, name):
    for p, q in zip(ours, theirs):
        p.data = p.data[::-1]
        q.data = q.data.flip(0)


def loaded(ours, theirs, name):
    state = {key: value * 0.5 for key, value in Two(ours).state_dict().items()}
    Two(ours).load_state_dict(state, assign=True)
    for q in theirs:
        q.data = q.data * 0.5


def moved(ours, theirs, name):
    Two(ours).to("cpu")


def laid_out_for_inference(ours, theirs, name):
    Two(ours).for_inference()


def copied(ours, theirs, name):
    copy.deepcopy(Two(ours))


@EACH
@pytest.mark.parametrize("replace", [another_optimizer, assigned, assigned_backwards, loaded, moved,
                                     laid_out_for_inference, copied])  # fmt: skip
@pytest.mark.parametrize("between", ["before the gradient", "after it"])
def test_a_parameter_whose_array_was_replaced_goes_on_learning(name, replace, between):
    ours, theirs = ours_and_theirs()
    optimizer, peer = MAKERS[name](ours, theirs)
    for step in range(STEPS):
        if step == 3 and between == "before the gradient":
            replace(ours, theirs, name)
        give_gradients(ours, theirs, step)
        if step == 3 and between == "after it":
            replace(ours, theirs, name)
        optimizer.step()
        peer.step()
    assert_equal(ours, theirs)


@EACH
def test_two_optimizers_take_turns_over_the_same_parameters(name):
    ours, theirs = ours_and_theirs()
    pairs = [MAKERS[name](ours, theirs), MAKERS["sgd"](ours, theirs, momentum=0.0)]
    for step in range(STEPS):
        give_gradients(ours, theirs, step)
        for optimizer in pairs[step % 2]:
            optimizer.step()
        assert_equal(ours, theirs)


@EACH
def test_plain_tensors_learn_as_parameters_do(name):
    ours, theirs = ours_and_theirs(Tensor)
    optimizer, peer = MAKERS[name](ours, theirs)
    for step in range(STEPS):
        give_gradients(ours, theirs, step)
        assert clip_grad_norm(ours, 1.0) == pytest.approx(float(torch.nn.utils.clip_grad_norm_(theirs, 1.0)))
        optimizer.step()
        peer.step()
        optimizer.zero_grad()
    assert_close(ours[0].data, theirs[0].detach().numpy(), 1e-6)  # PyTorch adds 1e-6 to the norm in float32


@EACH
def test_groups_have_their_own_rates_and_decay_also_under_a_schedule(name):
    ours, theirs = ours_and_theirs()
    parted = lambda p: [{"params": p[1:3], "lr": 0.2}, {"params": [p[0]], "weight_decay": 0.3},
                        {"params": p[3:], "lr": 0.05, "weight_decay": 0.2}]  # fmt: skip
    how, momentum = dict(lr=0.1), ({"momentum": 0.9} if name == "sgd" else {})
    if name == "adafactor":
        optimizer = Adafactor(parted(ours), **how, weight_decay=0.0)
        peer = torch.optim.Adafactor(parted(theirs), **how, eps=(1e-30, 1e-3))
    else:
        optimizer = {"adamw": AdamW, "sgd": SGD}[name](parted(ours), **how, **momentum, weight_decay=0.0)
        make = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[name]
        peer = make(parted(theirs), **how, **momentum, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(peer, lambda step: 1 / (1 + step))
    for step in range(STEPS):
        give_gradients(ours, theirs, step, missing=(1,) if step == 2 else ())
        optimizer.step(lr=0.1 / (1 + step))
        peer.step()
        schedule.step()
    assert_equal(ours, theirs)


@pytest.mark.parametrize("cycles", [1, 2, 3])
def test_restarts_are_those_of_transformers(cycles):
    from transformers import get_cosine_with_hard_restarts_schedule_with_warmup as make

    ours = Schedule(0.1, 60, warmup=0, cycles=cycles)
    assert_rates(ours, lambda peer: make(peer, 0, 60, num_cycles=cycles), 60)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_polynomial_decay_is_that_of_transformers(power):
    from transformers import get_polynomial_decay_schedule_with_warmup as make

    ours = Schedule(0.1, 60, warmup=0, min_lr=0.01, shape="polynomial", power=power)
    assert_rates(ours, lambda peer: make(peer, 0, 60, lr_end=0.01, power=power), 70)


def assert_rates(ours, make, steps: int) -> None:
    peer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = make(peer)
    for step in range(steps):
        assert ours(step) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12), step
        peer.step()
        theirs.step()


@EACH
def test_gradients_that_were_there_before_the_optimizer_count(name):
    ours, theirs = ours_and_theirs()
    give_gradients(ours, theirs, 0)
    for optimizer in MAKERS[name](ours, theirs):
        optimizer.step()
    assert_equal(ours, theirs)


def test_named_parameters_are_taken():
    torch_layer, layer = torch.nn.Linear(3, 2).double(), Linear(3, 2)
    layer.load_state_dict({k: v.detach().numpy().copy() for k, v in torch_layer.state_dict().items()}, assign=False)
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    ours, theirs = SGD(layer.named_parameters(), 0.1), torch.optim.SGD(torch_layer.named_parameters(), 0.1)
    layer(Tensor(x)).sum().backward()
    torch_layer(torch.tensor(x).double()).sum().backward()
    ours.step()
    theirs.step()
    assert_close(layer.weight.data, torch_layer.weight.detach().numpy(), 1e-5)
