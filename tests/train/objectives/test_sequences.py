import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.objectives.sequences import Deshuffling, NextSequence, PrefixLM, SpanCorruption
from train.objectives.windows import Causal

KINDS = [Causal, NextSequence, PrefixLM, Deshuffling, SpanCorruption]
TEXT = np.arange(2, 1002)


def make(kind, context: int = 12, batch: int = 3, seed: int = 0):
    extra = dict(sentinels=tuple(range(5000, 4900, -1))) if kind is SpanCorruption else {}
    return kind(context, batch, seed, **extra)


windows = st.tuples(st.integers(2, 40), st.integers(1, 5), st.integers(0, 999))


@given(windows)
def test_the_two_sequences_follow_one_another(case):
    context, rows, seed = case
    objective = make(NextSequence, context)
    text = np.random.default_rng(seed).integers(0, 50, (rows, objective.length))
    batch = objective.make(text, np.random.default_rng(seed))
    assert batch["ids"].shape == batch["targets"].shape == (rows, context)
    np.testing.assert_array_equal(np.hstack([batch["ids"], batch["targets"]]), text)


@given(windows)
def test_prefix_and_target_together_are_the_text(case):
    context, rows, seed = case
    text = np.random.default_rng(seed).integers(2, 50, (rows, context))
    batch = make(PrefixLM, context).make(text, np.random.default_rng(seed))
    assert set(batch["ids"][~batch["mask"]].tolist()) <= {0}
    for ids, mask, targets, window in zip(batch["ids"], batch["mask"], batch["targets"], text):
        prefix, rest = ids[mask].tolist(), targets[targets != -100].tolist()
        assert prefix.pop() == rest.pop() == 1
        assert prefix + rest == window.tolist() and prefix and rest
        assert (targets[len(rest) + 1 :] == -100).all()


def test_every_cut_is_equally_likely():
    rows = 6000
    text = np.tile(np.arange(2, 9), (rows, 1))
    mask = make(PrefixLM, 7).make(text, np.random.default_rng(0))["mask"]
    lengths = Counter((mask.sum(axis=1) - 1).tolist())
    assert lengths.keys() == set(range(1, 7))
    assert all(abs(n - 1000) < 5 * math.sqrt(1000) for n in lengths.values())


@given(windows)
def test_a_shuffled_text_has_the_same_tokens(case):
    context, rows, seed = case
    text = np.random.default_rng(seed).integers(2, 50, (rows, context - 1))
    batch = make(Deshuffling, context).make(text, np.random.default_rng(seed))
    np.testing.assert_array_equal(batch["targets"][:, :-1], text)
    np.testing.assert_array_equal(np.sort(batch["ids"][:, :-1], axis=1), np.sort(text, axis=1))
    assert (batch["ids"][:, -1] == 1).all() and (batch["targets"][:, -1] == 1).all()


def test_every_order_is_equally_likely():
    rows = 6000
    text = np.tile([2, 3, 4], (rows, 1))
    orders = Counter(map(tuple, make(Deshuffling, 4).make(text, np.random.default_rng(0))["ids"][:, :3].tolist()))
    assert len(orders) == 6 and all(abs(n - 1000) < 5 * math.sqrt(1000) for n in orders.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_a_function_of_seed_and_number(kind):
    same = lambda a, b: all((a[name].shape == b[name].shape and (a[name] == b[name]).all()) for name in a)
    objective = make(kind)
    first = objective.training_batch(TEXT, 5)
    objective.training_batch(TEXT, 6)
    assert same(first, make(kind).training_batch(TEXT, 5))
    assert not same(first, objective.training_batch(TEXT, 6))
    assert not same(first, make(kind, seed=1).training_batch(TEXT, 5))
    key = objective.evaluation_batches(TEXT)[2]
    assert same(objective.evaluation_batch(TEXT, key), make(kind).evaluation_batch(TEXT, key))


@pytest.mark.parametrize("kind", [NextSequence, PrefixLM, Deshuffling, SpanCorruption])
def test_one_evaluation_passes_over_the_text_once(kind):
    objective = make(kind)
    keys = objective.evaluation_batches(TEXT)
    seen = np.concatenate(keys)
    assert (np.diff(seen) == objective.length).all() and seen[0] == 0
    assert len(TEXT) - objective.length < seen[-1] + objective.length <= len(TEXT)
    few = objective.evaluation_batches(TEXT, limit=3)
    assert len(few) == 3 and few[0][0] == 0 and few[-1][-1] == seen[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_too_short_a_text_is_named(kind):
    objective = make(kind)
    objective.check(TEXT[: objective.length], "training")
    assert len(objective.evaluation_batches(TEXT[: objective.length])) == 1
    objective.training_batch(TEXT[: objective.length], 0)
    with pytest.raises(ValueError, match=f"the held-out part has {objective.length - 1} tokens, fewer than the "):
        objective.check(TEXT[: objective.length - 1], "held-out")


@pytest.mark.parametrize("kind", [PrefixLM, Deshuffling])
def test_contexts_without_room_are_named(kind):
    with pytest.raises(ValueError, match=r"context 1 .* must be at least 2"):
        make(kind, context=1).check(TEXT, "training")
