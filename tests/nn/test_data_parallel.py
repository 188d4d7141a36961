"""DataParallel: the numbers of the model alone, from threads that each have a share of the batch."""

import numpy as np
import pytest

import tinytensor as tt
from models import GPT, T5, BERTConfig, BERTForPreTraining, GPTConfig, T5Config
from nn import DataParallel
from tinytensor.rows import Rows
from train.optim import AdamW, clip_grad_norm

SHAPE = dict(vocab_size=13, context=8, layers=2, heads=2, width=12)


def gpt(**options):
    with tt.random.seeded(3):
        return GPT(GPTConfig(**(SHAPE | options)))


def text(rows=5, T=8, vocabulary=13):
    draw = np.random.default_rng(rows)
    return {"ids": draw.integers(0, vocabulary, (rows, T)), "targets": draw.integers(0, vocabulary, (rows, T))}


def numbers(model, how, batch):
    """(loss, gradients, the next random number) of one step from a fixed stream."""
    model.zero_grad()
    with tt.random.seeded(7):
        loss = how.loss(batch)
        loss.backward()
        return loss.item(), [p.grad for p in model.parameters() if p.requires_grad], tt.random.generator().random()


def assert_alike(model, batch, workers):
    alone, cut = (numbers(model, how, batch) for how in (model, DataParallel(model, workers)))
    assert cut[0] == pytest.approx(alone[0], rel=1e-5)
    for one, other in zip(alone[1], cut[1]):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=2e-6)  # float32 sums in another order
    assert cut[2] == alone[2]


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_loss_gradients_and_dropout_are_those_of_the_model_alone(workers, dropout):
    assert_alike(gpt(dropout=dropout).train(), text(), workers)


@pytest.mark.parametrize("T, heads", [(70, 2), (200, 4)])
def test_dropout_is_the_same_where_attention_has_several_strips_and_groups_of_heads(T, heads):
    model = gpt(context=T, heads=heads, layers=1, width=8, dropout=0.2)
    assert_alike(model.train(), text(rows=7, T=T), 2)


def test_the_losses_of_padded_texts_are_divided_by_all_that_is_predicted():
    with tt.random.seeded(1):
        bert = BERTForPreTraining(BERTConfig(vocab_size=20, context=8, layers=1, heads=2, width=8, dropout=0.1))
    draw, shape = np.random.default_rng(0), (5, 8)
    mask = np.arange(8) < draw.integers(3, 9, 5)[:, None]
    targets = np.where(mask & (draw.random(shape) < 0.3), 4, -100)
    targets[0, 0] = 5
    batch = {"ids": draw.integers(0, 20, shape), "token_types": np.zeros(shape, int), "mask": mask, "targets": targets}
    assert_alike(bert.train(), batch | {"next": draw.integers(0, 2, 5)}, 2)


def test_it_takes_models_of_two_stacks():
    with tt.random.seeded(1):
        t5 = T5(T5Config(vocab_size=20, layers=1, heads=2, width=8, head_width=4, hidden=16, dropout=0.1))
    draw = np.random.default_rng(0)
    assert_alike(t5.train(), {"ids": draw.integers(3, 20, (4, 6)), "targets": draw.integers(3, 20, (4, 5))}, 2)


def test_steps_of_an_optimizer_end_at_the_same_weights():
    ends = []
    for workers in (1, 2):
        model = gpt(dropout=0.2).train()
        optimizer, cores = AdamW(model.parameters(), lr=1e-3), DataParallel(model, workers)
        with tt.random.seeded(5):
            for step in range(5):
                cores.loss(text(rows=3 + step)).backward()
                clip_grad_norm(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        ends.append([p.data.copy() for p in model.parameters()])
    for one, other in zip(*ends):
        np.testing.assert_allclose(other, one, atol=2e-5)  # AdamW makes steps of 1e-3 of differences in the last bits


def test_two_batches_add_up_and_a_graph_may_be_walked_twice():
    model, batch = gpt(), text()
    AdamW(model.parameters())  # gives each gradient a place of its own
    once = [gradient.copy() for gradient in numbers(model, model, batch)[1]]
    model.zero_grad()
    losses = [DataParallel(model, 2).loss(batch) for _ in range(2)]
    for loss, retain in zip([*losses, losses[1]], (False, True, False)):
        loss.backward(retain_graph=retain)
    for one, three in zip(once, (p.grad for p in model.parameters())):
        np.testing.assert_allclose(three, 3 * one, rtol=1e-4, atol=1e-5)


def test_grad_leaves_the_models_own_gradients_alone():
    model, batch = gpt(), text()
    _, want, _ = numbers(model, model, batch)
    model.zero_grad()
    for one, other in zip(want, tt.grad(DataParallel(model, 2).loss(batch), model.parameters())):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=2e-6)
    assert all(p.grad is None for p in model.parameters())


def test_what_the_loop_does_to_its_model_is_seen():
    model, batch = gpt(dropout=0.5), text()
    cores = DataParallel(model, 2)
    model.token_embedding.weight.requires_grad = False
    assert_alike(model.eval(), batch, 2)
    cores.loss(batch).backward()
    assert model.token_embedding.weight.grad is None
    model.position_embedding.weight.data = np.zeros_like(model.position_embedding.weight.data)
    assert cores.loss(batch).item() == pytest.approx(model.loss(batch).item(), rel=1e-5)
    with tt.no_grad():
        assert not cores.loss(batch).requires_grad


def test_an_error_in_any_share_is_raised():
    model, batch = gpt(), text()
    batch["ids"][-1, 0] = 99
    with pytest.raises(ValueError, match="99"):
        DataParallel(model, 2).loss(batch)
    with pytest.raises(ValueError, match="a number of threads, not -1"):
        DataParallel(model, -1)


@pytest.mark.parametrize("size", [12, 24, 60])
def test_rows_have_their_part_of_what_all_draw(size):
    stream = lambda: np.random.Generator(np.random.SFC64(4))
    whole = stream().integers(0, 1000, size)
    parts = [Rows(stream(), start, stop, 12).integers(0, 1000, size * (stop - start) // 12)
             for start, stop in ((0, 5), (5, 6), (6, 12))]  # fmt: skip
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    table = stream().random((size, 3))
    halves = [Rows(stream(), start, start + 6, 12).random((size // 2, 3)) for start in (0, 6)]
    np.testing.assert_array_equal(np.concatenate(halves), table)
    assert Rows(stream(), 6, 12, 12).random(2).tolist() == stream().random(2).tolist()
