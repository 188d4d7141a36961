"""Permutation language modelling: predict the tokens of a text one after another, but in any order (XLNet).

A GPT multiplies p(token | the tokens before it) from left to right. The product is as right in any other order of the
positions, and over all orders every token is predicted from all kinds of surroundings, from both sides too, without a
[MASK] that no real text has. So for each row an order is drawn, and a mask says who may see whom:

    the cat sat on the mat,  order: the_1 on mat | sat cat the_2     (from | on tokens are predicted: "partial" = 2)
    sat is predicted from the_1, on, mat;  cat from these and sat;  the_2 from these, sat and cat

Tokens are predicted where spans were drawn (see `draw_spans`), one in K = 6. A row is two halves: a stretch of plain
text, which the next batch's row goes on from, so that a model may carry it along as memory; and two segments A and B.
Half of the rows are read from the end to the beginning.

Yang et al. 2019, arXiv:1906.08237, by the procedure of its published code (zihangdai/xlnet, data_utils.py). There and
here, though the paper does not say so: a span of n is n pieces, not n words, and has K n others around it, so spans
alone are one token in K + 1; the rest are single tokens. Both may lie on <sep> or <cls>, which are never predicted, so
a row may ask for less than it has room for. B follows A in every second row, but nothing is asked about it. The second
half sees all of the first, the predicted tokens too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.config import option
from models.schema import Count, Few, Whole, check_fields
from models.tokenizers import Tokenizer
from tinytensor import random
from tinytensor.ops.softmax import IGNORED
from train.objectives import Objective
from train.objectives.windows import EVALUATION, Causal, even_starts

MARKS = ("<sep>", "<cls>", "<eop>", "<eod>")
PUNCTUATION = set('!"#$%&()*+,-./:;?@[\\]^_`{|}~')  # pieces that begin a word without a space before them


@dataclass(frozen=True)
class PermutationConfig:
    """What is predicted, and in which orders."""

    partial: Count = option(6, "K: of so many tokens one is predicted, behind the others in the order")
    longest_span: Few = option(5, "the most tokens in a row that are predicted; n of them come with odds of 1/n")
    chunk: Whole = option(0, "positions to shuffle; the chunks of a half follow one another (0: the half as a whole)")
    both_ways: bool = option(True, "read every second row from the end of the text to its beginning")

    def __post_init__(self):
        check_fields(self)


@dataclass
class Lines:
    """Stands for a tokenizer when a corpus is built: each line ends with <eop>, and an empty one is <eod>.

    So a text with blank lines between its documents can be read from its ids, as XLNet's README marks it.
    """

    tokenizer: Tokenizer

    def __post_init__(self):
        if lacking := [mark for mark in MARKS if mark not in self.tokenizer.special_tokens]:
            what = f"this {type(self.tokenizer).__name__} has no {', '.join(lacking)}"
            raise ValueError(f"an XLNet needs its own special tokens, and {what}; use --tokenizer unigram")
        self.end, self.blank = (self.tokenizer.id_of(mark) for mark in ("<eop>", "<eod>"))

    @property
    def dtype(self) -> type:
        return self.tokenizer.dtype

    def encode_array(self, text: str) -> np.ndarray:
        *lines, last = text.split("\n")  # the last has no end: there is nothing of it, or it goes on
        encoded = self.tokenizer.encode_batch([*lines, last])
        rows = [[*row, self.end] if line else [self.blank] for line, row in zip(lines, encoded)]
        return np.array([id for row in [*rows, encoded[-1]] for id in row], self.dtype)

    def decode(self, ids: np.ndarray) -> str:
        cuts = 1 + np.flatnonzero(np.isin(ids, [self.end, self.blank]))
        lines = [self.tokenizer.decode([id for id in line.tolist() if id not in (self.end, self.blank)])
                 for line in np.split(ids, cuts)]  # fmt: skip
        return "\n".join(lines)

    def gives_back(self, text: str) -> bool:
        return self.decode(self.encode_array(text)) == text


@dataclass
class Permutation(Objective):
    """Batches of rows of `context` tokens, B of them; T = context, K = context / partial.

    ids, token_types: (B, T); types are 0 (the plain half, A, <sep>), 1 (B, <sep>) and 2 (<cls>).
    sees: (B, T, T), whether position i may see position j.   backwards: (B,), whether the text runs from its end.
    places, targets: (B, K), the positions that are predicted, ascending, and their tokens; IGNORED where fewer are.

    reuse: tokens of the plain half, by which a row moves on from batch to batch; at the end of the text it begins anew.
    """

    tokenizer: Tokenizer
    context: int
    batch: int
    reuse: int
    config: PermutationConfig = PermutationConfig()
    seed: int = 0
    _cuts: dict = field(default_factory=dict, repr=False)  # id of the tokens -> (they, where their sentences begin)

    one_shape = True

    def __post_init__(self):
        self.lines = Lines(self.tokenizer)  # which says what tokenizer will do
        self.room = self.context - self.reuse - 3  # of A and B
        if self.reuse < 1 or self.room < 2:
            raise ValueError(f"a context of {self.context} has no room for {self.reuse} tokens of memory, two segments "
                             f"and their 3 marks; use a larger --context or a smaller --reuse")  # fmt: skip
        predicted = self.context // self.config.partial
        if not predicted:
            raise ValueError(f"--partial {self.config.partial} predicts nothing of a context of {self.context}")
        early = -(-predicted * self.reuse // self.context)  # 43 of 85 in the published halves of 256
        self.halves = ((slice(0, self.reuse), early), (slice(self.reuse, self.context), predicted - early))
        for half, _ in self.halves:
            if self.config.chunk and (size := half.stop - half.start) % self.config.chunk:
                raise ValueError(f"--chunk {self.config.chunk} does not divide a half of {size} tokens")
        self.sep, self.cls = (self.tokenizer.id_of(mark) for mark in ("<sep>", "<cls>"))
        self.behind_space = ~self.tokenizer.continues_word()
        pieces = [piece or "" for piece in self.tokenizer.tokens]
        own = np.array([piece.startswith("<") or piece in PUNCTUATION for piece in pieces])
        self.begins_word = self.behind_space | own
        odds = 1 / np.arange(1, self.config.longest_span + 1)
        self.odds = np.cumsum(odds / odds.sum())

    def check(self, tokens: np.ndarray, what: str) -> None:
        if what == "training" and self.config.both_ways and self.batch % 2:
            odd = f"half of a batch is read backwards, so --batch {self.batch} must be even"
            raise ValueError(f"{odd}, or add --no-both-ways")
        if len(tokens) <= self.context:
            few = f"the {what} part has {len(tokens)} tokens, no more than one row of {self.context}"
            raise ValueError(f"{few}; give more --data or a smaller --context")

    def training_batch(self, tokens: np.ndarray, number: int) -> dict[str, np.ndarray]:
        places = (len(tokens) - self.context) // self.reuse + 1  # where a row can begin, in either direction
        rows = self.batch // 2 if self.config.both_ways else self.batch
        starts = (np.arange(self.batch) % rows * places // rows + number) % places * self.reuse
        with random.seeded(self.seed, number) as draw:
            made = [self.row(tokens, start, i >= rows, draw) for i, start in enumerate(starts.tolist())]
        return self.make(*made)

    def evaluation_batches(self, tokens: np.ndarray, limit: int | None = None) -> list[np.ndarray]:
        """The first places of rows that do not overlap, in groups of a batch."""
        return even_starts(len(tokens) - self.context + 1, self.context, self.batch, limit)

    def evaluation_batch(self, tokens: np.ndarray, starts: np.ndarray) -> dict[str, np.ndarray]:
        """Every second row is read backwards. What is drawn for a row depends on its place, not on the batch."""
        made = []
        for start in starts.tolist():
            backward = self.config.both_ways and start // self.context % 2 == 1
            with random.seeded(self.seed, start, EVALUATION) as draw:
                made.append(self.row(tokens, len(tokens) - self.context - start if backward else start, backward, draw))
        return self.make(*made)

    def in_order(self) -> InOrder:
        """The objective that measures a whole text by the chain rule, as a GPT does."""
        return InOrder(self.context, self.batch, self.seed)

    def make(self, *rows: tuple) -> dict[str, np.ndarray]:
        """The batch of some rows."""
        ids, types, chosen, rank, backwards = map(np.stack, zip(*rows))
        special = (ids == self.sep) | (ids == self.cls)
        sees = np.zeros((len(ids), self.context, self.context), bool)
        for half, _ in self.halves:
            sees[:, half, half] = visible(chosen[:, half], special[:, half], rank[:, half])
        sees[:, self.reuse :, : self.reuse] = True
        asked = chosen & ~special
        places = np.argsort(~asked, axis=1, kind="stable")[:, : sum(goal for _, goal in self.halves)]
        own = lambda array: np.take_along_axis(array, places, axis=1)
        targets = np.where(own(asked), own(ids), IGNORED)
        return dict(ids=ids, token_types=types, sees=sees, places=places, targets=targets, backwards=backwards)

    def row(self, tokens: np.ndarray, start: int, backward: bool, draw: np.random.Generator) -> tuple:
        """(ids, types, what spans cover, the order of a half's positions, backward) of the row that begins there.

        backward: `start` counts from the end, and everything else is as if the text were written that way round; but
        that spans are drawn in the text's own direction, as words begin at one end only.
        """
        cuts = self.cuts(tokens)
        if backward:
            tokens, cuts = tokens[::-1], len(tokens) - cuts[::-1]
        a_end, b_start, b_end = self.split(cuts, len(tokens), start + self.reuse, draw)
        a, b = tokens[start:a_end], tokens[b_start:b_end]
        ids = np.concatenate([a, [self.sep], b, [self.sep, self.cls]]).astype(np.int64)
        types = np.repeat([0, 1, 2], [len(a) + 1, len(b) + 1, 1])
        chosen, rank = np.zeros(self.context, bool), np.zeros(self.context, int)
        way = -1 if backward else 1
        for half, goal in self.halves:
            length = half.stop - half.start
            chosen[half] = self.draw_spans(self.begins_word[ids[half]][::way], goal, draw)[::way]
            order = draw.permutation(self.config.chunk or length)
            rank[half] = (np.arange(0, length, len(order))[:, None] + order).ravel()
        return ids, types, chosen, rank, backward

    def split(self, cuts: np.ndarray, length: int, begin: int, draw: np.random.Generator) -> tuple[int, int, int]:
        """(where A ends that begins at `begin`, where B begins, where it ends); together they are `room` long.

        A ends between two sentences within the room, if there are such. In one of two rows (where A can end early) B is
        what follows, else it is some sentences from anywhere. The longer of both is cut at its end.
        """
        first, stop = np.searchsorted(cuts, [begin + 1, begin + self.room]).tolist()
        end = int(cuts[stop]) if stop < len(cuts) else length
        a_end = int(cuts[draw.integers(first, stop)]) if first < stop else end
        b_start, b_end = a_end, end
        if first == stop or draw.random() < 0.5:
            size = max(1, self.room - (a_end - begin))
            anywhere = int(draw.integers(0, length - size))
            before, behind = np.searchsorted(cuts, anywhere, "right"), np.searchsorted(cuts, anywhere + size)
            b_start = int(cuts[before - 1]) if before else 0
            b_end = min(int(cuts[behind]) if behind < len(cuts) else length, length - 1)
        kept = min(b_end - b_start, max(self.room // 2, self.room - (a_end - begin)))
        return begin + self.room - kept, b_start, b_start + kept

    def draw_spans(self, begins_word: np.ndarray, goal: int, draw: np.random.Generator) -> np.ndarray:
        """(T,) booleans with `goal` of them True: what is predicted of a half.

        Each span of n tokens has K n others around it, a random part of them before it, and begins with a word. What is
        missing at the end, which no span may reach, are single tokens from anywhere.
        """
        length = len(begins_word)
        following = np.minimum.accumulate(np.where(begins_word, np.arange(length), length)[::-1])[::-1].tolist()
        sizes = 1 + np.searchsorted(self.odds[:-1], draw.random(goal), "right")
        chosen, at, left = np.zeros(length, bool), 0, goal
        for size, share in zip(sizes.tolist(), draw.random(goal).tolist()):
            size = min(size, left)
            around = size * self.config.partial
            before = int(share * around)
            begin = following[at + before] if at + before < length else length
            if not size or begin + size >= length:
                break
            chosen[begin : begin + size] = True
            at, left = begin + size + around - before, left - size
        chosen[draw.permutation(np.flatnonzero(~chosen))[:left]] = True
        return chosen

    def cuts(self, tokens: np.ndarray) -> np.ndarray:
        """The places where a sentence begins, but the first: after a line, behind . ! ? (and quotes) and a space."""
        if id(tokens) not in self._cuts:
            strip = lambda piece: piece.rstrip("\"'”’)")
            pieces = [piece or "" for piece in self.tokenizer.tokens]
            closing = np.array([piece != "" and not strip(piece) for piece in pieces])
            stops = np.array([strip(piece)[-1:] in tuple(".!?") for piece in pieces])
            ids = np.asarray(tokens)
            ended = stops[ids]
            ended[1:] |= ended[:-1] & closing[ids[1:]]
            begins = (ended[:-1] & self.behind_space[ids[1:]]) | np.isin(ids[:-1], [self.lines.end, self.lines.blank])
            self._cuts[id(tokens)] = tokens, 1 + np.flatnonzero(begins)
        return self._cuts[id(tokens)][1]


@dataclass(frozen=True)
class InOrder(Causal):
    """From left to right: every token is predicted from those before it in its window, so the sum is that of a text.

    Windows, and `apart`, are those of a GPT; the batch is made for an XLNet, whose query stream predicts.
    """

    def make(self, windows: np.ndarray, draw: np.random.Generator) -> dict[str, np.ndarray]:
        rows, length = windows.shape
        sees = np.tri(length, k=-1, dtype=bool)
        every = lambda array: np.broadcast_to(array, (rows, *array.shape))
        return {"ids": windows, "sees": every(sees), "places": every(np.arange(1, length)), "targets": windows[:, 1:]}


def visible(chosen: np.ndarray, special: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """(B, T, T) of one half: whether token i may see token j. All (B, T): covered by spans, <sep> or <cls>, its rank.

    What is not predicted comes first, and sees only its like; then the others by their rank, <sep> and <cls> among
    them. These see themselves; what is predicted does not.
    """
    context, target = ~chosen & ~special, chosen & ~special
    order = np.where(context, -1, rank)
    own = np.where(target, order, order + 1)
    return (own[:, :, None] > order[:, None, :]) | context[:, None, :]

