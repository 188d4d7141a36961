"""What ERNIE-GEN's objective makes of a text: fragments, noise, phrases."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.data.phrases import Phrases, words_of
from train.objectives.infilling import Infilling, InfillingConfig, fragments, misread

START, END = 2, 3
CONTINUES = np.arange(100) >= 80  # tokens that go on with a word


def text(size: int = 4000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(6, 100, size).astype(np.uint16)


def made(tokens: np.ndarray, number: int = 0, context: int = 64, batch: int = 5, **options) -> dict:
    config = InfillingConfig(**options)
    return Infilling(context, batch, 7, (START, END), CONTINUES, config).training_batch(tokens, number)


def runs(row: np.ndarray) -> list[int]:
    """The lengths of the stretches of equal numbers above 0."""
    cuts = np.flatnonzero(np.diff(row, prepend=-1, append=-1))
    return [b - a for a, b in pairwise(cuts) if row[a] > 0]


# ---- fragments


@settings(max_examples=50)
@given(n=st.integers(8, 80), share=st.floats(0.05, 0.5), seed=st.integers(0, 1000))
def test_just_so_many_tokens_go_and_no_two_fragments_touch(n, share, seed):
    taken = max(1, round(share * n))
    found = fragments(np.random.default_rng(seed), 20, n, taken)
    assert ((found > 0).sum(axis=1) == taken).all()
    for row in found:
        numbers = row[row > 0]
        assert (np.diff(numbers) >= 0).all() and numbers.max() == len(runs(row))
        beside = (row[1:] != row[:-1]) & (row[1:] > 0) & (row[:-1] > 0)
        assert not beside.any()


def test_two_texts_of_five_have_short_fragments_and_all_lengths_are_as_likely():
    found = fragments(np.random.default_rng(0), 4000, 800, 200)
    longest = np.array([max(runs(row)) for row in found])
    short = longest <= 4
    assert abs(short.mean() - 0.4) < 0.03  # 4 standard errors are 0.031
    lengths = np.concatenate([runs(row) for row in found[short]])
    for length in range(1, 5):
        assert abs((lengths == length).mean() - 0.25) < 0.01
    lengths = np.concatenate([runs(row) for row in found[~short]])
    assert longest.max() == 32 and abs(np.mean(lengths) - 17) < 0.5  # of 4 .. 32 the mean is 18; the last is cut
    for length in (5, 18, 31):
        assert abs((lengths == length).mean() - 1 / 29) < 0.006


def test_fragments_come_from_everywhere_and_from_both_ends_alike():
    """Less from the very ends: a long fragment can reach those places from one side only."""
    gone = (fragments(np.random.default_rng(1), 20_000, 40, 10) > 0).mean(axis=0)
    assert gone.mean() == 0.25 and abs(gone[8:-8] - 0.25).max() < 0.06 and gone.min() > 0.05
    assert abs(gone - gone[::-1]).max() < 0.02


# ---- batches


def test_a_batch_is_the_text_in_two_parts_and_fills_the_context():
    tokens = np.arange(6, 66).astype(np.uint16)  # each once, so that its place can be told
    batch = made(tokens, context=64, batch=4, noise=0.0)
    assert batch["ids"].shape == (4, 47) and batch["targets"].shape == (4, 16)  # 60 = 45 kept + 15; 47 + 16 + 1 = 64
    assert (batch["ids"][:, 0] == START).all() and (batch["ids"][:, -1] == END).all()
    assert (batch["targets"][:, -1] == END).all()
    for kept, taken in zip(batch["ids"][:, 1:-1], batch["targets"][:, :-1]):
        assert (np.diff(kept) > 0).all() and (np.diff(taken) > 0).all()
        assert sorted([*kept, *taken]) == tokens.tolist()
    np.testing.assert_array_equal(batch["read"][:, 1:], batch["targets"][:, :-1])
    assert (batch["read"][:, 0] == START).all()


def test_a_batch_depends_on_its_number_and_the_seed_alone_and_all_have_one_shape():
    tokens = text()
    first, again, other = made(tokens, 3), made(tokens, 3), made(tokens, 4)
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
        assert other[name].shape == array.shape
    assert not np.array_equal(first["targets"], other["targets"])


def test_what_is_evaluated_has_no_noise_and_no_spans():
    objective = Infilling(64, 5, 7, (START, END), CONTINUES, InfillingConfig(noise=0.9))
    batch = objective.evaluation_batch(text(), objective.evaluation_batches(text())[0])
    assert batch.keys() == {"ids", "targets"}


@pytest.mark.parametrize("noise", [0.05, 0.5, 0.7])
def test_noise_replaces_so_many_by_any_token_but_never_the_first_nor_a_target(noise):
    read = np.full((400, 51), 500)
    wrong = misread(read, noise, 100, np.random.default_rng(0))
    assert (wrong[:, 0] == 500).all() and (read == 500).all()
    found = wrong[:, 1:][wrong[:, 1:] != 500]
    error = np.sqrt(noise * (1 - noise) / 20_000)
    assert abs(len(found) / 20_000 - noise) < 4 * error
    assert np.unique(found).tolist() == list(range(100))
    assert abs(found.mean() - 49.5) < 4 * 28.9 / np.sqrt(len(found))
    clean, noisy = (made(text(), noise=share) for share in (0.0, 0.5))
    np.testing.assert_array_equal(clean["targets"], noisy["targets"])
    assert not np.array_equal(clean["read"], noisy["read"])


def test_too_much_to_take_out_is_named():
    with pytest.raises(ValueError, match="48 of 60 tokens would be taken out; a --context of 16 or more and a --share"):
        made(text(), share=0.8)
    with pytest.raises(ValueError, match="0 of 2 tokens would be taken out"):
        made(text(), context=6)


# ---- phrases


def test_words_are_known_by_all_their_tokens_in_order():
    tokens = np.array([10, 80, 81, 10, 81, 80, 10, 80, 81, 11])
    words, first = words_of(tokens, CONTINUES)
    assert first.tolist() == [0, 3, 6, 9]
    assert words[0] == words[2] and len(set(words.tolist())) == 3


def plain_t(words: list, n: int) -> dict:
    """The definition: t of every n words in a row."""
    share = {word: words.count(word) / len(words) for word in set(words)}
    places = [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
    found = {}
    for phrase in set(places):
        p, chance = places.count(phrase) / len(places), np.prod([share[word] for word in phrase])
        found[phrase] = (p - chance) / np.sqrt(p / len(places))
    return found


@pytest.mark.parametrize("n", [2, 3])
def test_phrases_are_those_of_the_highest_t(n):
    draw = np.random.default_rng(3)
    words = draw.choice([10, 11, 12, 13, 14], 300, p=[0.4, 0.3, 0.1, 0.1, 0.1]).tolist()
    for place in range(0, 290, 9):
        words[place : place + 3] = [12, 13, 14]
    t = plain_t(words, n)
    order = sorted(t, key=lambda phrase: -t[phrase])
    most = 3
    assert t[order[most - 1]] > t[order[most]]  # no tie decides
    made = Phrases.of(np.array(words), CONTINUES, most * (n == 2), most * (n == 3))
    kept = {2: made.pairs, 3: made.triples}[n]
    for number, phrase in enumerate(order):
        together = made.starts(np.array(phrase), np.zeros(n, bool)).max() == 0
        assert together == (number < most)
    assert len(kept) == most


def test_a_span_is_a_phrase_a_word_with_all_its_tokens_or_the_end():
    """In this text 20 and 21 with its second half 90 always stand together; all else is chance."""
    tokens = text(3000)
    tokens = np.where(CONTINUES[tokens], 30, tokens)
    for place in range(0, 2990, 10):
        tokens[place : place + 3] = [20, 21, 90]
    batch, together = made(tokens, batch=40, noise=0.0, pairs=1, triples=0), 0
    for targets, spans in zip(batch["targets"], batch["spans"]):
        assert (spans <= np.arange(len(spans))).all() and (spans[spans] == spans).all()
        assert spans[-1] == len(spans) - 1  # the end is a span of its own
        for place, token in enumerate(targets[:-1]):
            if token == 20 and targets[place + 1] == 21:
                assert spans[place + 1] in (place, place + 1)  # apart where two fragments meet
                together += spans[place + 1] == place
            elif token == 90 and targets[place - 1] == 21 and spans[place] != place:
                assert spans[place] in (place - 1, place - 2)
            elif token not in (20, 21, 90):
                assert spans[place] == place
    assert together > 20
