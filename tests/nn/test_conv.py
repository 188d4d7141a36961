"""Character convolutions and highways: that they are their formulas, and PyTorch's layers with the same weights."""

import numpy as np
import pytest

from nn import CharacterConvolutions, Conv1d, Highway
from tests.helpers import assert_close, tensor
from tinytensor import Tensor, gradcheck, ops

FILTERS = [(1, 4), (2, 3), (3, 5)]


def single(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(tensor(*shape, seed=seed).data.astype(np.float32), requires_grad=True)


def randomize(module) -> None:
    for index, parameter in enumerate(module.parameters()):
        parameter.data[...] = np.random.default_rng(index).standard_normal(parameter.shape)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_character_convolutions_are_the_activated_maxima_of_each_width_in_order(activation):
    net, x = CharacterConvolutions(2, FILTERS, activation), single(6, 7, 2)
    randomize(net)
    widths = [getattr(ops, activation)(conv(x)).data.max(axis=1) for conv in net.convolutions]
    y = net(x)
    assert y.shape == (6, 12)
    assert_close(y.data, np.concatenate(widths, axis=1), 1e-6)


def test_conv1d_is_its_op_with_its_own_parameters():
    conv, x = Conv1d(3, 5, 2), single(2, 6, 3)
    randomize(conv)
    assert_close(conv(x).data, ops.conv1d(x, conv.weight, conv.bias).data, 0)
    assert Conv1d(3, 5, 2, bias=False).parameter_count() == 30


def test_a_highway_mixes_its_input_with_a_transform():
    net, x = Highway(4), single(3, 4)
    randomize(net)
    carry, transform = (layer.weight.data for layer in (net.carry, net.transform))
    gate = 1 / (1 + np.exp(-(x.data @ carry.T + net.carry.bias.data)))
    expected = gate * np.maximum(x.data @ transform.T + net.transform.bias.data, 0) + (1 - gate) * x.data
    assert_close(net(x).data, expected, 1e-6)


def test_the_gradients_of_a_highway_are_those_of_finite_differences():
    net, x = Highway(3), tensor(2, 3)
    parts = net.carry.weight, net.carry.bias, net.transform.weight, net.transform.bias
    inputs = [tensor(*part.shape, seed=n + 1) for n, part in enumerate(parts)]

    def highway(x, *values):
        net.carry.weight, net.carry.bias, net.transform.weight, net.transform.bias = values
        return net(x)

    gradcheck(highway, [x, *inputs])


def test_a_new_highway_passes_nearly_everything_on():
    net = Highway(64)
    assert_close(net.carry.bias.data, np.full(64, -2.0), 0)
    x = Tensor(np.full((1, 64), 1e-3, np.float32))
    assert_close(net(x).data.mean() / 1e-3, 1 - 1 / (1 + np.exp(2)), 0.1)  # a gate of 0.12 in favour of the transform


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match="unknown activation 'gelu'; choose relu or tanh"):
        CharacterConvolutions(2, FILTERS, "gelu")


@pytest.mark.parity
def test_values_and_gradients_are_those_of_torchs_conv1d_and_linear():
    torch = pytest.importorskip("torch")
    net, high, x = CharacterConvolutions(2, FILTERS, "tanh"), Highway(12), single(6, 7, 2)
    randomize(net)
    randomize(high)
    twin = torch.tensor(x.data, requires_grad=True)
    weights = [torch.tensor(p.data.copy(), requires_grad=True) for p in net.parameters() + high.parameters()]
    f = torch.nn.functional
    pieces = [f.conv1d(twin.swapaxes(1, 2), weights[2 * n], weights[2 * n + 1]).max(dim=2).values for n in range(3)]
    z = torch.tanh(torch.cat(pieces, dim=1))
    gate = torch.sigmoid(f.linear(z, weights[6], weights[7]))
    z = gate * f.linear(z, weights[8], weights[9]).relu() + (1 - gate) * z
    y = high(net(x))
    assert_close(y.data, z.detach().numpy(), 1e-6)
    start = np.random.default_rng(7).standard_normal(y.shape).astype(np.float32)
    y.backward(start)
    z.backward(torch.tensor(start))
    assert_close(x.grad, twin.grad.numpy(), 1e-5)
    for own, theirs in zip(net.parameters() + high.parameters(), weights):
        assert_close(own.grad, theirs.grad.numpy(), 1e-5)


def test_the_largest_answer_over_time_is_that_of_the_whole_convolution():
    for options in ({}, dict(stride=2), dict(padding=1, dilation=2), dict(groups=3)):
        conv, x = Conv1d(6, 3, 2, **options), Tensor(tensor(2, 9, 6).data.astype(np.float32))
        assert_close(conv.max_over_time(x).data, conv(x).data.max(axis=1), 1e-6)
    assert Conv1d(6, 3, 2, groups=3).weight.shape == (3, 2, 2)


def test_groups_divide_inputs_and_outputs():
    with pytest.raises(ValueError, match="6 inputs and 4 outputs do not divide into 3 groups"):
        Conv1d(6, 4, 2, groups=3)
