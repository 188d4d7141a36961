"""How a Unigram vocabulary is learnt (Kudo 2018, section 3.2; SentencePiece's trainer).

Start with all frequent substrings of words. Then, until few enough pieces are left:
- E step: how often is each piece expected in the corpus, over all segmentations weighted by their probability?
- M step: probabilities from those counts (with the digamma function: it takes from rare pieces, so that they go)
- prune: drop the pieces whose loss costs the corpus least likelihood, a quarter of them at a time

Every way to place a piece on a word is an edge of a lattice. All edges of all words stand in flat arrays, sorted by
where they end, so that one pass over a text of any size is a loop over positions in a word.
Against SentencePiece: substrings are told apart by sorting, a length at a time, instead of a suffix array, and pruning
weighs a piece by its expected count instead of its count in the best segmentations.
"""

from collections.abc import Callable, Iterable
from itertools import pairwise

import numpy as np

from models.tokenizers.pairs import count_words

LONGEST_PIECE = 16
SEEDS = 10  # substrings to start from, for each piece wanted in the end
SHRINK = 0.75  # of the pieces, survive a round


def learn_pieces(texts: str | Iterable[str], split: Callable[[str], list[str]], wanted: int,
                 progress: Callable[[int], None] | None = None) -> list[tuple[str, float]]:
    """`wanted` pieces with their log probabilities, the likeliest first. split(text) gives the words of a text.

    Single characters are always kept, so every word of the corpus has a segmentation.
    progress(n) is called with the number of pieces done: at first none, wanted at the end.
    """
    counts = count_words(texts, lambda text: [split(text)])
    if not counts:
        raise ValueError("the texts hold no words to learn pieces from")
    words = Row(list(counts), np.array(list(counts.values()), float))
    pieces, first, frequency = words.seeds(wanted)
    lengths = np.array([len(piece) for piece in pieces])
    single = lengths == 1
    if single.sum() > wanted:
        raise ValueError(f"vocab_size is smaller than the alphabet: {wanted} pieces are wanted beside the special "
                         f"tokens, but the text has {single.sum()} characters; raise it by {single.sum() - wanted}")
    corpus = Lattice(words.pieces_at, words.first, words.sizes, words.weights)
    spelling = Lattice(words.pieces_at, first, lengths, np.ones(len(pieces)))  # pieces, cut into other pieces
    spelling.drop(spelling.piece == spelling.word)
    log_p = np.log(frequency / frequency.sum())  # -inf once a piece is dropped
    while True:
        for _ in range(2):
            expected = corpus.expected_counts(log_p)
            log_p = maximize(expected, log_p, single, wanted)
        kept = np.isfinite(log_p)
        if progress:
            progress(wanted if kept.sum() <= wanted else wanted * (len(pieces) - kept.sum()) // len(pieces))
        if kept.sum() <= wanted:
            break
        # without a piece, its occurrences are spelt by other pieces: the likelihood lost is count * (log p - log p')
        loss, without = np.full(len(pieces), -np.inf), spelling.forward(log_p)[spelling.last_node]
        loss[kept] = expected[kept] * (log_p[kept] - without[kept])
        loss[single] = np.inf
        log_p[np.argsort(-loss, kind="stable")[max(wanted, int(kept.sum() * SHRINK)):]] = -np.inf
        for lattice in (corpus, spelling):
            lattice.drop(np.isneginf(log_p[lattice.piece]))
    order = sorted(np.flatnonzero(kept).tolist(), key=lambda i: (-log_p[i], pieces[i]))
    return [(pieces[i], float(log_p[i])) for i in order]


def maximize(expected: np.ndarray, log_p: np.ndarray, single: np.ndarray, wanted: int) -> np.ndarray:
    """The M step: log p = digamma(count) - digamma(sum of counts). Pieces expected less than half a time are dropped,
    but characters stay, and so do `wanted` pieces."""
    kept = np.isfinite(log_p)
    longer, room = np.sort(expected[kept & ~single])[::-1], wanted - single.sum()
    rare = min(0.5, longer[room - 1]) if 0 < room <= len(longer) else 0.5
    kept &= single | (expected >= rare)
    counts = np.maximum(expected, 0.5)
    return np.where(kept, digamma(counts) - digamma(counts[kept].sum()), -np.inf)


class Row:
    """All words of a corpus in a row, and where in them a piece stands.

    A substring is the one that is a character shorter, and a character: so all of a length are told apart by one
    sorting of pairs of numbers, and no string is made of those that do not become pieces.
    """

    def __init__(self, words: list[str], weights: np.ndarray):
        self.text, self.weights, self.sizes = "".join(words), weights, np.array([len(word) for word in words], int)
        self.first = np.cumsum(self.sizes) - self.sizes
        self.pieces_at: list[np.ndarray] = []  # for each length, the piece that begins at each character, or -1

    def seeds(self, wanted: int) -> tuple[list[str], np.ndarray, np.ndarray]:
        """All characters, and the substrings that cover most text among those seen twice: (pieces, a place of each,
        how often each occurs)."""
        codes = np.frombuffer(self.text.encode("utf-32-le", "surrogatepass"), np.uint32)
        characters = np.unique(codes, return_inverse=True)[1]
        room = np.repeat(self.first + self.sizes, self.sizes) - np.arange(len(self.text))  # to the end of the word
        weights, places = np.repeat(self.weights, self.sizes), np.arange(len(self.text))
        numbers, kinds = np.zeros(len(self.text), int), []  # each place's substring, by number; (place, length, count)
        for length in range(1, LONGEST_PIECE + 1):
            places = places[room[places] >= length]
            pairs = numbers[places] * (characters.max() + 1) + characters[places + length - 1]
            _, one, same = np.unique(pairs, return_index=True, return_inverse=True)
            numbers[places] = same
            self.pieces_at.append(np.where(room >= length, numbers, -1).astype(np.int32))
            counts = np.bincount(same, weights[places], len(one))
            kinds.append(np.stack([places[one], np.full(len(one), length), counts, np.arange(len(one))]))
        first, lengths, counts, number = np.concatenate(kinds, axis=1).astype(int)
        covered = np.where((lengths > 1) & (counts > 1), counts * lengths, 0)
        least = np.sort(covered)[-min(SEEDS * wanted, len(covered))]
        some = np.flatnonzero((lengths == 1) | (covered >= max(least, 1)))
        strings = {i: self.text[first[i] : first[i] + lengths[i]] for i in some.tolist()}
        by_worth = sorted((long, -worth, strings[i], i) for long, worth, i in
                          zip((lengths[some] > 1).tolist(), covered[some].tolist(), some.tolist()))  # fmt: skip
        order = np.array([i for *_, i in by_worth[: (lengths == 1).sum() + SEEDS * wanted]])
        for length, at in enumerate(self.pieces_at, 1):
            own = lengths[order] == length
            index = np.full((lengths == length).sum() + 1, -1)  # its last stands for places without a substring
            index[number[order][own]] = np.flatnonzero(own)
            at[:] = index[at]
        return [strings[i] for i in order.tolist()], first[order], counts[order].astype(float)


class Lattice:
    """All edges of all words: piece (its index), word, and the nodes it goes from and to.

    A word of n characters has n + 1 nodes, one before each character and one at the end; nodes of all words are
    numbered through. Edges are sorted by the position at which they end.
    pieces_at: see Row.   first, sizes: where in the row of all words those stand that are meant.
    """

    def __init__(self, pieces_at: list[np.ndarray], first: np.ndarray, sizes: np.ndarray, weights: np.ndarray):
        self.weights, self.sizes = weights, sizes
        self.first_node = np.cumsum(sizes + 1) - sizes - 1
        self.last_node = self.first_node + sizes
        word = np.repeat(np.arange(len(sizes)), sizes)
        start = np.arange(len(word)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        edges = []
        for length, at in enumerate(pieces_at, 1):
            piece = np.where(start + length <= sizes[word], at[first[word] + start], -1)
            some = np.flatnonzero(piece >= 0)
            edges.append(np.stack([piece[some], word[some], start[some], start[some] + length]))
        edges = np.concatenate(edges, axis=1)
        self.piece, self.word, start, self.end = edges[:, np.lexsort((edges[2], edges[1], edges[3]))]
        self.source, self.target = self.first_node[self.word] + start, self.first_node[self.word] + self.end

    def drop(self, gone: np.ndarray) -> None:
        for name in ("piece", "word", "end", "source", "target"):
            setattr(self, name, getattr(self, name)[~gone])

    def forward(self, log_p: np.ndarray) -> np.ndarray:
        """log P of the text up to each node, summed over all its segmentations: (nodes,)."""
        total = np.full(int((self.sizes + 1).sum()), -np.inf)
        total[self.first_node] = 0
        for edges in self.edges_by_end():
            targets, starts = np.unique(self.target[edges], return_index=True)
            arriving = total[self.source[edges]] + log_p[self.piece[edges]]
            highest = np.maximum(np.maximum.reduceat(arriving, starts), -1e300)  # not -inf: inf - inf is nan
            sums = np.add.reduceat(np.exp(arriving - np.repeat(highest, np.diff([*starts, len(arriving)]))), starts)
            with np.errstate(divide="ignore"):
                total[targets] = highest + np.log(sums)
        return total

    def expected_counts(self, log_p: np.ndarray) -> np.ndarray:
        """How often each piece is expected in the corpus: the gradient of its log likelihood by log_p.

        The backward pass of `forward`: a node's share of the corpus is handed to the edges that arrive there in
        proportion to their probabilities, and by them to the nodes they come from.
        """
        total, share, expected = self.forward(log_p), np.zeros(int((self.sizes + 1).sum())), np.zeros(len(log_p))
        share[self.last_node] = self.weights
        for edges in reversed(self.edges_by_end()):
            source, target, piece = self.source[edges], self.target[edges], self.piece[edges]
            flow = share[target] * np.exp(total[source] + log_p[piece] - total[target])
            np.add.at(share, source, flow)
            np.add.at(expected, piece, flow)
        return expected

    def edges_by_end(self) -> list[slice]:
        """The runs of edges that end at the same position of their words, from left to right."""
        borders = np.searchsorted(self.end, np.arange(1, self.end.max(initial=0) + 2))
        return [slice(a, b) for a, b in pairwise(borders) if a < b]


def digamma(x: np.ndarray) -> np.ndarray:
    """The derivative of log gamma(x), for x > 0: shifted up by the recurrence, then its asymptotic series."""
    x, shift = np.asarray(x, float).copy(), 0.0
    for _ in range(6):
        shift, x = shift + np.where(x < 6, 1 / x, 0), np.where(x < 6, x + 1, x)
    inverse = 1 / (x * x)
    return np.log(x) - 0.5 / x - inverse * (1 / 12 - inverse * (1 / 120 - inverse / 252)) - shift
