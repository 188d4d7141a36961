import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import GPT, GPTConfig
from tinytensor import random
from train.objectives.windows import Causal
from train.trainer import evaluate


@given(st.integers(1, 12), st.data())
def test_every_token_that_windows_reach_is_a_target_once_however_they_overlap(context, data):
    apart = data.draw(st.integers(0, context))
    tokens = np.arange(data.draw(st.integers(context + 1, 60)))
    objective = Causal(context, batch=3, apart=apart)
    targets, least = [], []
    for starts in objective.evaluation_batches(tokens):
        batch = objective.evaluation_batch(tokens, starts)
        rows, places = np.nonzero(batch["targets"] != -100)
        targets += batch["targets"][rows, places].tolist()
        least += [place for row, place in zip(rows, places) if starts[row]]
        assert (batch["ids"][rows, places] + 1 == batch["targets"][rows, places]).all()
    assert sorted(targets) == list(range(1, len(targets) + 1))
    assert len(tokens) - len(targets) <= (apart or context)  # what is left does not fill a window
    assert min(least, default=context) >= context - (apart or context)


def test_overlapping_windows_give_the_loss_of_reading_on_with_more_context():
    with random.seeded(0):
        model = GPT(GPTConfig(vocab_size=11, context=8, layers=1, heads=2, width=8, init_std=0.5))
    tokens = np.random.default_rng(1).integers(0, 11, 21)
    objective = Causal(8, 2, apart=1)
    nats, count = evaluate(model, objective, tokens, objective.evaluation_batches(tokens))
    scores = [model(tokens[None, max(0, i - 8) : i]).data[0, -1] for i in range(1, 21)]
    expected = sum(np.log(np.exp(s).sum()) - s[target] for s, target in zip(scores, tokens[1:]))
    assert count == 20 and nats == pytest.approx(expected, rel=1e-5)
