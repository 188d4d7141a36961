import numpy as np
import pytest

from models import GPT, GPTConfig
from nn import Linear
from nn.compression.lora import LoRALinear, adapter_state, add_adapters, load_adapters, merge
from tests.helpers import assert_close, gradient, tensor
from tests.models.test_gpt import SMALL, randomized, some_ids
from tests.nn.test_attention import double
from train.optim import AdamW

CONFIG = GPTConfig(**SMALL)


def adapted(seed: int = 0, **options) -> GPT:
    """A GPT whose adapters are no longer zero."""
    model = add_adapters(randomized(CONFIG), **options)
    draw = np.random.default_rng(seed)
    for name, array in adapter_state(model).items():
        array += 0.1 * draw.standard_normal(array.shape).astype(np.float32) * name.endswith(".b")
    return model


def test_a_new_adapter_changes_nothing():
    ids = some_ids(CONFIG)
    model = randomized(CONFIG)
    before = model(ids).data
    np.testing.assert_array_equal(add_adapters(model, rank=3)(ids).data, before)


def test_an_adapted_layer_is_a_layer_with_the_sum_of_both_matrices():
    layer = double(LoRALinear(Linear(5, 4), rank=2, alpha=3.0))
    layer.b.data[...] = np.random.default_rng(0).standard_normal((4, 2))
    x = tensor(2, 3, 5)
    plain = lambda x, a, b: x @ (layer.base.weight + (b @ a) * 1.5).T + layer.base.bias
    ours = lambda x, a, b: layer(x)
    inputs = x, layer.a, layer.b
    assert_close(ours(*inputs).data, plain(*inputs).data, 1e-12)
    for got, expected in zip(gradient(ours, *inputs), gradient(plain, *inputs)):
        assert_close(got, expected, 1e-12)
    assert layer.base.weight.grad is None and layer.base.bias.grad is None
    assert_close(layer.weight.data, (layer.base.weight + (layer.b @ layer.a) * 1.5).data, 1e-12)


@pytest.mark.parametrize("rank, alpha", [(1, None), (4, 8.0)])
def test_a_merged_model_is_an_ordinary_one_with_the_same_logits(rank, alpha):
    model, ids = adapted(rank=rank, alpha=alpha), some_ids(CONFIG)
    names = [name for name, _ in GPT(CONFIG).named_parameters()]
    before = model(ids).data
    assert abs(before - randomized(CONFIG)(ids).data).max() > 0.1
    merge(model)
    assert [name for name, _ in model.named_parameters()] == names
    assert all(type(module) is not LoRALinear for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert_close(model(ids).data, before, 1e-5)


def test_only_the_adapters_learn_and_they_learn():
    model, ids = add_adapters(randomized(CONFIG), rank=2), some_ids(CONFIG)
    frozen = {name: p.data.copy() for name, p in model.named_parameters() if not p.requires_grad}
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.size for p in trained) == 2 * 2 * ((8 + 24) + (8 + 8) + (8 + 32) + (32 + 8))  # r (in + out), 2 blocks
    optimizer, batch = AdamW(trained, lr=3e-2, weight_decay=0), {"ids": ids, "targets": ids[:, ::-1]}
    losses = []
    for _ in range(60):
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5
    for name, parameter in model.named_parameters():
        if name in frozen:
            np.testing.assert_array_equal(parameter.data, frozen[name])


def test_layers_are_chosen_by_name_and_others_may_go_on_training():
    model = add_adapters(randomized(CONFIG), rank=2, layers=["*.qkv"], trained=["norm.*"])
    assert sorted(adapter_state(model)) == [f"blocks.{n}.attention.qkv.{m}" for n in (0, 1) for m in "ab"]
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    assert sorted({name.rpartition(".")[0] for name in learning}) == [
        "blocks.0.attention.qkv", "blocks.1.attention.qkv", "norm",
    ]  # fmt: skip


def test_saved_adapters_make_the_same_model_again():
    model, ids = adapted(rank=2), some_ids(CONFIG)
    state = {name: array.copy() for name, array in adapter_state(model).items()}
    again = load_adapters(add_adapters(randomized(CONFIG), rank=2), state)
    np.testing.assert_array_equal(again(ids).data, model(ids).data)


def test_cached_steps_of_an_adapted_model_are_those_of_the_full_pass():
    model, ids = adapted(rank=2).eval(), some_ids(CONFIG)
    cache = model.new_cache(3)
    assert_close(model.step(ids[:, :5], cache), model(ids[:, :5]).data[:, -1], 1e-5)
    assert_close(model.step(ids[:, 5:6], cache), model(ids[:, :6]).data[:, -1], 1e-5)


def test_dropout_on_what_adapters_read_works_in_training_only():
    model, ids = adapted(rank=2, dropout=0.5), some_ids(CONFIG)
    assert (model(ids).data != model(ids).data).any()
    model.eval()
    np.testing.assert_array_equal(model(ids).data, model(ids).data)


@pytest.mark.parametrize(
    "options, message",
    [(dict(rank=9), r"rank 9 must be from 1 to 8, the smaller side of \(24, 8\)"), (dict(rank=0), "rank 0 must be"),
     (dict(layers=["*.gate"]), r"no Linear of this GPT has a name like \*\.gate")],
)  # fmt: skip
def test_bad_adapters_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        add_adapters(randomized(CONFIG), **options)


def test_adapters_of_another_model_are_refused():
    state = adapter_state(adapted(rank=2))
    with pytest.raises(ValueError, match=r"is \(2, 8\), expected \(3, 8\); is the rank another"):
        load_adapters(adapted(rank=3), state)
    with pytest.raises(ValueError, match="belong to other layers"):
        load_adapters(adapted(rank=2, layers=["*.qkv"]), state)
