import numpy as np
import pytest

import tinytensor as tt
from models import GPTConfig
from models.score import score
from tests.models.test_gpt import SMALL, randomized


def one_by_one(model, ids, context: int) -> tuple[list, list]:
    """(log p, rank) of each token by a full pass of its own, the window moving on by half a context."""
    log_probs, ranks, start = [], [], 0
    for place in range(1, len(ids)):
        if place - start > context:
            start = place - context // 2
        with tt.no_grad():
            logits = model(np.array([ids[start:place]])).data[0, -1].astype(np.float64)
        log_probs.append(logits[ids[place]] - np.log(np.exp(logits).sum()))
        ranks.append(1 + int((logits > logits[ids[place]]).sum()))
    return log_probs, ranks


@pytest.mark.parametrize("length", [2, 5, 8, 9, 10, 13, 40])
def test_every_token_is_scored_once_given_those_before_it(length):
    model = randomized(GPTConfig(**SMALL))
    ids = np.random.default_rng(length).integers(0, 11, length)
    scores = score(model, ids)
    log_probs, ranks = one_by_one(model.eval(), ids.tolist(), 8)
    np.testing.assert_allclose(scores.log_probs, log_probs, atol=1e-5)
    assert scores.ranks.tolist() == ranks


def test_longer_texts_than_a_block_of_rows_are_scored_alike():
    model = randomized(GPTConfig(**SMALL | dict(context=200)))
    ids = np.random.default_rng(0).integers(0, 11, 330)
    log_probs, ranks = one_by_one(model.eval(), ids.tolist(), 200)
    scores = score(model, ids)
    np.testing.assert_allclose(scores.log_probs, log_probs, atol=1e-5)
    assert scores.ranks.tolist() == ranks


def test_the_mean_is_the_models_loss():
    model = randomized(GPTConfig(**SMALL)).eval()
    ids = np.random.default_rng(0).integers(0, 11, 9)
    loss = model.loss({"ids": ids[None, :-1], "targets": ids[None, 1:]}).item()
    assert -score(model, ids).log_probs.mean() == pytest.approx(loss, abs=1e-5)


@pytest.mark.parametrize("ids", [[3], [], [[1, 2]]])
def test_a_text_needs_two_tokens(ids):
    with pytest.raises(ValueError, match="at least two tokens"):
        score(randomized(GPTConfig(**SMALL)), ids)
