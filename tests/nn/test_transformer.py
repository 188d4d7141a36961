import numpy as np
import pytest

import tinytensor as tt
from nn import Attention, Block, FeedForward, LayerNorm, RMSNorm, Stream
from tests.helpers import assert_close, gradient, tensor
from tests.nn.test_attention import double, padding_mask, plain, self_reference
from tinytensor import ops

ACTIVATIONS = {
    "gelu": ops.gelu,
    "gelu_tanh": lambda x: 0.5 * x * (1 + (np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)).tanh()),
    "relu": ops.relu,
    "silu": lambda x: x * x.sigmoid(),
}


EPS = 0.01


def make(width, heads, hidden=None, post_norm=False, activation="gelu", bias=True, causal=False, dropout=0.0):
    return Block(
        Attention(width, heads, bias=bias, causal=causal, dropout=dropout),
        FeedForward(width, hidden or 4 * width, bias=bias, activation=activation),
        lambda: LayerNorm(width, bias, EPS),
        dropout=dropout,
        post_norm=post_norm,
    )


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
    blocks = [double(make(6, 2, hidden=5, causal=causal, bias=bias)) for _ in range(2)]
    x, mask = tensor(2, 4, 6), padding_mask([4, 3], 4)
    may = mask & np.tri(4, dtype=bool) if causal else mask
    parameters = [p for block in blocks for p in block.parameters()]

    def chained(x, *_):
        x = Stream(x)
        for block in blocks:
            x = block(x, mask)
        return x.full

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
    blocks = [double(make(6, 3, activation="relu", bias=bias, post_norm=True)) for _ in range(2)]
    x, mask = tensor(2, 4, 6), padding_mask([4, 3], 4)
    parameters = [p for block in blocks for p in block.parameters()]

    def chained(x, *_):
        x = Stream(x)
        for block in blocks:
            x = block(x, mask)
        return x.full

    def plain(x, *_):
        for block in blocks:
            x = norm(block.norm1, x + self_reference(block.attention, x, mask))
            x = norm(block.norm2, x + feed_forward(block.feed_forward, x, "relu"))
        return x

    assert_close(chained(x).data, plain(x).data, 1e-12)
    for got, expected in zip(gradient(chained, x, *parameters), gradient(plain, x, *parameters)):
        assert_close(got, expected, 1e-10)


@pytest.mark.parametrize("activation", ["gelu_tanh", "relu"])
def test_a_gated_network_multiplies_two_linear_maps(activation):
    layer, x = double(FeedForward(4, 7, activation=activation, gated=True, bias=False)), tensor(2, 3, 4)
    reference = lambda x, *_: (
        (ACTIVATIONS[activation](x @ layer.gate.weight.T) * (x @ layer.into.weight.T)) @ layer.out.weight.T
    )
    inputs = x, *layer.parameters()
    assert_close(layer(x).data, reference(x).data, 1e-12)
    for got, expected in zip(gradient(lambda x, *_: layer(x), *inputs), gradient(reference, *inputs)):
        assert_close(got, expected, 1e-12)


@pytest.mark.parametrize("post_norm", [False, True])
def test_a_block_with_cross_attention_looks_at_a_memory_too(post_norm):
    rms = lambda layer, x: x / ((x * x).mean(-1, keepdims=True) + EPS).sqrt() * layer.weight
    block = double(Block(
        Attention(6, 2, causal=True), FeedForward(6, 5), lambda: RMSNorm(6, EPS),
        cross=Attention(6, 3, memory_width=4), post_norm=post_norm,
    ))  # fmt: skip
    x, memory, mask = tensor(2, 4, 6), tensor(2, 5, 4), padding_mask([5, 3], 5)

    def ours(x, memory, *_):
        return block(Stream(x), memory=block.cross.keys_values(memory), memory_mask=mask).full

    def theirs(x, memory, *_):
        k, v = block.cross.kv(memory).chunk(2, -1)
        for layer_norm, layer in (
            (block.norm1, lambda y: self_reference(block.attention, y, np.tri(4, dtype=bool))),
            (block.cross_norm, lambda y: block.cross.out(plain(block.cross.q(y), k, v, 3, mask))),
            (block.norm2, lambda y: feed_forward(block.feed_forward, y, "gelu")),
        ):
            x = rms(layer_norm, x + layer(x)) if post_norm else x + layer(rms(layer_norm, x))
        return x

    inputs = x, memory, *block.parameters()
    assert_close(ours(*inputs).data, theirs(*inputs).data, 1e-12)
    for got, expected in zip(gradient(ours, *inputs), gradient(theirs, *inputs)):
        assert_close(got, expected, 1e-10)


@pytest.mark.parametrize("post_norm", [False, True])
def test_looking_at_the_stream_between_blocks_changes_nothing(post_norm):
    blocks = [double(make(8, 2, dropout=0.3, post_norm=post_norm)) for _ in range(2)]

    def run(look):
        tt.manual_seed(1)
        x = Stream(tensor(1, 5, 8))
        for block in blocks:
            before, x = x, block(x)
            if look:
                seen.append((before.full.data, x.full.data))
        return x.full.data

    seen = []
    plain_run, watched = run(False), run(True)
    assert_close(watched, plain_run, 1e-12)
    assert seen[0][1] is seen[1][0] and seen[1][1] is watched


@pytest.mark.parametrize("post_norm", [False, True])
def test_dropout_works_in_training_only(post_norm):
    block = double(make(8, 2, dropout=0.3, post_norm=post_norm))
    x = tensor(1, 5, 8)
    run = lambda: block(Stream(x)).full.data
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

    def __call__(self, x):
        return x

    def add(self, x, branch, dropout):
        branch = ops.dropout(branch, dropout)
        self.branches.append(branch)
        return x + branch, x + branch


@pytest.mark.parametrize("post_norm", [False, True])
def test_dropout_falls_on_each_branch(post_norm):
    block = double(make(64, 2, dropout=0.25, post_norm=post_norm))
    block.attention.dropout = 0.0
    block.norm1 = block.norm2 = spy = Spy()
    x = block(Stream(tensor(2, 50, 64)))
    if not post_norm:
        block(x)  # a block leaves its last branch for the next one to add
    assert len(spy.branches) == (2 if post_norm else 3)
    for branch in spy.branches:
        assert abs((branch.data == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 6400)  # five standard deviations


@pytest.mark.parity
@pytest.mark.parametrize("norm_first", [True, False])
def test_blocks_are_torchs_transformer_encoder_layers(norm_first):
    torch = pytest.importorskip("torch")
    block = double(make(6, 3, hidden=10, post_norm=not norm_first))
    block.norm1.eps = block.norm2.eps = 1e-5
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
    ours = lambda x: block(Stream(x)).full
    assert_close(ours(x).data, y.detach().numpy(), 1e-11)
    y.sum().backward()
    assert_close(gradient(ours, x)[0], twin.grad.numpy(), 1e-10)
    for name, parameter in theirs.named_parameters():
        assert_close(weights[name].grad, parameter.grad.numpy(), 1e-10)
