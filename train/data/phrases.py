"""Phrases: words that stand side by side more often than chance puts them there.

A pair or triple of words is scored by the t-test: with p the share of all places at which it stands and q the product
of its words' shares, which p would be if they did not care for each other, t = (p - q) / sqrt(p / N). The highest ones
are kept (ERNIE-GEN has 200,000 pairs and 50,000 triples of 16 GB of text; that, as the test, is told from memory of the
paper). Words are pieces of a tokenizer joined; a word, and so a phrase, is known by a number of 64 bits.
"""

from dataclasses import dataclass

import numpy as np

MOST = 4_000_000  # tokens that are counted, from the front
MIX, PAIR, TRIPLE = (np.uint64(n) for n in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))


@dataclass(frozen=True)
class Phrases:
    """continues: (V,), whether a token goes on with the word before.   pairs, triples: the numbers of those kept."""

    continues: np.ndarray
    pairs: frozenset
    triples: frozenset

    @classmethod
    def of(cls, tokens: np.ndarray, continues: np.ndarray, pairs: int, triples: int):
        """The phrases of a text."""
        words, _ = words_of(np.asarray(tokens[:MOST]), continues)
        _, place, counts = np.unique(words, return_inverse=True, return_counts=True)
        share = (counts / max(1, len(words)))[place]
        return cls(continues, best(pairs_of(words), share[:-1] * share[1:], pairs),
                   best(triples_of(words), share[:-2] * share[1:-1] * share[2:], triples))

    def starts(self, tokens: np.ndarray, fresh: np.ndarray) -> np.ndarray:
        """(N,): the place where the phrase begins that each of N tokens is in; single words are phrases, too.

        fresh: (N,) booleans, True where a token follows what does not belong to it. No phrase reaches across.
        """
        words, first = words_of(tokens, self.continues, fresh)
        pairs, triples = pairs_of(words).tolist(), triples_of(words).tolist()
        cut, begins, word = fresh[first].tolist(), np.zeros(len(tokens), bool), 0
        while word < len(words):
            begins[first[word]] = True
            if word + 2 < len(words) and not (cut[word + 1] or cut[word + 2]) and triples[word] in self.triples:
                word += 3
            elif word + 1 < len(words) and not cut[word + 1] and pairs[word] in self.pairs:
                word += 2
            else:
                word += 1
        return np.maximum.accumulate(np.where(begins, np.arange(len(tokens)), 0))


def words_of(tokens: np.ndarray, continues: np.ndarray, fresh: np.ndarray | None = None):
    """(the number of each word, the place of its first token)."""
    begins = ~continues[tokens] if fresh is None else ~continues[tokens] | fresh
    begins[:1] = True
    first = np.flatnonzero(begins)
    if not len(first):
        return np.zeros(0, np.uint64), first
    within = np.arange(len(tokens)) - first[np.cumsum(begins) - 1]
    powers = np.multiply.accumulate(np.full(within.max() + 1, MIX))
    return np.add.reduceat((tokens.astype(np.uint64) + np.uint64(1)) * powers[within], first), first


def pairs_of(words: np.ndarray) -> np.ndarray:
    return words[:-1] * PAIR + words[1:]


def triples_of(words: np.ndarray) -> np.ndarray:
    return (words[:-2] * PAIR + words[1:-1]) * TRIPLE + words[2:]


def best(phrases: np.ndarray, by_chance: np.ndarray, most: int) -> frozenset:
    """The `most` phrases of the highest t, if they stand more often than by chance, (places,) each."""
    if not len(phrases):
        return frozenset()
    kinds, place, counts = np.unique(phrases, return_index=True, return_counts=True)
    p = counts / len(phrases)
    t = (p - by_chance[place]) / np.sqrt(p / len(phrases))
    order = np.argsort(-t, kind="stable")[:most]
    return frozenset(kinds[order[t[order] > 0]].tolist())
