import numpy as np
import pytest

import tinytensor as tt
from models import GPT, GPTConfig
from models.gpt_body import MARKS, GPTBody
from tests.helpers import assert_close
from tests.models.test_gpt import SMALL, randomized
from train.tasks.choose import Chooser
from train.tasks.classify import Classifier
from train.tasks.regress import Regressor

LENGTHS = np.array([7, 3, 5])


def body(weight: float = 0.5, **changes) -> GPTBody:
    with tt.random.seeded(4):
        return GPTBody(randomized(GPTConfig(**SMALL, **changes)), weight)


def texts(*shape: int) -> dict:
    """Right-padded ids (..., 7), each row ending in the classify mark."""
    ids = np.random.default_rng(0).integers(0, 11, (*shape, 7))
    lengths = LENGTHS.reshape(3, *[1] * (len(shape) - 1))
    mask = np.broadcast_to(np.arange(7) < lengths[..., None], ids.shape)
    ids = np.where(np.arange(7) == lengths[..., None] - 1, 13, np.where(mask, ids, 0))
    return {"ids": ids, "mask": mask}


def log_p(gpt, ids) -> np.ndarray:
    """log p of each token after the first, alone, in float64."""
    logits = gpt(ids[None, :-1]).data[0].astype(np.float64)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    return logits[np.arange(len(ids) - 1), ids[1:]]


@pytest.mark.parametrize("changes", [dict(), dict(tied=False), dict(post_norm=True)])
def test_three_marks_follow_the_vocabulary_and_nothing_else_changes(changes):
    plain, grown = randomized(GPTConfig(**SMALL, **changes)), body(**changes)
    assert grown.config == plain.config and grown.gpt.config.vocab_size == 14 == 11 + len(MARKS)
    rows = 3 * 8 * (2 if changes.get("tied") is False else 1)
    assert grown.parameter_count() == plain.parameter_count() + rows
    ids = np.arange(8)[None]
    assert_close(grown.gpt(ids).data[..., :11], plain(ids).data, 1e-6)


def test_a_summary_is_the_vector_at_the_last_token_whatever_stands_behind_it():
    one, batch = body().eval(), texts(3)
    summary = one.summary(batch).data
    for row, length in enumerate(LENGTHS):
        assert_close(summary[row], one.gpt.hidden(batch["ids"][row : row + 1, :length]).data[0, -1], 1e-6)
    other = batch | {"ids": np.where(batch["mask"], batch["ids"], 5)}
    np.testing.assert_array_equal(one.summary(other).data, summary)


def test_the_language_loss_is_half_the_mean_over_each_texts_tokens():
    one, batch = body(), texts(3)
    one.features(batch)
    expected = [-0.5 * log_p(one.gpt, batch["ids"][row, :n]).mean() for row, n in enumerate(LENGTHS)]
    assert_close(one.own_loss().data, expected, 1e-5)


def test_a_classifiers_loss_is_the_tasks_and_half_the_language_models():
    batch = texts(3) | {"label": np.array([1, 0, 2])}
    head = Classifier(body(), 3).eval()
    alone = Classifier(body(0.0), 3).eval()
    alone.out = head.out
    own = [-0.5 * log_p(head.body.gpt, batch["ids"][row, :n]).mean() for row, n in enumerate(LENGTHS)]
    assert head.counts(batch) == alone.counts(batch) == {"label": 3, "examples": 3}
    assert_close(head.loss(batch).item(), alone.loss(batch).item() + np.mean(own), 1e-5)


def test_a_classifiers_loss_has_the_balance_of_its_experts_in_training():
    with tt.random.seeded(1):
        gpt = GPT(GPTConfig(vocab_size=20, context=12, layers=2, heads=2, width=8, experts=3, balance=0.5, jitter=0.0,
                            capacity=12))  # fmt: skip
    head, batch = Classifier(GPTBody(gpt), 3, dropout=0.0), texts(3) | {"label": np.array([1, 0, 2])}
    loads = []
    gpt.hidden(batch["ids"], loads=loads)
    penalty = gpt.config.penalty(loads, counts={"rows": 3}).item()
    trained = head.loss(batch).item()
    assert_close(trained, head.eval().loss(batch).item() + penalty, 1e-5)
    assert penalty > 0.4 and head.body.penalty() is None
    counts, parts = head.train().counts(batch), (slice(0, 1), slice(1, 3))
    shards = [head.loss({name: array[rows] for name, array in batch.items()}, counts).item() for rows in parts]
    assert_close(sum(shards), trained, 1e-5)


def test_pairs_in_both_orders_add_up_their_summaries():
    batch = texts(3, 2) | {"score": np.float32([1, 2, 3])}
    head = Regressor(body()).eval()
    parts = [head.body.summary({name: batch[name][:, n] for name in ("ids", "mask")}) for n in (0, 1)]
    assert_close(head(batch).data, head.out(parts[0] + parts[1]).data[:, 0], 1e-5)
    swapped = batch | {name: batch[name][:, ::-1] for name in ("ids", "mask")}
    assert_close(head(swapped).data, head(batch).data, 1e-5)


@pytest.mark.parametrize(
    "make, batch",
    [(lambda: Classifier(body(), 3), texts(3) | {"label": np.array([1, 0, 2])}),
     (lambda: Classifier(body(), 3), texts(3, 2) | {"label": np.array([1, 0, 2])}),
     (lambda: Regressor(body()), texts(3) | {"score": np.float32([0, 1, 2])}),
     (lambda: Chooser(body()), texts(3, 4) | {"choice": np.array([3, 0, 1])})],
)  # fmt: skip
def test_the_losses_and_gradients_of_shards_add_up_to_those_of_the_batch(make, batch):
    head = make().eval()
    whole = head.loss(batch)
    whole.backward()
    expected = [p.grad.copy() for p in head.parameters()]
    head.zero_grad()
    total, counts = 0.0, head.counts(batch)
    for rows in (slice(0, 1), slice(1, 3)):
        loss = head.loss({name: array[rows] for name, array in batch.items()}, counts)
        loss.backward()
        total += loss.item()
    assert_close(total, whole.item(), 1e-5)
    for parameter, gradient in zip(head.parameters(), expected):
        assert_close(parameter.grad, gradient, 1e-4)
