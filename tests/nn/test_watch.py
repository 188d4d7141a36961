import numpy as np
import pytest

import tinytensor as tt
from models import GPT, T5, BERTForPreTraining, GPTConfig, T5Config
from models.bert import BERTConfig
from nn import Attention, FeedForward, init
from nn.compression import prune, shrink
from nn.rotary import Rotary
from nn.watch import probabilities, silenced, watch
from tests.helpers import assert_close

IDS = np.arange(36).reshape(3, 12) % 30


def gpt(**changes) -> GPT:
    tt.manual_seed(1)
    return GPT(GPTConfig(**dict(vocab_size=30, context=16, layers=2, heads=2, width=16, init_std=0.3) | changes)).eval()


def test_watching_leaves_the_model_as_it_was():
    model, seen = gpt(), []
    text, right = repr(model), model(IDS).data
    layers = [layer for block in model.blocks for layer in (block.feed_forward.into, block.feed_forward)]
    with watch(layers, lambda layer, arguments, result: seen.append((layer, arguments[0].shape))):
        assert all(isinstance(block.feed_forward, FeedForward) for block in model.blocks)
        assert_close(model(IDS).data, right, 1e-6)
    assert seen == [(layer, (3, 12, 16)) for layer in layers]
    model(IDS)
    assert repr(model) == text and len(seen) == len(layers)


def test_arguments_come_in_their_order_however_they_were_given():
    layer, seen = Attention(8, 2, memory_width=8), []
    x, mask = tt.Tensor(np.ones((1, 3, 8), np.float32)), np.ones((1, 3), bool)
    kv = layer.keys_values(x)
    with watch([layer], lambda layer, arguments, result: seen.append(arguments)):
        layer(x, memory=kv, mask=mask)
    assert seen[0][0] is x and seen[0][1] is mask and seen[0][2:5] == (None, None, kv)


def small_t5() -> T5:
    tt.manual_seed(1)
    return T5(T5Config(vocab_size=30, layers=2, heads=2, head_width=8, width=16, hidden=32)).eval()


def small_bert() -> BERTForPreTraining:
    tt.manual_seed(1)
    return BERTForPreTraining(BERTConfig(vocab_size=30, layers=2, heads=2, width=16, context=16, init_std=0.3)).eval()


PADDED = np.arange(12) < np.array([[12], [7], [9]])
RUNS = {
    "gpt": (gpt, lambda model: model(IDS)),
    "padded": (gpt, lambda model: model(IDS, PADDED)),
    "windows": (lambda: gpt(window=3), lambda model: model(IDS)),
    "bert": (small_bert, lambda model: model(IDS, None, PADDED)),
    "t5": (small_t5, lambda model: model(IDS, IDS[:, :5], PADDED)),
    "pruned t5": (lambda: shrink(prune(small_t5(), 0.5, "heads")), lambda model: model(IDS, IDS[:, :5], PADDED)),
}


@pytest.mark.parametrize("name", RUNS)
def test_probabilities_are_those_that_the_layer_mixed_its_values_by(name):
    make, run = RUNS[name]
    model, mixed, seen = make(), [], []
    layers = [module for module in model.modules() if isinstance(module, Attention)]

    def see(layer, arguments, result):
        if not isinstance(layer, Attention):
            mixed.append(arguments[0].numpy())
            return
        p, memory = probabilities(layer, arguments), arguments[4]
        _, v = layer.keys_values(arguments[0]) if memory is None else memory
        seen.append(np.swapaxes(p @ v.numpy(), 1, 2).reshape(mixed[-1].shape))
        assert_close(p.sum(axis=-1), np.ones(p.shape[:-1]), 1e-6)

    with tt.no_grad(), watch([*layers, *(layer.out for layer in layers)], see):
        run(model)
    assert len(seen) == len(mixed) >= 2
    for ours, right in zip(seen, mixed):
        assert_close(ours, right, 1e-5)


@pytest.mark.parametrize("crossed", [False, True])
def test_heads_that_share_keys_and_queries_that_are_turned_are_seen_as_they_look(crossed):
    layer = Attention(16, 4, kv_heads=2, rotary=None if crossed else Rotary(4), causal=not crossed,
                      memory_width=16 if crossed else None, weight_init=init.normal(0.5))  # fmt: skip
    x = tt.Tensor(np.random.default_rng(0).standard_normal((2, 5, 16), np.float32))
    seen = []
    with tt.no_grad(), watch([layer], lambda *call: seen.append(call)):
        y = layer(x, memory=x) if crossed else layer(x)
        p = probabilities(layer, seen[0][1])
        v = np.repeat(layer.keys_values(x)[1].numpy(), 2, axis=1)
        mixed = np.swapaxes(p @ v, 1, 2).reshape(2, 5, 16)
        assert_close(layer.out(tt.Tensor(mixed)).numpy(), y.numpy(), 1e-5)
    assert p.shape == (2, 4, 5, 5) and abs(p[:, 0] - p[:, 1]).max() > 0.01


def test_a_silenced_head_is_one_whose_output_weights_are_zero():
    model = gpt()
    attention = model.blocks[1].attention
    before = model(IDS).data
    with silenced(attention, 1):
        without = model(IDS).data
    assert abs(without - before).max() > 0.01
    assert (model(IDS).data == before).all()
    attention.out.weight.data[:, 8:] = 0
    assert_close(without, model(IDS).data, 1e-6)
