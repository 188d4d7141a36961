"""The shared core of BPE against its plainest definition: count again after every merge, scan after every join."""

from collections import Counter
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from models.tokenizers.pairs import learn_merges, learn_merges_by_score, merge_long, merge_word

WORDS = st.dictionaries(st.text("abc", min_size=1, max_size=9).map(tuple), st.integers(1, 9), max_size=8)


def merge_plainly(ids, rank_of, joined):
    while ids and (ranks := [rank_of.get(pair, 10**9) for pair in pairwise(ids)]) and min(ranks) < 10**9:
        i = ranks.index(min(ranks))
        ids = [*ids[:i], joined[ranks[i]], *ids[i + 2:]]
    return ids


def join_everywhere(word, pair, new):
    out, i = [], 0
    while i < len(word):
        if word[i:i + 2] == list(pair):
            out.append(new)
            i += 2
        else:
            out.append(word[i])
            i += 1
    return out


def learn_plainly(words, score, steps=30):
    words, new = {tuple(ord(one) - 97 for one in word): count for word, count in words.items()}, 3
    while steps:
        pairs, symbols = Counter(), Counter()
        for word, count in words.items():
            for symbol in word:
                symbols[symbol] += count
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            return
        best = min(pairs, key=lambda pair: (-score(pair, pairs, symbols), pair))
        yield *best, new
        words = {tuple(join_everywhere(list(word), best, new)): count for word, count in words.items()}
        new, steps = new + 1, steps - 1


def learn_fast(learn, words, steps=30):
    ids = iter(range(3, 3 + steps + 1))
    found = learn([([ord(one) - 97 for one in word], count) for word, count in words.items()], lambda *_: next(ids))
    return [step for step, _ in zip(found, range(steps))]


@settings(max_examples=150)
@given(WORDS)
def test_incremental_counts_choose_the_merges_that_counting_again_chooses(words):
    assert learn_fast(learn_merges, words) == list(learn_plainly(words, lambda pair, pairs, _: pairs[pair]))


@settings(max_examples=100)
@given(WORDS)
def test_the_published_score_chooses_what_computing_it_again_chooses(words):
    def score(pair, pairs, symbols):
        return pairs[pair] / (symbols[pair[0]] * symbols[pair[1]])
    assert learn_fast(learn_merges_by_score, words) == list(learn_plainly(words, score))


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
    want = merge_plainly(list(ids), rank_of, joined)
    assert merge_word(list(ids), rank_of, joined) == want
    assert merge_long(list(ids), rank_of, joined) == want


def test_runs_of_one_letter_merge_from_left_to_right():
    rank_of, joined = {(0, 0): 0, (1, 1): 1, (1, 0): 2}, [1, 2, 3]
    assert merge_word([0] * 7, rank_of, joined) == merge_long([0] * 7, rank_of, joined) == [2, 3]


def test_pairs_below_the_minimum_frequency_are_not_merged():
    words = [([0, 1, 2], 2), ([1, 2], 1)]
    assert list(learn_merges(words, lambda a, b: 9, min_frequency=3)) == [(1, 2, 9)]
