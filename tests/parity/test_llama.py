"""A Llama built from the layers of nn, against transformers' LlamaModel: values, gradients, writing with a cache."""

import numpy as np
import pytest

import tinytensor as tt
from nn import Attention, Block, Blocks, DecoderCache, Embedding, FeedForward, Module, RMSNorm, Rotary, Stream
from tests.helpers import assert_close

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.parity

V, C, F, H, L = 50, 32, 48, 4, 3


class Llama(Module):
    """RMSNorm before each branch, rotary positions, G heads of keys and values for H of queries, gated SiLU."""

    def __init__(self, kv_heads: int, base: float):
        rotary = Rotary(C // H, base)
        self.embedding = Embedding(V, C)
        self.blocks = Blocks(
            Block(
                Attention(C, H, kv_heads=kv_heads, rotary=rotary, causal=True, bias=False),
                FeedForward(C, F, activation="silu", gated=True, bias=False),
                lambda: RMSNorm(C),
            )
            for _ in range(L)
        )
        self.norm = RMSNorm(C)

    def __call__(self, ids, mask=None, cache: DecoderCache | None = None):
        x = Stream(self.embedding(ids))
        if cache is not None:
            _, mask = cache.look(ids.shape[1], mask)
        for block, layer in zip(self.blocks, cache.layers if cache else [None] * L):
            x = block(x, mask, cache=layer)
        return x.normalized(self.norm)

    def new_cache(self, batch: int, capacity: int) -> DecoderCache:
        like = self.embedding.weight.data
        return DecoderCache([block.attention.new_cache(batch, capacity, like) for block in self.blocks])


def names(layer: int) -> dict[str, tuple[str, ...]]:
    """Ours -> theirs, several where ours are stacked."""
    ours, theirs = f"blocks.{layer}", f"layers.{layer}"
    return {
        f"{ours}.attention.qkv.weight": tuple(f"{theirs}.self_attn.{one}_proj.weight" for one in "qkv"),
        f"{ours}.attention.out.weight": (f"{theirs}.self_attn.o_proj.weight",),
        f"{ours}.feed_forward.gate.weight": (f"{theirs}.mlp.gate_proj.weight",),
        f"{ours}.feed_forward.into.weight": (f"{theirs}.mlp.up_proj.weight",),
        f"{ours}.feed_forward.out.weight": (f"{theirs}.mlp.down_proj.weight",),
        f"{ours}.norm1.weight": (f"{theirs}.input_layernorm.weight",),
        f"{ours}.norm2.weight": (f"{theirs}.post_attention_layernorm.weight",),
    }


NAMES = {"embedding.weight": ("embed_tokens.weight",), "norm.weight": ("norm.weight",)}
for number in range(L):
    NAMES |= names(number)


@pytest.fixture(params=[(4, 10000.0), (2, 10000.0), (1, 500.0)], ids=["4 of 4", "2 of 4", "1 of 4"])
def models(request):
    kv_heads, base = request.param
    config = transformers.LlamaConfig(
        vocab_size=V, hidden_size=C, intermediate_size=F, num_hidden_layers=L, num_attention_heads=H,
        num_key_value_heads=kv_heads, rms_norm_eps=1e-6, max_position_embeddings=512,
        rope_parameters={"rope_type": "default", "rope_theta": base},
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = transformers.LlamaModel(config).eval()
    for parameter in theirs.parameters():
        parameter.data = torch.randn(parameter.shape) * 0.2
    state = {name: parameter.detach().numpy() for name, parameter in theirs.named_parameters()}
    ours = Llama(kv_heads, base)
    ours.load_state_dict({name: np.concatenate([state[one] for one in parts]) for name, parts in NAMES.items()})
    return ours, theirs


def test_values_and_gradients_are_theirs(models):
    ours, theirs = models
    ids = np.random.default_rng(0).integers(0, V, (2, 40))
    x, y = ours(ids), theirs(torch.tensor(ids)).last_hidden_state
    assert_close(x.data, y.detach().numpy(), 1e-5)
    g = np.random.default_rng(1).standard_normal(x.shape).astype(np.float32) * 0.01
    x.backward(g)
    y.backward(torch.tensor(g))
    parameters, gradients = dict(theirs.named_parameters()), dict(ours.named_parameters())
    for name, parts in NAMES.items():
        expected = np.concatenate([parameters[one].grad.numpy() for one in parts])
        assert_close(gradients[name].grad, expected, 1e-4)  # sums of 80 products in float32


@pytest.mark.parametrize("first", [1, 7])
def test_so_is_what_is_read_token_by_token_behind_a_cache(models, first):
    ours, theirs = models
    ids = np.random.default_rng(2).integers(0, V, (3, 20))
    whole = theirs(torch.tensor(ids)).last_hidden_state.detach().numpy()
    cache = ours.new_cache(3, 24)
    with tt.no_grad():
        parts = [ours(ids[:, :first], cache=cache).data]
        parts += [ours(ids[:, place : place + 1], cache=cache).data for place in range(first, 19)]
        parts.append(ours(ids[:, 19:], cache=cache).data)
    assert_close(np.concatenate(parts, axis=1), whole, 1e-5)
    assert cache.layers[0].keys.shape[1] == ours.blocks[0].attention.kv_heads


def test_padding_on_the_left_changes_nothing(models):
    """Only how far apart tokens stand counts, so all of a row may stand further to the right."""
    ours, theirs = models
    ids = np.random.default_rng(3).integers(0, V, (2, 12))
    mask = np.arange(12) >= np.array([[0], [5]])
    with tt.no_grad():
        whole = ours(ids, mask, ours.new_cache(2, 12)).data
    short = theirs(torch.tensor(ids[1:, 5:])).last_hidden_state.detach().numpy()
    assert_close(whole[1:, 5:], short, 1e-5)
