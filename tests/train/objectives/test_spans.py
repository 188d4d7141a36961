import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.objectives.sequences import SpanCorruption, noise_mask, noise_size, random_parts, raw_length, replace_spans

SENTINELS = tuple(range(32099, 31999, -1))  # T5's: <extra_id_0> is the last id
TEXT = np.arange(100, 3100)


def objective(context: int, **changes) -> SpanCorruption:
    return SpanCorruption(**(dict(context=context, batch=4, seed=0, sentinels=SENTINELS) | changes))


def restored(ids, targets, sentinels) -> list[int]:
    """The text: each sentinel of the input is replaced by what follows it in the target."""
    assert ids[-1] == targets[-1] == 1
    spans, text = {}, []
    for token in targets[:-1]:
        if token in sentinels:
            spans[token] = []
            current = spans[token]
        else:
            current.append(token)
    for token in ids[:-1]:
        text += spans.pop(token) if token in sentinels else [token]
    assert not spans
    return text


# context of the input: tokens of text, of them noise, spans, tokens of the target; from the published code
@pytest.mark.parametrize(
    "context, raw, noise, spans, target",
    [(128, 141, 21, 7, 29), (256, 284, 43, 14, 58), (512, 568, 85, 28, 114), (1024, 1137, 171, 57, 229)],
)
def test_sizes_are_the_published_ones(context, raw, noise, spans, target):
    assert raw_length(context, 0.15, 3.0) == raw
    assert noise_size(raw, 0.15, 3.0) == (noise, spans)
    batch = objective(context).training_batch(TEXT, 0)
    assert batch["ids"].shape == (4, context) and batch["targets"].shape == (4, target)


@given(context=st.integers(3, 300), density=st.floats(0.05, 0.9), mean_span=st.floats(1, 12), seed=st.integers(0, 99))
def test_input_and_target_together_restore_the_text(context, density, mean_span, seed):
    sentinels = tuple(range(10_000, 9_000, -1))
    corruption = objective(context, seed=seed, density=density, mean_span=mean_span, sentinels=sentinels)
    windows = np.random.default_rng(seed).integers(2, 100, (3, corruption.length))
    batch = corruption.make(windows, np.random.default_rng(seed))
    for ids, targets, window in zip(batch["ids"].tolist(), batch["targets"].tolist(), windows.tolist()):
        assert restored(ids, targets, set(sentinels)) == window


@given(context=st.integers(8, 600))
def test_inputs_fill_the_context_and_one_token_more_would_not_fit(context):
    raw = raw_length(context, 0.15, 3.0)
    fits = lambda n: n - noise_size(n, 0.15, 3.0)[0] + noise_size(n, 0.15, 3.0)[1] + 1
    assert fits(raw) == context < fits(raw + 1)


def test_sentinels_are_used_once_and_in_order():
    for ids, targets in zip(*objective(512).training_batch(TEXT, 1).values()):
        for row in (ids, targets):
            assert [t for t in row.tolist() if t >= 32000] == list(range(32099, 32099 - 28, -1))


def test_a_text_begins_with_what_is_kept_and_ends_with_noise():
    mask = noise_mask(np.random.default_rng(0), 500, 141, 0.15, 3.0)
    assert not mask[:, 0].any() and mask[:, -1].all()
    assert (mask.sum(axis=1) == 21).all()  # exactly 15%, in exactly 7 spans
    assert ((mask & ~np.roll(mask, 1, axis=1)).sum(axis=1) == 7).all()


def test_every_way_to_cut_is_equally_likely():
    draws = 12_000
    parts = random_parts(np.random.default_rng(0), draws, 6, 3)
    seen = Counter(map(tuple, parts.tolist()))
    assert len(seen) == math.comb(5, 2) and all(sum(p) == 6 and min(p) >= 1 for p in seen)
    expected = draws / 10
    assert all(abs(n - expected) < 5 * math.sqrt(expected) for n in seen.values())


def test_spans_are_as_long_as_the_published_procedure_makes_them():
    # In a random composition of n into k parts, one part is l long in C(n - l - 1, k - 2) of the C(n - 1, k - 1) ways.
    rows, n, k = 3000, 21, 7
    mask = noise_mask(np.random.default_rng(1), rows, 141, 0.15, 3.0)
    flat = np.pad(mask, ((0, 0), (1, 1))).astype(int)
    edges = np.diff(flat, axis=1)
    lengths = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    assert lengths.mean() == 3.0
    for length in range(1, 9):
        p = math.comb(n - length - 1, k - 2) / math.comb(n - 1, k - 1)
        share = (lengths == length).mean()
        assert abs(share - p) < 5 * math.sqrt(p / (rows * k)), length


def test_a_span_is_replaced_by_its_own_sentinel():
    tokens = np.array([[5, 6, 7, 8, 9]])
    mask = np.array([[False, True, True, False, True]])
    assert replace_spans(tokens, mask, np.array([99, 98])).tolist() == [[5, 99, 8, 98]]
    assert replace_spans(tokens, ~mask, np.array([99, 98])).tolist() == [[99, 6, 7, 98, 9]]


def test_too_few_sentinels_and_bad_settings_are_named():
    with pytest.raises(ValueError, match="a context of 2048 has 114 spans, but the tokenizer only 100 sentinels"):
        objective(2048)
    with pytest.raises(ValueError, match=r"density must be a share in \(0, 1\), not 1.0"):
        objective(64, density=1.0)
    with pytest.raises(ValueError, match=r"mean_span must be at least 1 token, not 0.5"):
        objective(64, mean_span=0.5)
    with pytest.raises(ValueError, match="context 2 is too short for span corruption, whose inputs have at least 3"):
        objective(2)
