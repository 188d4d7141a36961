import numpy as np
import pytest

import tinytensor as tt
from nn import FeedForward, PostNormBlock, PreNormBlock, padding_mask
from tests.helpers import assert_close, gradient, tensor
from tests.nn.test_attention import double, self_reference
from tinytensor import ops

ACTIVATIONS = {
    "gelu": ops.gelu,
    "gelu_tanh": lambda x: 0.5 * x * (1 + (np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)).tanh()),
    "relu": ops.relu,
    "silu": lambda x: x * x.sigmoid(),
}


EPS = 0.01


def norm(layer, x):
    """Layer norm by the plain ops."""
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred * centred).mean(-1, keepdims=True)
    y = centred / (variance + EPS).sqrt() * layer.weight
    return y if layer.bias is None else y + layer.bias


def feed_forward(layer, x, activation):
    y = ACTIVATIONS[activation](x @ layer.into.weight.T + (0.0 if layer.into.bias is None else layer.into.bias))
    return y @ layer.out.weight.T + (0.0 if layer.out.bias is None else layer.out.bias)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_a_feed_forward_network_is_two_linear_maps_around_its_activation(activation, bias):
    layer, x = double(FeedForward(4, 7, activation=activation, bias=bias)), tensor(2, 3, 4)
    reference = lambda x, *_: feed_forward(layer, x, activation)
    inputs = x, *layer.parameters()
    assert_close(layer(x).data, reference(x).data, 1e-12)
    for got, expected in zip(gradient(lambda x, *_: layer(x), *inputs), gradient(reference, *inputs)):
        assert_close(got, expected, 1e-12)


def test_an_unknown_activation_is_named():
    with pytest.raises(ValueError, match="unknown activation 'swish'; choose from gelu, gelu_tanh, relu, silu"):
        FeedForward(4, 8, activation="swish")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_two_pre_norm_blocks_are_a_plain_composition_of_ops(causal, bias):
    blocks = [double(PreNormBlock(6, 2, hidden=5, causal=causal, bias=bias, eps=EPS)) for _ in range(2)]
    x, mask = tensor(2, 4, 6), padding_mask([4, 3], 4)
    may = mask & np.tri(4, dtype=bool) if causal else mask
    parameters = [p for block in blocks for p in block.parameters()]

    def chained(x, *_):
        branch = None
        for block in blocks:
            x, branch = block(x, branch, mask)
        return x + branch

    def plain(x, *_):
        for block in blocks:
            x = x + self_reference(block.attention, norm(block.norm1, x), may)
            x = x + feed_forward(block.feed_forward, norm(block.norm2, x), "gelu")
        return x

    assert_close(chained(x).data, plain(x).data, 1e-12)
    for got, expected in zip(gradient(chained, x, *parameters), gradient(plain, x, *parameters)):
        assert_close(got, expected, 1e-11)


@pytest.mark.parametrize("bias", [True, False])
def test_two_post_norm_blocks_are_a_plain_composition_of_ops(bias):
    blocks = [double(PostNormBlock(6, 3, activation="relu", bias=bias, eps=EPS)) for _ in range(2)]
    x, mask = tensor(2, 4, 6), padding_mask([4, 3], 4)
    parameters = [p for block in blocks for p in block.parameters()]

    def chained(x, *_):
        for block in blocks:
            x = block(x, mask)
        return x

    def plain(x, *_):
        for block in blocks:
            x = norm(block.norm1, x + self_reference(block.attention, x, mask))
            x = norm(block.norm2, x + feed_forward(block.feed_forward, x, "relu"))
        return x

    assert_close(chained(x).data, plain(x).data, 1e-12)
    for got, expected in zip(gradient(chained, x, *parameters), gradient(plain, x, *parameters)):
        assert_close(got, expected, 1e-10)


def test_the_feed_forward_width_is_four_times_the_width_unless_told():
    assert PreNormBlock(8, 2).feed_forward.into.weight.shape == (32, 8)
    assert PostNormBlock(8, 2, hidden=5).feed_forward.into.weight.shape == (5, 8)


@pytest.mark.parametrize("make", [PreNormBlock, PostNormBlock])
def test_dropout_works_in_training_only(make):
    block = double(make(8, 2, dropout=0.3))
    x = tensor(1, 5, 8)
    run = lambda: (sum(block(x, None)) if make is PreNormBlock else block(x)).data
    assert (run() != run()).any()
    tt.manual_seed(1)
    first = run()
    tt.manual_seed(1)
    np.testing.assert_array_equal(run(), first)
    block.eval()
    np.testing.assert_array_equal(run(), run())


class Spy:
    """Stands in for a norm: drops from a branch, adds it, does not normalize, and remembers the branches."""

    def __init__(self):
        self.branches = []

    def add(self, x, branch, dropout=None):
        if branch is None:
            return x, x
        branch = dropout(branch) if dropout else branch
        self.branches.append(branch)
        return x + branch, x + branch


@pytest.mark.parametrize("make", [PreNormBlock, PostNormBlock])
def test_dropout_falls_on_each_branch(make):
    block = double(make(64, 2, dropout=0.25))
    block.attention.dropout = 0.0
    block.norm1 = block.norm2 = spy = Spy()
    x = tensor(2, 50, 64)
    if make is PreNormBlock:
        block(*block(x, None))  # a block leaves its last branch for the next one to add
    else:
        block(x)
    assert len(spy.branches) == (3 if make is PreNormBlock else 2)
    for branch in spy.branches:
        assert abs((branch.data == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 6400)  # five standard deviations


@pytest.mark.parity
@pytest.mark.parametrize("norm_first", [True, False])
def test_blocks_are_torchs_transformer_encoder_layers(norm_first):
    torch = pytest.importorskip("torch")
    block = double((PreNormBlock if norm_first else PostNormBlock)(6, 3, hidden=10))
    theirs = torch.nn.TransformerEncoderLayer(
        6, 3, 10, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first, dtype=torch.float64
    )
    names = {
        "self_attn.in_proj_": block.attention.qkv, "self_attn.out_proj.": block.attention.out,
        "linear1.": block.feed_forward.into, "linear2.": block.feed_forward.out,
        "norm1.": block.norm1, "norm2.": block.norm2,
    }  # fmt: skip
    weights = {name + kind: getattr(layer, kind) for name, layer in names.items() for kind in ("weight", "bias")}
    theirs.load_state_dict({name: torch.tensor(parameter.data) for name, parameter in weights.items()})
    x = tensor(2, 5, 6)
    twin = torch.tensor(x.data, requires_grad=True)
    y = theirs(twin)
    ours = (lambda x: sum(block(x, None)[::-1])) if norm_first else block
    assert_close(ours(x).data, y.detach().numpy(), 1e-11)
    y.sum().backward()
    assert_close(gradient(ours, x)[0], twin.grad.numpy(), 1e-10)
    for name, parameter in theirs.named_parameters():
        assert_close(weights[name].grad, parameter.grad.numpy(), 1e-10)
