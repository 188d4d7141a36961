"""Linear, Embedding, LayerNorm, RMSNorm, Dropout and the losses: that a layer is its op with its own parameters."""

import numpy as np
import pytest

import tinytensor as tt
from nn import Dropout, Embedding, LayerNorm, Linear, RMSNorm, init, shapes_only
from nn.layers import ACTIVATIONS
from tests.helpers import assert_close, tensor
from tinytensor import Tensor


def single(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(tensor(*shape, seed=seed).data.astype(np.float32), requires_grad=True)


def randomize(module) -> None:
    for index, parameter in enumerate(module.parameters()):
        parameter.data[...] = np.random.default_rng(index).standard_normal(parameter.shape)


def test_linear_is_a_product_and_a_bias():
    layer, x = Linear(3, 5), single(2, 4, 3)
    randomize(layer)
    assert layer.weight.shape == (5, 3) and layer.bias.shape == (5,)
    assert_close(layer(x).data, x.data @ layer.weight.data.T + layer.bias.data, 1e-6)


def test_linear_without_a_bias_has_none():
    layer = Linear(3, 5, bias=False)
    assert layer.bias is None and layer.parameter_count() == 15


def test_an_embedding_reads_rows():
    layer = Embedding(7, 3)
    ids = np.array([[0, 6], [3, 3]])
    assert_close(layer(ids).data, layer.weight.data[ids], 0)


def test_layer_norm_starts_as_plain_normalization():
    y = LayerNorm(64)(single(5, 64)).data
    assert_close(y.mean(-1), np.zeros(5), 1e-6)  # float32
    assert_close(y.std(-1), np.ones(5), 1e-5)  # eps = 1e-5 beside a variance of about 1.3


def test_rms_norm_starts_as_plain_normalization():
    y = RMSNorm(64)(single(5, 64)).data
    assert_close(np.sqrt((y**2).mean(-1)), np.ones(5), 1e-5)


@pytest.mark.parametrize("norm", [LayerNorm(4), LayerNorm(4, bias=False), RMSNorm(4)])
def test_norms_add_a_branch_first(norm):
    randomize(norm)
    x, branch = single(2, 3, 4), single(2, 3, 4, seed=1)
    total, y = norm.add(x, branch)
    assert_close(total.data, x.data + branch.data, 0)
    assert_close(y.data, norm(x + branch).data, 1e-6)


def test_layer_norm_without_a_bias_has_none():
    assert LayerNorm(4, bias=False).parameter_count() == 4


def test_dropout_works_in_training_only():
    layer, x = Dropout(0.5), single(1000)
    assert 300 < (layer(x).data == 0).sum() < 700
    assert layer.eval()(x) is x


@pytest.mark.parametrize("p", [-0.5, 1.0, 2])
def test_dropout_refuses_what_is_no_share(p):
    with pytest.raises(ValueError, match=f"dropout {p} is not a share"):
        Dropout(p)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_on_the_way_through_is_one_that_comes_after(name, bias):
    layer, x = Linear(4, 7, bias), single(3, 4)
    if bias:
        layer.bias.data += np.arange(7, dtype=np.float32)
    got, expected = layer.activated(x, ACTIVATIONS[name]), ACTIVATIONS[name](layer(x))
    assert_close(got.data, expected.data, 1e-6)


# ---- initialisers


@pytest.mark.parametrize(
    "fill, mean, std, limit",
    [
        (init.zeros, 0, 0, 0),
        (init.ones, 1, 0, 1),
        (init.normal(0.02), 0, 0.02, None),
        (init.truncated_normal(0.02), 0, 0.02 * 0.8796, 0.04),  # the deviation of a normal cut at two of its own
        (init.uniform(0.3), 0, 0.3 / np.sqrt(3), 0.3),
        (init.stacked(init.ones, init.zeros), 0.5, 0.5, 1),
        (init.kaiming_uniform, 0, 1 / np.sqrt(3 * 300), 1 / np.sqrt(300)),
    ],
)
def test_initializers_have_the_stated_mean_deviation_and_limit(fill, mean, std, limit):
    x = fill((200, 300))
    assert x.shape == (200, 300) and x.dtype == np.float32
    error = 5 * std / np.sqrt(60_000)  # five standard errors of 60,000 draws
    assert abs(x.mean() - mean) <= error and abs(x.std() - std) <= error
    if limit is not None:
        assert abs(x).max() <= limit


def test_a_seed_gives_the_same_weights():
    def weights():
        tt.manual_seed(5)
        return Linear(4, 4).weight.data

    np.testing.assert_array_equal(weights(), weights())


@pytest.mark.parity
def test_the_fan_of_its_initializer_is_torchs():
    torch = pytest.importorskip("torch")
    assert_close(init.kaiming_uniform((200, 300)).max(), torch.nn.Linear(300, 200).weight.max().item(), 1e-3)


@pytest.mark.parametrize("row", [0, 2, -1])
def test_the_padding_row_begins_as_zeros_and_does_not_learn(row):
    table = Embedding(4, 3, padding_idx=row)
    assert not table.weight.data[row].any() and table.weight.data.any(axis=1).sum() == 3
    table(np.array([[row % 4, 1], [row % 4, 3]])).sum().backward()
    assert not table.weight.grad[row].any() and table.weight.grad[1].any()
    with pytest.raises(ValueError, match="padding_idx 4 is outside the table of 4 rows"):
        Embedding(4, 3, padding_idx=4)
    with shapes_only():
        assert Embedding(4, 3, padding_idx=row).weight.shape == (4, 3)


@pytest.mark.parametrize("make", [LayerNorm, RMSNorm])
def test_a_norm_over_several_axes_is_one_over_the_flat_axis(make):
    several, flat, x = make((2, 3)), make(6), tensor(4, 2, 3)
    for mine, other in zip(several.parameters(), flat.parameters()):
        other.data = np.random.default_rng(mine.size).standard_normal(6)
        mine.data = other.data.reshape(2, 3)
    assert_close(several(x).data.reshape(4, 6), flat(x.reshape(4, 6)).data, 1e-12)
    for mine, other in zip(several.parameters(), flat.parameters()):
        several(x).sum().backward()
        flat(x.reshape(4, 6)).sum().backward()
        assert_close(mine.grad.reshape(6), other.grad, 1e-12)
    with pytest.raises(ValueError, match=r"weight has shape \(2, 3\), expected \(3, 2\) to match x \(4, 3, 2\)"):
        several(tensor(4, 3, 2))
