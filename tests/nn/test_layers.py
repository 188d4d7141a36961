"""Linear, Embedding, LayerNorm, RMSNorm, Dropout and the losses: that a layer is its op with its own parameters."""

import numpy as np
import pytest

import tinytensor as tt
from nn import CrossEntropyLoss, Dropout, Embedding, LayerNorm, Linear, MSELoss, RMSNorm, init
from tests.helpers import assert_close, tensor
from tinytensor import Tensor, ops


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
    same, y = norm.add(x, None)
    assert same is x
    assert_close(y.data, norm(x).data, 0)


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


def test_the_loss_modules_are_their_ops():
    x, ids = single(3, 4), np.array([1, 0, 2])
    options = dict(ignore_index=0, label_smoothing=0.1, z_loss=0.01)
    assert CrossEntropyLoss(**options)(x, ids).item() == ops.cross_entropy(x, ids, **options).item()
    assert MSELoss()(x, x * 2).item() == ops.mse_loss(x, x * 2).item()


def test_a_loss_module_is_a_module_like_any_other():
    loss = CrossEntropyLoss(label_smoothing=0.1)
    assert loss.parameters() == [] and len({loss, CrossEntropyLoss(label_smoothing=0.1)}) == 2
    assert repr(loss) == "CrossEntropyLoss(ignore_index=-100, label_smoothing=0.1, z_loss=0.0)"


# ---- initialisers


@pytest.mark.parametrize(
    "fill, mean, std, limit",
    [
        (init.zeros, 0, 0, 0),
        (init.ones, 1, 0, 1),
        (init.normal(0.02), 0, 0.02, None),
        (init.truncated_normal(0.02), 0, 0.02 * 0.8796, 0.04),  # the deviation of a normal cut at two of its own
        (init.uniform(0.3), 0, 0.3 / np.sqrt(3), 0.3),
        (init.xavier_uniform, 0, np.sqrt(2 / 500), np.sqrt(6 / 500)),
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
def test_cross_entropy_is_torchs_and_so_are_the_fans_of_its_initializers():
    torch = pytest.importorskip("torch")
    x, ids = single(4, 5), np.array([3, -100, 0, 4])
    theirs = torch.nn.CrossEntropyLoss(label_smoothing=0.1)(torch.tensor(x.data), torch.tensor(ids)).item()
    assert_close(CrossEntropyLoss(label_smoothing=0.1)(x, ids).item(), theirs, 1e-6)
    w = torch.empty(200, 300)
    torch.nn.init.xavier_uniform_(w)
    assert_close(init.xavier_uniform((200, 300)).max(), w.max().item(), 1e-3)  # both reach their limit of 0.1095
    assert_close(init.kaiming_uniform((200, 300)).max(), torch.nn.Linear(300, 200).weight.max().item(), 1e-3)
