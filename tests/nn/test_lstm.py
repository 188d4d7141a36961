"""The LSTM layer: that a stack is its layers, that names and numbers are PyTorch's, and what it refuses."""

import numpy as np
import pytest

from nn import LSTM
from tests.helpers import assert_close, tensor
from tinytensor import Tensor, ops


def single(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(tensor(*shape, seed=seed).data.astype(np.float32), requires_grad=True)


def test_a_stack_in_both_directions_is_its_layers_and_directions():
    net, x = LSTM(3, 4, 2, proj_size=2, bidirectional=True), single(2, 5, 3)
    own = net.state_dict()
    expected, ends = x.data, []
    for layer in range(2):
        sides = []
        for suffix, reverse in ((f"_l{layer}", False), (f"_l{layer}_reverse", True)):
            w = {name: own[f"{name}{suffix}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")}
            bias = Tensor(w["bias_ih"] + w["bias_hh"])
            inputs = [Tensor(a) for a in (expected, w["weight_ih"], w["weight_hh"])]
            y, *end = ops.lstm(*inputs, bias, Tensor(w["weight_hr"]), reverse=reverse)
            sides.append(y.data)
            ends.append(end)
        expected = np.concatenate(sides, axis=-1)
    y, (h, c) = net(x)
    assert_close(y.data, expected, 0)
    assert_close(h.data, [end[0].data for end in ends], 0)
    assert_close(c.data, [end[1].data for end in ends], 0)


def test_a_state_handed_on_continues_the_sequence():
    net, x = LSTM(3, 4, 2), single(2, 6, 3)
    whole, (h, c) = net(x)
    first, state = net(x[:, :2])
    second, end = net(x[:, 2:], state)
    assert_close(np.concatenate([first.data, second.data], axis=1), whole.data, 1e-6)
    assert_close(end[0].data, h.data, 1e-6)
    assert_close(end[1].data, c.data, 1e-6)


def test_the_forget_bias_stands_in_the_second_gate_alone():
    plain, remembering = LSTM(2, 64, forget_bias=0.0), LSTM(2, 64, forget_bias=1.0)
    for name, net in (("plain", plain), ("remembering", remembering)):
        gates = (net.bias_ih_l0.data + net.bias_hh_l0.data).reshape(4, 64).mean(axis=1)
        # The mean of 64 sums of two uniforms within 1/8 has a standard error of 0.013.
        assert_close(gates, [0, float(name == "remembering"), 0, 0], 0.06)


def test_weights_start_within_one_over_the_root_of_hidden():
    largest = max(np.abs(p.data).max() for p in LSTM(3, 100, 2, proj_size=5).parameters())
    assert 0.099 < largest <= 0.1


def test_dropout_falls_between_layers_in_training_only():
    x = single(1, 40, 3)
    net = LSTM(3, 8, 2, dropout=0.5)
    assert np.abs(net(x)[0].data - net(x)[0].data).max() > 1e-3
    net.eval()
    assert_close(net(x)[0].data, net(x)[0].data, 0)
    one = LSTM(3, 8, 1, dropout=0.5)  # the last layer's output is never dropped
    assert_close(one(x)[0].data, one(x)[0].data, 0)


def test_without_biases_there_are_none_and_the_count_is_that_of_the_matrices():
    net = LSTM(3, 4, bias=False)
    assert sorted(net.state_dict()) == ["weight_hh_l0", "weight_ih_l0"]
    assert net.parameter_count() == 16 * 3 + 16 * 4
    y, _ = net(single(2, 5, 3))
    assert_close(y.data, ops.lstm(single(2, 5, 3), net.weight_ih_l0, net.weight_hh_l0)[0].data, 0)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="bidirectional has the reversed direction already"):
        LSTM(3, 4, bidirectional=True, reverse=True)
    with pytest.raises(ValueError, match="proj_clip 3 clips a projection; give a proj_size"):
        LSTM(3, 4, proj_clip=3)
    with pytest.raises(ValueError, match="at least one input, hidden unit and layer, not 3, 0, 1"):
        LSTM(3, 0)
    with pytest.raises(ValueError, match="the state has 1 and 1 parts, expected 2 of h and c"):
        LSTM(3, 4, 2)(single(2, 5, 3), (single(1, 2, 4), single(1, 2, 4)))


@pytest.mark.parity
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("layers, bidirectional", [(1, False), (2, True), (3, False)])
@pytest.mark.parametrize("P", [0, 3])
def test_torchs_state_dict_loads_and_gives_its_outputs_states_and_gradients(layers, bidirectional, P, padded):
    torch = pytest.importorskip("torch")
    torch.manual_seed(layers)
    options = dict(proj_size=P, bidirectional=bidirectional)
    theirs = torch.nn.LSTM(5, 8, layers, batch_first=True, **options)
    ours = LSTM(5, 8, layers, **options)
    ours.load_state_dict({name: p.detach().numpy() for name, p in theirs.named_parameters()})
    count = layers * (2 if bidirectional else 1)
    x, h, c = single(4, 9, 5), single(count, 4, P or 8, seed=1), single(count, 4, 8, seed=2)
    twins = [torch.tensor(one.data, requires_grad=True) for one in (x, h, c)]
    lengths = [9, 5, 1, 7] if padded else [9] * 4
    mask = np.arange(9) < np.array(lengths)[:, None]

    y, end = ours(x, (h, c), mask if padded else None)
    packed = torch.nn.utils.rnn.pack_padded_sequence(twins[0], lengths, batch_first=True, enforce_sorted=False)
    z, their_end = theirs(packed, (twins[1], twins[2]))
    z, _ = torch.nn.utils.rnn.pad_packed_sequence(z, batch_first=True)
    pairs = list(zip((y, *end), (z, *their_end)))
    for got, expected in pairs:
        assert_close(got.data, expected.detach().numpy(), 1e-6)

    weights = [np.random.default_rng(9).standard_normal(got.shape).astype(np.float32) for got, _ in pairs]
    total, their_total = 0, 0
    for (got, expected), w in zip(pairs, weights):
        total, their_total = total + (got * w).sum(), their_total + (expected * torch.tensor(w)).sum()
    total.backward()
    their_total.backward()
    for one, twin in zip((x, h, c), twins):
        assert_close(one.grad, twin.grad.numpy(), 1e-5)
    own = dict(ours.named_parameters())
    for name, parameter in theirs.named_parameters():
        assert_close(own[name].grad, parameter.grad.numpy(), 1e-5)


@pytest.mark.parity
def test_the_reverse_layer_is_the_second_direction_of_torchs():
    torch = pytest.importorskip("torch")
    theirs = torch.nn.LSTM(5, 8, batch_first=True, bidirectional=True)
    state = {n.removesuffix("_reverse"): p.detach().numpy() for n, p in theirs.named_parameters() if "_reverse" in n}
    ours = LSTM(5, 8, reverse=True)
    ours.load_state_dict(state)
    x = single(4, 9, 5)
    assert_close(ours(x)[0].data, theirs(torch.tensor(x.data))[0][:, :, 8:].detach().numpy(), 1e-6)
