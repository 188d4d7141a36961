"""The heart of byte-pair encoding (Sennrich, Haddow & Birch 2016, arXiv:1508.07909): merging pairs, and choosing them.

Training starts from single symbols and repeatedly joins the most frequent pair of neighbours into a new symbol.
Encoding replays those merges on a word, the earliest-learnt pair first. Byte-level BPE, GPT-1's BPE and WordPiece
training all stand on this file; they differ in what a word and a symbol are. Symbols are ids here.

The plain algorithm stands first: it counts all pairs again after each merge. The fast one keeps the counts, and for
every pair the places where it stands; a merge then touches only its own places and their neighbours.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np

from models.schema import shown

NEVER = (1 << 30) - 1  # the rank of a pair that no merge joins: the largest int that compares fast
LONG_WORD = 256  # symbols from which the lists of merge_long beat the scans of merge_word
EDGE = -1  # stands between two words
GONE = -2  # was joined to its left neighbour


# ---- the plain algorithm, which the rest of the file must equal

def plain_train(words: Iterable[tuple[list[int], int]], join: Callable[[int, int], int],
                score: Callable = lambda pair, pairs, symbols: pairs[pair]) -> Iterator[tuple[int, int, int]]:
    """Yields (left, right, new) for the pair of neighbours with the highest score, until no pair is left.

    words: each word's symbols, and how often it stands in the text.   join(left, right) names the new symbol.
    score(pair, pairs, symbols): of a pair, by the counts of all pairs and symbols; its own count if not said.
    """
    words = list(words)
    while True:
        pairs, symbols = Counter(), Counter()
        for word, count in words:
            for symbol in word:
                symbols[symbol] += count
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            return
        best = min(pairs, key=lambda pair: (-score(pair, pairs, symbols), pair))  # the smallest among equals
        new = join(*best)
        yield *best, new
        words = [(plain_join(word, best, new), count) for word, count in words]


def plain_join(word: list[int], pair: tuple[int, int], new: int) -> list[int]:
    """The word with the new symbol wherever the pair stood, from left to right."""
    joined = []
    for symbol in word:
        if joined and (joined[-1], symbol) == pair:
            joined[-1] = new
        else:
            joined.append(symbol)
    return joined


def plain_merge(word: list[int], rank_of: dict[tuple[int, int], int], joined: list[int]) -> list[int]:
    """Encodes: of the pairs that were merged in training the one learnt first is joined, again and again.

    rank_of[a, b] is the rank of a merge, the first learnt has 0; joined[rank] is the symbol it makes.
    """
    while known := [pair for pair in pairwise(word) if pair in rank_of]:
        first = min(known, key=rank_of.get)
        i = list(pairwise(word)).index(first)
        word = [*word[:i], joined[rank_of[first]], *word[i + 2:]]
    return word


# ---- encoding: replay the merges on one word

def ranks_of(merges: list[tuple], vocab: dict, show: Callable = str) -> tuple[dict[tuple[int, int], int], list[int]]:
    """rank_of and joined for merges given as pairs of tokens; ValueError names a token the vocabulary lacks."""
    rank_of, joined = {}, []
    for rank, (left, right) in enumerate(merges):
        for token in (left, right, left + right):
            if token not in vocab:
                left, right, token = shown(show(left)), shown(show(right)), shown(show(token))
                raise ValueError(f"merge {rank + 1}, {left} + {right}, names {token}, which is not in the vocabulary; "
                                 f"are the two of one tokenizer?")
        rank_of[vocab[left], vocab[right]] = rank
        joined.append(vocab[left + right])
    return rank_of, joined


def merge_word(ids: list[int], rank_of: dict[tuple[int, int], int], joined: list[int]) -> list[int]:
    """The word's symbols after all merges that apply, lowest rank first, leftmost first among equals.

    rank_of[a, b] is the rank of a merge, joined[rank] the symbol it makes. `ids` may be changed. Scan for the lowest
    rank, merge there, look up the two new neighbourhoods: quadratic, but all scans are C.
    """
    if len(ids) >= LONG_WORD:
        return merge_long(ids, rank_of, joined)
    rank = rank_of.get
    ranks = [rank(pair, NEVER) for pair in pairwise(ids)]
    ranks.append(NEVER)
    while (lowest := min(ranks)) != NEVER:
        i = ranks.index(lowest)
        ids[i] = new = joined[lowest]
        del ids[i + 1], ranks[i]
        if i + 1 < len(ids):
            ranks[i] = rank((new, ids[i + 1]), NEVER)
        if i:
            ranks[i - 1] = rank((ids[i - 1], new), NEVER)
    return ids


class ManyWords:
    """merge_word of many words at once, in lockstep: in every round, each word that still has a merge makes one."""

    def __init__(self, rank_of: dict[tuple[int, int], int], joined: list[int]):
        pairs = np.array([*rank_of], np.int64).reshape(-1, 2)
        keys, ranks = (pairs[:, 0] << 32) | pairs[:, 1], np.array([*rank_of.values()], np.int64)
        order = keys.argsort()
        self.keys, self.ranks = np.append(keys[order], -1), np.append(ranks[order], NEVER)
        self.joined = np.array(joined, np.int64)

    def rank(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Of the pairs (left, right), of any shape; beside EDGE there is none."""
        keys = (left << 32) | right
        places = self.keys[:-1].searchsorted(keys)
        return np.where((self.keys[places] == keys) & (right >= 0), self.ranks[places], NEVER)

    def merge(self, symbols: np.ndarray, lengths: list[int]) -> list[list[int]]:
        """Each word's symbols after all merges that apply.   symbols: of all words; lengths: how many each has."""
        lengths, at = np.array(lengths, int), np.arange(len(lengths))  # the words still at work
        merged = np.full((len(at), lengths.max(initial=0) + 1), EDGE, np.int64)
        merged[np.arange(merged.shape[1]) < lengths[:, None]] = symbols
        ids, ranks = merged, np.full(merged.shape, NEVER)  # of each symbol and its right neighbour
        ranks[:, :-1] = self.rank(ids[:, :-1], ids[:, 1:])
        while len(ids):
            place = ranks.argmin(axis=1)  # of the lowest, the leftmost among equals
            lowest = np.take_along_axis(ranks, place[:, None], 1)[:, 0]
            ended, going = lowest == NEVER, lowest != NEVER
            merged[at[ended], : ids.shape[1]], merged[at[ended], ids.shape[1] :] = ids[ended], EDGE
            at, ids, ranks, place, lowest = (part[going] for part in (at, ids, ranks, place, lowest))
            rows, columns = np.arange(len(ids)), np.arange(ids.shape[1] - 1)
            ids[rows, place] = self.joined[lowest]  # and what is behind moves up
            ids = np.where(columns > place[:, None], ids[:, 1:], ids[:, :-1])
            ranks = np.where(columns >= place[:, None], ranks[:, 1:], ranks[:, :-1])
            for beside in (place, place - 1):
                row, left = rows[beside >= 0], beside[beside >= 0]
                ranks[row, left] = self.rank(ids[row, left], ids[row, left + 1])
        counts = (merged != EDGE).sum(axis=1).tolist()
        return [row[:count] for row, count in zip(merged.tolist(), counts)]


def merge_long(ids, rank_of, joined):
    """The same with the places of every rank in a list, a heap of the ranks, and linked neighbours.

    Each place is visited once for each pair that ever starts there, in the order of the text, so a word of a million
    letters costs a million times a constant. A place goes stale when an earlier merge takes one of its symbols.
    """
    rank, n = rank_of.get, len(ids)
    before, after = list(range(-1, n)), list(range(1, n + 1))
    places = defaultdict(list)
    for i, pair in enumerate(pairwise(ids)):
        places[rank(pair)].append(i)
    places.pop(None, None)
    ranks = list(places)
    heapq.heapify(ranks)
    ids.append(EDGE)  # ids[n] and ids[-1]: the neighbour of both ends
    while ranks:
        lowest = heapq.heappop(ranks)
        new, todo = joined[lowest], sorted(places.pop(lowest))
        for k, i in enumerate(todo):
            right = after[i]
            if ids[i] == GONE or rank((ids[i], ids[right])) != lowest:
                continue
            ids[i], ids[right] = new, GONE
            left, right = before[i], after[right]
            after[i], before[right] = right, i
            found = rank((ids[left], new)), rank((new, ids[right]))
            for at, other in zip((left, i), found):
                if other is not None:
                    if other not in places:
                        heapq.heappush(ranks, other)
                    places[other].append(at)
            if ranks and ranks[0] < lowest:  # a merge learnt earlier has become possible: it goes first
                places[lowest] = todo[k + 1:]
                heapq.heappush(ranks, lowest)
                break
    return [one for one in ids[:-1] if one != GONE]


# ---- training: choose the merges

def count_words(texts: str | Iterable[str], split: Callable[[str], Iterable[list[str]]]) -> Counter:
    """How often each word stands in the texts; split(text) yields lists of words."""
    counts = Counter()
    for text in [texts] if isinstance(texts, str) else texts:
        for words in split(text):
            counts.update(words)
    return counts


def first_symbols(counts: dict[str, int], spell: Callable[[str], list[str]], special_tokens: Iterable[str],
                  alphabet: Iterable[str] | None, limit_alphabet: int | None) -> list[str]:
    """The tokens before any merge: special ones, the characters by code point, then the marked symbols, sorted.

    spell(word) gives a word's symbols, marked ("##x", "x</w>") or plain. A given alphabet (characters and marked
    symbols) is taken as it stands; limit_alphabet keeps only the most frequent characters.
    """
    if alphabet is None:
        characters = Counter()
        for word, count in counts.items():
            for character in word:
                characters[character] += count
        kept = set(sorted(sorted(characters), key=characters.get, reverse=True)[:limit_alphabet])
        symbols = {symbol for word in counts for symbol, character in zip(spell(word), word) if character in kept}
        alphabet = [*sorted(kept), *sorted(symbols - kept)]
    return [*special_tokens, *alphabet]


def learn_vocabulary(tokens: list, counts: dict[str, int], spell: Callable[[str], list], vocab_size: int,
                     concatenate: Callable = lambda left, right: left + right, min_frequency: int = 0,
                     score: str = "frequency", progress: Callable[[int], None] | None = None) -> list[tuple]:
    """Appends merged tokens to `tokens` until there are vocab_size; returns the merges as pairs of tokens.

    counts: of the words.   spell(word): its symbols; those not among the tokens are left out.   concatenate(left,
    right) spells a merge; if that token exists, its id is used again.   progress(n) is told the number of tokens.
    """
    if vocab_size < len(tokens):
        raise ValueError(f"vocab_size {vocab_size} is smaller than the alphabet: special tokens and single symbols are "
                         f"{len(tokens)}; use at least that, or set limit_alphabet")
    if score not in ("frequency", "likelihood"):
        raise ValueError(f"score {score!r} is neither 'frequency' nor 'likelihood'")
    ids = {token: i for i, token in enumerate(tokens)}

    def join(left, right):
        token = concatenate(tokens[left], tokens[right])
        if token not in ids:
            ids[token] = len(tokens)
            tokens.append(token)
        return ids[token]

    spelt = (([ids[symbol] for symbol in spell(word) if symbol in ids], count) for word, count in counts.items())
    learn = learn_merges if score == "frequency" else learn_merges_by_score
    steps, merges = learn(spelt, join, min_frequency), []
    while len(tokens) < vocab_size and (step := next(steps, None)):
        merges.append((tokens[step[0]], tokens[step[1]]))
        if progress:
            progress(len(tokens))
    return merges


def learn_merges(words: Iterable[tuple[list[int], int]], join: Callable[[int, int], int],
                 min_frequency: int = 0) -> Iterator[tuple[int, int, int]]:
    """Yields (left, right, new) for the most frequent pair, again and again, until no pair is left.

    words: distinct words as lists of symbols, with their counts; memory is proportional to their total length.
    join(left, right) names the symbol that a merge makes. Among equally frequent pairs the smallest (left, right)
    wins, so older symbols come first. Overlapping pairs all count ("aaa" holds two (a, a)), but merging goes from
    left to right without overlap: the rules of the `tokenizers` library, which our merges equal one by one.
    """
    corpus = PairCounts(words)
    queue = [(-count, pair) for pair, count in corpus.counts.items()]
    heapq.heapify(queue)
    while queue:
        count, pair = queue[0]
        now = corpus.counts[pair]
        if -count != now:  # it shrank since it was queued: queue it where it belongs
            heapq.heapreplace(queue, (-now, pair)) if now > 0 else heapq.heappop(queue)
            continue
        if now < max(min_frequency, 1):
            return
        heapq.heappop(queue)
        new = join(*pair)
        yield *pair, new
        for changed in corpus.merge(pair, new)[0]:
            if new in changed:  # the others can only have shrunk
                heapq.heappush(queue, (-corpus.counts[changed], changed))


def learn_merges_by_score(words: Iterable[tuple[list[int], int]], join: Callable[[int, int], int],
                          min_frequency: int = 0) -> Iterator[tuple[int, int, int]]:
    """Like learn_merges, but the pair with the highest count(ab) / (count(a) count(b)) goes first.

    It is the merge that raises the likelihood of the corpus most (Schuster & Nakajima 2012, the WordPiece paper): a
    pair wins not by being frequent, but by its halves being rare elsewhere. A merge changes the score of every pair
    that shares a symbol with it, so all scores are computed anew each time, as one array.
    """
    corpus = PairCounts(words)
    place, pairs, counts = {}, np.zeros((0, 2), int), np.zeros(0)
    occurrences = np.bincount(np.subtract(corpus.symbols, EDGE), corpus.weights)[1:]  # of each symbol
    changed = list(corpus.counts)
    while True:
        rows = [place.setdefault(pair, len(place)) for pair in changed]
        pairs = np.append(pairs, np.zeros((len(place) - len(pairs), 2), int), axis=0)
        counts = np.append(counts, np.zeros(len(place) - len(counts)))  # of each pair
        pairs[rows] = np.array(changed, int).reshape(-1, 2)
        counts[rows] = [corpus.counts[pair] for pair in changed]
        scores = counts / np.maximum(occurrences[pairs[:, 0]] * occurrences[pairs[:, 1]], 1)
        scores[counts < max(min_frequency, 1)] = 0
        highest = scores.max(initial=0)
        if highest == 0:
            return
        pair = min(tuple(row) for row in pairs[np.flatnonzero(scores == highest)].tolist())
        new = join(*pair)
        yield *pair, new
        changed, merged = corpus.merge(pair, new)
        occurrences = np.append(occurrences, np.zeros(max(0, new + 1 - len(occurrences))))
        np.add.at(occurrences, [new, *pair], [merged, -merged, -merged])


class PairCounts:
    """All words in one long row of symbols, the count of every pair of neighbours, and the places of each pair.

    The row is linked both ways, so that joining two symbols moves nothing. Words are kept apart by EDGE.
    """

    def __init__(self, words: Iterable[tuple[list[int], int]]):
        self.symbols, self.weights = [EDGE], [0]  # the weight of a place is the count of its word
        for symbols, count in words:
            self.symbols += symbols
            self.symbols.append(EDGE)
            self.weights += [count] * (len(symbols) + 1)
        n = len(self.symbols)
        self.before, self.after = list(range(-1, n - 1)), list(range(1, n + 1))
        self.counts: dict[tuple[int, int], int] = defaultdict(int)
        self.places: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, pair in enumerate(pairwise(self.symbols)):
            if EDGE not in pair:
                self.counts[pair] += self.weights[i]
                self.places[pair].append(i)

    def merge(self, pair: tuple[int, int], new: int) -> tuple[list[tuple[int, int]], int]:
        """Joins the pair wherever it stands: (the pairs whose counts changed, some perhaps twice; how often it did)."""
        symbols, weights, before, after, (a, b) = self.symbols, self.weights, self.before, self.after, pair
        lefts, rights, merged = defaultdict(list), defaultdict(list), 0  # neighbour -> the places it was met at
        for i in sorted(self.places.pop(pair)):  # left to right: matters for "aaa"
            j = after[i]
            if symbols[i] != a or symbols[j] != b:
                continue  # an earlier merge took one of the two
            left, right = before[i], after[j]
            symbols[i], symbols[j] = new, GONE
            after[i], before[right] = right, i
            lefts[symbols[left]].append(left)
            rights[symbols[right]].append(i)
            merged += weights[i]
        moves = [((b, y), (new, y), places) for y, places in rights.items() if y != EDGE]
        moves += [((x, a), (x, new), places) for x, places in lefts.items() if x != EDGE]
        for old, now, places in moves:
            moved = sum([weights[i] for i in places])
            self.counts[old] -= moved
            self.counts[now] += moved
            self.places[now] += places
        self.counts[pair] = 0
        return [pair, *(changed for move in moves for changed in move[:2])], merged
