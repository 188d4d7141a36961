"""The shared core of BPE against its plainest definition: count again after every merge, scan after every join."""

from itertools import islice

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tokenizers.pairs import (
    ManyWords,
    learn_merges,
    learn_merges_by_score,
    merge_long,
    merge_word,
    plain_join,
    plain_merge,
    plain_train,
)

WORDS = st.dictionaries(st.text("abc", min_size=1, max_size=9), st.integers(1, 9), max_size=8)


def learnt(learn, words, *score, steps=30):
    ids = iter(range(3, 3 + steps + 1))
    spelt = [([ord(one) - 97 for one in word], count) for word, count in words.items()]
    return list(islice(learn(spelt, lambda *_: next(ids), *score), steps))


@settings(max_examples=150)
@given(WORDS)
def test_incremental_counts_choose_the_merges_that_counting_again_chooses(words):
    assert learnt(learn_merges, words) == learnt(plain_train, words)


@settings(max_examples=100)
@given(WORDS)
def test_the_published_score_chooses_what_computing_it_again_chooses(words):
    def score(pair, pairs, symbols):
        return pairs[pair] / (symbols[pair[0]] * symbols[pair[1]])
    assert learnt(learn_merges_by_score, words) == learnt(plain_train, words, score)


@settings(max_examples=200)
@given(st.lists(st.integers(0, 3), max_size=30), st.permutations(range(12)), st.data())
def test_both_ways_of_merging_a_word_equal_the_plain_one_even_for_merges_in_an_impossible_order(ids, order, data):
    symbols = list(range(4))
    pairs = []
    for new in range(4, 16):
        pairs.append((data.draw(st.sampled_from(symbols)), data.draw(st.sampled_from(symbols)), new))
        symbols.append(new)
    rank_of, joined = {}, [0] * 12
    for (a, b, new), rank in zip(pairs, order):
        if (a, b) not in rank_of:
            rank_of[a, b], joined[rank] = rank, new
    want = plain_merge(list(ids), rank_of, joined)
    assert merge_word(list(ids), rank_of, joined) == want
    assert merge_long(list(ids), rank_of, joined) == want


@settings(max_examples=100)
@given(st.lists(st.lists(st.integers(0, 3), max_size=14), max_size=40), st.permutations(range(12)), st.data())
def test_many_words_merge_together_as_each_does_alone(words, order, data):
    symbols, rank_of, joined = list(range(4)), {}, [0] * 12
    for new, rank in zip(range(4, 16), order):
        pair = data.draw(st.tuples(st.sampled_from(symbols), st.sampled_from(symbols)))
        symbols.append(new)
        if pair not in rank_of:
            rank_of[pair], joined[rank] = rank, new
    want = [plain_merge(list(word), rank_of, joined) for word in words]
    symbols = np.array([symbol for word in words for symbol in word], int)
    assert ManyWords(rank_of, joined).merge(symbols, [*map(len, words)]) == want


def test_runs_of_one_letter_merge_from_left_to_right():
    rank_of, joined = {(0, 0): 0, (1, 1): 1, (1, 0): 2}, [1, 2, 3]
    assert merge_word([0] * 7, rank_of, joined) == merge_long([0] * 7, rank_of, joined) == [2, 3]
    assert plain_merge([0] * 7, rank_of, joined) == [2, 3] and plain_join([0] * 3, (0, 0), 1) == [1, 0]


def test_the_plain_algorithm_learns_what_a_hand_would():
    """p+u stands there 17 times, then pu+n 12 times, then h+u and u+g 10 times each, of which the smaller pair wins."""
    words = {"hug": 10, "pug": 5, "pun": 12, "bun": 4}
    symbols = sorted(set("".join(words)))
    spelt = [([symbols.index(one) for one in word], count) for word, count in words.items()]

    def join(left, right):
        symbols.append(symbols[left] + symbols[right])
        return len(symbols) - 1

    assert len(list(islice(plain_train(spelt, join), 3))) == 3
    assert symbols[-3:] == ["pu", "pun", "hu"]


def test_pairs_below_the_minimum_frequency_are_not_merged():
    words = [([0, 1, 2], 2), ([1, 2], 1)]
    assert list(learn_merges(words, lambda a, b: 9, min_frequency=3)) == [(1, 2, 9)]
