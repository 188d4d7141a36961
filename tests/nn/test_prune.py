"""Pruning: what is masked, what stays masked, and that shrinking changes the size and not the result."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinytensor as tt
from models import GPT, GPTConfig
from nn import Attention, Embedding, FeedForward, Linear
from nn.compression.prune import cubic, groups, prune, rounds, scores, shrink, sparsity
from nn.compression.surgery import replace_modules
from tests.helpers import assert_close
from train.adafactor import Adafactor
from train.optim import AdamW
from train.sgd import SGD

CONFIG = dict(vocab_size=23, context=12, layers=3, heads=4, width=16, init_std=0.3)
STRUCTURED = ["neurons", "heads", "rows"]


def gpt(seed=1, **changes) -> GPT:
    tt.manual_seed(seed)
    model = GPT(GPTConfig(**CONFIG | changes))
    for parameter in model.parameters():  # biases too, or a unit could be at work without our seeing it
        if parameter.ndim == 1:
            parameter.data += tt.random.generator().standard_normal(parameter.shape).astype(np.float32) * 0.1
    return model


def batch(seed=0, rows=3):
    ids = np.random.default_rng(seed).integers(0, 23, (rows, 13))
    return {"ids": ids[:, :-1], "targets": ids[:, 1:]}


def nonzero(model, what="weights"):
    return sum(int((group.parts[0][0].data != 0).sum()) for group in groups(model, what))


@given(amount=st.floats(0, 0.95), whole=st.booleans(), by=st.sampled_from(["magnitude", "random"]))
def test_the_share_that_was_asked_for_is_masked_and_zero(amount, whole, by):
    model = gpt()
    total = sum(group.count for group in groups(model, "weights"))
    prune(model, amount, by=by, whole=whole)
    assert abs(sparsity(model) - amount) < 1e-3
    assert nonzero(model) == round((1 - sparsity(model)) * total)


@given(first=st.floats(0.1, 0.5), second=st.floats(0.5, 0.9))
def test_what_is_masked_once_stays_masked_when_more_goes(first, second):
    model = gpt()
    prune(model, first)
    before = {name: p.mask.copy() for name, p in model.named_parameters() if p.mask is not None}
    prune(model, second)
    for name, p in model.named_parameters():
        if name in before:
            assert not (p.mask & ~before[name]).any()
    assert abs(sparsity(model) - second) < 1e-3


def test_the_smallest_weights_go():
    model = gpt()
    weight = model.blocks[0].feed_forward.into.weight
    largest_first = np.sort(np.abs(weight.data).reshape(-1))[::-1].copy()
    prune(model, 0.75)
    kept = np.abs(weight.data[weight.mask])
    assert_close(np.sort(kept)[::-1], largest_first[: len(kept)], 0)


def test_over_the_whole_model_layers_of_small_weights_lose_more():
    model = gpt()
    model.blocks[0].attention.out.weight.data *= 0.01
    prune(model, 0.5, whole=True)
    assert model.blocks[0].attention.out.weight.mask.mean() < 0.1
    assert model.blocks[0].attention.qkv.weight.mask.mean() > 0.5


def test_two_of_every_four_neighbours_stay():
    model = gpt()
    prune(model, what="2:4")
    for group in groups(model, "2:4"):
        weight = group.parts[0][0]
        assert (weight.mask.reshape(-1, 4).sum(axis=1) == 2).all()
    row = np.array([[0.1, -0.4, 0.3, 0.2]], np.float32)
    layer = Linear(4, 1)
    layer.weight.data[...] = row
    prune(layer, what="2:4")
    assert_close(layer.weight.data, [[0, -0.4, 0.3, 0]], 1e-7)


@pytest.mark.parametrize("what", STRUCTURED)
@pytest.mark.parametrize("by", ["magnitude", "gradient", "activation", "random"])
@pytest.mark.parametrize("bias", [True, False])
def test_the_shrunk_model_computes_what_the_masked_one_does(what, by, bias):
    model, ids = gpt(bias=bias), batch()["ids"]
    before = model(ids).data
    count = model.parameter_count()
    prune(model, 0.5, what=what, by=by, batches=[batch(1)])
    masked = model(ids).data
    assert np.abs(masked - before).max() > 1e-3
    shrink(model)
    assert_close(model(ids).data, masked, 1e-5)
    assert model.parameter_count() < count


def test_shrinking_halves_what_half_the_units_had():
    model = gpt()
    for what in STRUCTURED[:2]:
        prune(model, 0.5, what=what)
    shrink(model)
    block = model.blocks[0]
    assert block.attention.heads == 2
    assert block.attention.qkv.weight.shape == (24, 16) and block.attention.out.weight.shape == (16, 8)
    assert block.feed_forward.into.weight.shape == (32, 16) and block.feed_forward.out.weight.shape == (16, 32)
    assert all(p.mask is None for p in block.parameters())


def test_a_shrunk_model_still_decodes_step_by_step():
    model, ids = gpt(), batch()["ids"]
    prune(model, 0.4, what="heads", whole=True)  # layers now differ in their number of heads
    shrink(model)
    cache = model.new_cache(len(ids))
    model.step(ids[:, :5], cache)
    assert_close(model.step(ids[:, 5:], cache), model(ids).data[:, -1], 1e-4)


def test_single_weights_stay_masked_when_the_model_shrinks():
    model, ids = gpt(), batch()["ids"]
    prune(model, 0.3)
    prune(model, 0.5, what="neurons")
    masked = model(ids).data
    shrink(model)
    assert_close(model(ids).data, masked, 1e-5)
    out = model.blocks[1].feed_forward.out.weight
    assert out.shape == (16, 32) and (out.data == 0).mean() > 0.1 and ((out.data == 0) == ~out.mask).all()


def test_one_unit_of_each_layer_stays():
    model = gpt()
    for what in STRUCTURED[:2]:
        prune(model, 0.99, what=what, whole=True)
    shrink(model)
    assert [block.attention.heads for block in model.blocks] == [1, 1, 1]
    assert min(block.feed_forward.into.weight.shape[0] for block in model.blocks) == 1


@pytest.mark.parametrize("by", ["magnitude", "gradient", "activation", "random"])
def test_whole_layers_go_and_the_config_says_so(by):
    model = gpt()
    kept = list(model.blocks)
    prune(model, 0.34, what="layers", by=by, batches=[batch()])
    assert len(model.blocks) == model.config.layers == 2
    assert [b for b in kept if any(b is k for k in model.blocks)] == model.blocks  # in their order
    assert model(batch()["ids"]).shape == (3, 12, 23)


def test_the_layer_that_changes_nothing_goes_first_by_activation():
    model = gpt()
    for layer in (model.blocks[1].attention.out, model.blocks[1].feed_forward.out):
        for parameter in layer.parameters():
            parameter.data *= 1e-4
    before, second = model(batch()["ids"]).data, model.blocks[1]
    prune(model, 0.34, what="layers", by="activation", batches=[batch()])
    assert second not in model.blocks
    assert_close(model(batch()["ids"]).data, before, 1e-2)


def test_the_gradient_score_is_how_much_the_loss_changes_when_a_unit_goes():
    model = gpt()
    found = groups(model, "neurons")
    values = scores(model, found, "gradient", [batch()])
    loss = lambda: model.loss(batch()).item()
    base, changes = loss(), []
    for unit in range(20):
        out = model.blocks[0].feed_forward.out.weight
        column = out.data[:, unit].copy()
        eps = 1e-2  # a small step towards 0 instead of the whole way: the score is first order
        out.data[:, unit] *= 1 - eps
        changes.append((loss() - base) / eps)
        out.data[:, unit] = column
    # The score also counts the weights going in; near 0, gelu(x) ~ x / 2, both count about alike: so compare the ranks.
    assert np.corrcoef(np.abs(changes), values[0][:20])[0, 1] > 0.7


def test_the_activation_score_of_a_weight_is_its_size_times_its_inputs():
    layer = Linear(3, 2)

    class Model(type(layer).__mro__[1]):
        def __init__(self):
            self.layer = layer

        def loss(self, batch):
            return self.layer(tt.Tensor(batch["x"])).sum()

    x = np.array([[1, 2, 0], [1, -2, 0]], np.float32)
    model = Model()
    (value,) = scores(model, groups(model, "weights"), "activation", [{"x": x}])
    assert_close(value.reshape(2, 3), np.abs(layer.weight.data) * [1, 2, 0], 1e-6)


def test_rows_are_scored_by_how_often_they_are_read():
    model = gpt()
    ids = np.array([[3, 3, 5, 3, 7]])
    (value,) = scores(model, groups(model, "rows"), "activation", [{"ids": ids, "targets": ids}])
    assert np.flatnonzero(value).tolist() == [3, 5, 7] and value[3] == pytest.approx(np.sqrt(3))


def test_scores_may_come_from_outside_as_movement_does():
    model = gpt()
    by = {name: np.zeros(p.shape) for name, p in model.named_parameters()}
    by["blocks.0.feed_forward.into.weight"][10:] = 1
    by["blocks.0.feed_forward.out.weight"][:, 5] = 17
    prune(model, 10 / 64, what="neurons", by=by)
    gone = np.flatnonzero(~model.blocks[0].feed_forward.into.weight.mask.any(axis=1))
    assert len(gone) == 10 and set(range(10)) - {5} < set(gone) and 5 not in gone


@pytest.mark.parametrize("make", [AdamW, SGD, Adafactor])
def test_masked_weights_stay_zero_through_training_and_the_others_move(make):
    model = gpt()
    optimizer = make(model.parameters(), lr=0.01, weight_decay=0.1)
    prune(model, 0.6)
    before = {name: p.data.copy() for name, p in model.named_parameters()}
    for step in range(3):
        model.loss(batch(step)).backward()
        optimizer.step()
        optimizer.zero_grad()
    for name, p in model.named_parameters():
        if p.mask is not None:
            assert (p.data[~p.mask] == 0).all()
            assert (p.data[p.mask] != before[name][p.mask]).mean() > 0.95


@given(first=st.integers(0, 50), length=st.integers(1, 50), amount=st.floats(0.01, 0.99))
def test_the_cubic_schedule_rises_from_nothing_to_the_amount(first, length, amount):
    path = [cubic(step, first, first + length, amount) for step in range(first + length + 10)]
    assert path[first] == 0 and path[first + length] == amount == path[-1]
    assert all(a <= b for a, b in itertools.pairwise(path))
    assert cubic(first + length / 2, first, first + length, amount) == pytest.approx(amount * 7 / 8)


@given(amount=st.floats(0.01, 0.99), number=st.integers(1, 12))
def test_each_round_takes_the_same_part_of_what_is_left(amount, number):
    left = 1 - np.array([0, *rounds(amount, number)])
    assert left[-1] == pytest.approx(1 - amount)
    assert_close(left[1:] / left[:-1], np.full(number, (1 - amount) ** (1 / number)), 1e-9)


def test_a_part_that_is_shared_is_replaced_once_and_stays_shared():
    block = FeedForward(4, 8)

    class Twice(type(block).__mro__[1]):
        def __init__(self):
            self.blocks = [block, block]
            self.named = {"again": block}

    model, count = Twice(), []
    replace_modules(model, lambda m: count.append(m) or (FeedForward(4, 2) if m is block else m))
    assert model.blocks[0] is model.blocks[1] is model.named["again"] is not block
    assert sum(m is block for m in count) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(amount=1.0), "amount 1.0 is not a share"),
        (dict(amount=-0.1), "amount -0.1 is not a share"),
        (dict(what="ears"), "cannot prune 'ears'; choose from weights, 2:4"),
        (dict(by="hope"), "unknown score 'hope'; choose from magnitude"),
        (dict(by="gradient"), "scores by gradient need batches"),
        (dict(by="movement"), "movement is gathered while training"),
        (dict(what="2:4", amount=0.7), "amount must be 0.5, not 0.7"),
    ],
)
def test_prune_says_what_is_wrong_before_it_changes_anything(options, message):
    model = gpt()
    with pytest.raises(ValueError, match=message):
        prune(model, **options)
    assert all(p.mask is None for p in model.parameters())


def test_a_model_without_heads_says_so():
    with pytest.raises(ValueError, match="this Embedding has no heads to prune"):
        prune(Embedding(3, 4), what="heads")


def test_cross_attention_and_gated_networks_shrink_too():
    tt.manual_seed(0)
    attention = Attention(16, 4, memory_width=16)
    memory = tt.Tensor(np.random.default_rng(0).standard_normal((2, 5, 16)).astype(np.float32))
    x = tt.Tensor(np.random.default_rng(1).standard_normal((2, 3, 16)).astype(np.float32))
    holder = Attention(16, 4)
    holder.inner = attention
    prune(holder, 0.5, what="heads")
    masked = attention(x, memory=attention.keys_values(memory)).data
    shrink(holder)
    assert attention.heads == 2 and attention.kv.weight.shape == (16, 16)
    assert_close(attention(x, memory=attention.keys_values(memory)).data, masked, 1e-5)
