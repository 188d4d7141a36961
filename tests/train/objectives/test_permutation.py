"""The permutation objective: spans as published, who may see whom, halves and directions, and whole texts in order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.tokenizers import WordPiece
from models.tokenizers.xlnet import train
from tinytensor import random
from train.data.corpus import encode
from train.data.told import StoriesSource
from train.objectives.permutation import InOrder, Lines, Permutation, PermutationConfig, visible
from train.objectives.windows import Causal

STORIES = StoriesSource(40_000)
TEXT = STORIES.texts[0]
TOKENIZER = train(TEXT, 300)
TOKENS = Lines(TOKENIZER).encode_array(TEXT)
SEP, CLS = TOKENIZER.id_of("<sep>"), TOKENIZER.id_of("<cls>")


def objective(context=64, batch=6, reuse=32, seed=0, **settings) -> Permutation:
    return Permutation(TOKENIZER, context, batch, reuse, PermutationConfig(**settings), seed)


def runs_of(mask: np.ndarray) -> list[tuple[int, int]]:
    """(begin, length) of every run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [(int(a), int(b - a)) for a, b in edges.reshape(-1, 2)]


def spans_of(begins_word: np.ndarray, goal: int, seed: int = 0, **settings) -> np.ndarray:
    with random.seeded(seed) as draw:
        return objective(**settings).draw_spans(begins_word, goal, draw)


# ---- spans


def test_spans_have_lengths_from_1_to_5_with_odds_of_1_over_n():
    *runs, _ = runs_of(spans_of(np.ones(80_000, bool), 9000))  # the last one is cut where the goal is reached
    found = np.bincount([length for _, length in runs], minlength=6)[1:] / len(runs)
    odds = 1 / np.arange(1, 6)
    assert len(runs) > 3500
    np.testing.assert_allclose(found, odds / odds.sum(), atol=0.025)  # three standard errors


@pytest.mark.parametrize("partial", [2, 6])
def test_a_span_of_n_has_k_times_n_tokens_around_it_where_every_token_begins_a_word(partial):
    chosen = spans_of(np.ones(80_000, bool), 9000, partial=partial)
    *runs, last = runs_of(chosen)
    assert 9000 / (last[0] + last[1]) == pytest.approx(1 / (partial + 1), rel=0.02)
    gaps = [start - (begin + length) for (begin, length), (start, _) in zip(runs, [*runs[1:], last])]
    assert min(gaps) >= 1 and max(gaps) < 2 * partial * 5


@given(st.integers(0, 2**32), st.floats(0.1, 1.0), st.integers(1, 10))
def test_spans_begin_with_a_word_and_are_as_many_tokens_long_as_drawn_whatever_words_they_cut(seed, share, goal):
    begins_word = np.random.default_rng(seed).random(400) < share
    chosen = spans_of(begins_word, goal, seed)
    assert chosen.sum() == goal
    if share > 0.5:  # words are short enough for all spans to find room
        assert all(begins_word[begin] for begin, _ in runs_of(chosen))


@given(st.integers(0, 2**32), st.integers(1, 40), st.data())
def test_the_goal_is_met_to_the_token_by_single_ones_where_spans_find_no_room(seed, length, data):
    goal = data.draw(st.integers(1, length))
    begins_word = np.random.default_rng(seed).random(length) < 0.2
    assert spans_of(begins_word, goal, seed).sum() == goal


# ---- who may see whom


@given(st.integers(0, 2**32), st.integers(1, 24), st.floats(0, 1), st.floats(0, 0.3))
def test_what_is_not_predicted_sees_its_like_and_the_rest_what_comes_before_it_in_the_order(seed, n, share, marks):
    draw = np.random.default_rng(seed)
    chosen, special, rank = draw.random(n) < share, draw.random(n) < marks, draw.permutation(n)
    (sees,) = visible(chosen[None], special[None], rank[None])
    plain = ~chosen & ~special
    for i in range(n):
        for j in range(n):
            earlier = rank[j] <= rank[i] if special[i] else rank[j] < rank[i]
            assert sees[i, j] == (plain[j] or (not plain[i] and earlier))


@given(st.integers(0, 2**32), st.sampled_from([1, 2, 6]), st.sampled_from([0, 1, 16]), st.booleans())
def test_no_prediction_can_know_its_token_or_one_that_comes_later_over_any_number_of_layers(seed, partial, chunk, ways):
    batch = objective(seed=seed, both_ways=ways, partial=partial, chunk=chunk).training_batch(TOKENS, seed % 97)
    for sees, places, targets in zip(batch["sees"], batch["places"], batch["targets"]):
        content = sees | np.eye(len(sees), dtype=bool)
        known = content
        for _ in range(6):  # 64 layers
            known = (known.astype(int) @ known.astype(int)) > 0
        asked = places[targets != -100]
        for i in asked:
            from_below = sees[i] @ known  # what the query at i has heard of, directly or through others
            assert not from_below[i]
            blind = {j for j in asked if not sees[i, j]}
            assert not any(from_below[j] for j in blind)


def test_the_second_half_sees_all_of_the_first_which_sees_nothing_of_it():
    batch = objective().training_batch(TOKENS, 3)
    assert batch["sees"][:, 32:, :32].all() and not batch["sees"][:, :32, 32:].any()


def test_chunks_follow_one_another_in_one_order_and_a_chunk_of_one_is_left_to_right():
    job = objective(partial=1, chunk=8)
    with random.seeded(1) as draw:
        *_, rank, _ = job.row(TOKENS, 0, False, draw)
    chunks = rank.reshape(2, 4, 8) - np.arange(0, 32, 8)[:, None]
    assert (chunks == chunks[:, :1]).all() and sorted(chunks[0, 0]) == list(range(8)) and list(chunks[0, 0]) != sorted(
        chunks[0, 0])  # fmt: skip
    batch = objective(partial=1, chunk=1).training_batch(TOKENS, 0)
    first = batch["sees"][0, :32, :32]
    np.testing.assert_array_equal(first, np.tri(32, k=-1, dtype=bool))


# ---- rows


def test_the_plain_half_goes_on_from_batch_to_batch_in_both_directions():
    job, N = objective(), len(TOKENS)
    places = (N - 64) // 32 + 1
    for number in (0, 1, 2, places - 1, places, 5 * places + 7):
        batch = job.training_batch(TOKENS, number)
        np.testing.assert_array_equal(batch["backwards"], [False] * 3 + [True] * 3)
        for row in range(6):
            start = (row % 3 * places // 3 + number) % places * 32
            text = TOKENS[::-1] if row >= 3 else TOKENS
            np.testing.assert_array_equal(batch["ids"][row, :32], text[start : start + 32])


def test_segments_are_a_and_its_mark_b_and_its_mark_and_the_last_token():
    batch = objective(batch=40).training_batch(TOKENS, 5)
    for ids, types in zip(batch["ids"], batch["token_types"]):
        (first, second), (last,) = np.flatnonzero(ids == SEP), np.flatnonzero(ids == CLS)
        assert (second, last) == (62, 63) and first >= 32
        np.testing.assert_array_equal(types, np.repeat([0, 1, 2], [first + 1, 62 - first, 1]))


def test_in_every_second_row_b_goes_on_where_a_has_ended():
    job, N, follows, could = objective(both_ways=False), len(TOKENS), 0, 0
    cuts = set(job.cuts(TOKENS).tolist())
    with random.seeded(0) as draw:
        for start in draw.integers(0, N - 64, 2000).tolist():
            a_end, b_start, b_end = job.split(job.cuts(TOKENS), N, start + 32, draw)
            assert a_end > start + 32 and b_end > b_start and a_end - start - 32 + b_end - b_start == 29
            could += any(cut in cuts for cut in range(start + 33, start + 32 + 29))
            follows += start + 32 < b_start < start + 61  # and what A has of it too is cut off
            assert b_start == 0 or b_start in cuts
    assert follows / could == pytest.approx(0.5, abs=0.05)


def test_sentences_begin_behind_full_stops_and_closing_quotes_and_after_lines():
    text = 'Mia ran. "Go!" Tom sat.\nHe hid.\n\nThen Mia'
    lines = Lines(TOKENIZER)
    tokens = lines.encode_array(text)
    begins = [TOKENIZER.decode([i for i in part if i not in (7, 8)]) for part in
              np.split(tokens, objective().cuts(tokens))]  # fmt: skip
    assert [part.strip() for part in begins] == ["Mia ran.", '"Go!"', "Tom sat.", "He hid.", "", "Then Mia"]


def test_targets_are_the_tokens_at_their_places_and_marks_are_never_predicted():
    job = objective(batch=200, partial=3)
    batch = job.training_batch(TOKENS, 0)
    ids, places, targets = batch["ids"], batch["places"], batch["targets"]
    asked = targets != -100
    own = np.take_along_axis(ids, places, axis=1)
    np.testing.assert_array_equal(targets[asked], own[asked])
    assert not np.isin(targets, [SEP, CLS]).any()
    assert places.shape == (200, 21) and (asked.sum(axis=1) >= 21 - 3).all() and 0 < (~asked).sum() < 200
    for row, some in zip(places, asked):
        assert (np.diff(row[some]) > 0).all() and not some[some.sum() :].any()
    assert (places[asked] < 32).sum() == 200 * 11


def test_spans_of_backward_rows_begin_with_words_of_the_text_as_it_is_read():
    job = objective(context=1024, reuse=512, partial=100)
    begins = []
    for number in range(40):
        with random.seeded(number) as draw:
            ids, _, chosen, _, _ = job.row(TOKENS, 0, True, draw)
        begins += [job.begins_word[ids[begin + n - 1]] for begin, n in runs_of(chosen[:512])]
    assert all(begins)


@pytest.mark.parametrize("settings", [{}, {"partial": 1}, {"partial": 2, "chunk": 16}, {"both_ways": False}])
def test_a_batch_has_one_shape_and_depends_on_the_seed_and_its_number_alone(settings):
    batches = [objective(**settings).training_batch(TOKENS, number) for number in range(8)]
    assert len({tuple((name, a.shape, a.dtype) for name, a in batch.items()) for batch in batches}) == 1
    job = objective(**settings)
    for number in (5, 2, 7):
        again, other = job.training_batch(TOKENS, number), objective(seed=1, **settings).training_batch(TOKENS, number)
        for name, array in again.items():
            np.testing.assert_array_equal(array, batches[number][name], err_msg=name)
        assert any((array != other[name]).any() for name, array in again.items())


def test_an_evaluated_row_is_the_same_whatever_batch_it_stands_in():
    by_four, by_one = objective(batch=4), objective(batch=2)
    rows = lambda job: [job.evaluation_batch(TOKENS, key) for key in job.evaluation_batches(TOKENS)]
    for name in rows(by_four)[0]:
        np.testing.assert_array_equal(*(np.concatenate([batch[name] for batch in rows(job)]) for job in
                                        (by_four, by_one)))  # fmt: skip
    backwards = np.concatenate([batch["backwards"] for batch in rows(by_four)])
    np.testing.assert_array_equal(backwards, np.arange(len(backwards)) % 2 == 1)


# ---- whole texts


def test_in_order_every_token_but_the_first_is_predicted_once_from_those_before_it_as_in_a_gpt():
    ours, causal = InOrder(16, 3), Causal(16, 3)
    told = []
    for key in ours.evaluation_batches(TOKENS):
        batch, plain = ours.evaluation_batch(TOKENS, key), causal.evaluation_batch(TOKENS, key)
        np.testing.assert_array_equal(batch["targets"], plain["targets"])
        np.testing.assert_array_equal(np.take_along_axis(batch["ids"], batch["places"], 1), batch["targets"])
        for sees in batch["sees"]:
            np.testing.assert_array_equal(sees, np.arange(17)[None, :] < np.arange(17)[:, None])
        told += batch["targets"].ravel().tolist()
    np.testing.assert_array_equal(told, TOKENS[1 : len(told) + 1])
    assert len(TOKENS) - len(told) <= 17


def test_a_text_can_be_read_from_its_ids_so_the_entropy_of_the_stories_is_that_of_the_tokens():
    lines = Lines(TOKENIZER)
    assert lines.gives_back(TEXT[:3000])
    ids = lines.encode_array("Mia ran.\n\nTom")
    assert ids.tolist() == [*TOKENIZER.encode("Mia ran."), 8, 7, *TOKENIZER.encode("Tom")]
    split = encode([TEXT], lines, lambda ids: None, STORIES.nats[0])
    assert split.floor == pytest.approx(STORIES.nats[0] / len(TOKENS))
    assert not lines.gives_back("two  blanks")


# ---- refusals


def test_what_cannot_be_done_is_said_before_any_work():
    with pytest.raises(ValueError, match="--batch 5 must be even"):
        objective(batch=5).check(TOKENS, "training")
    with pytest.raises(ValueError, match="a context of 64 has no room for 60 tokens"):
        objective(reuse=60)
    with pytest.raises(ValueError, match="--partial 65 predicts nothing"):
        objective(partial=65)
    with pytest.raises(ValueError, match="--chunk 5 does not divide a half of 32 tokens"):
        objective(chunk=5)
    with pytest.raises(ValueError, match="held-out part has 64 tokens, no more than one row of 64"):
        objective().check(TOKENS[:64], "held-out")
    with pytest.raises(ValueError, match="this WordPiece has no <sep>, <cls>, <eop>, <eod>; use --tokenizer unigram"):
        Lines(WordPiece.train(TEXT, 300))
