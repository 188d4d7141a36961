"""XLNet: predict a text's tokens in every order (Yang et al. 2019, arXiv:1906.08237).

BERT blots words out, guesses each as if the others were known, and meets [MASK] in no real text. A GPT blots nothing
out, but sees one side only. XLNet goes on predicting one token after another, as a GPT, but in an order that is drawn
anew for every text: so each token is learned from all kinds of others, left and right, and no text is changed. The
words stay where they are; only the mask of attention says who comes before whom in the order.

That takes three things:
- relative positions (Transformer-XL, Dai et al. 2019, arXiv:1901.02860): a query meets the distance to each key, in
  place of the key's position, and may meet whatever was read before as if it were the same text (`memory`)
- relative segments: a query meets whether a key is of its own segment or of another
- two streams. Who predicts a token must know its place and not its word. So beside the content stream h, which knows
  both, runs a query stream g, which starts from one learned vector and knows the place alone:

      h_i = what position i finds at h_j, for j up to and with i in the order
      g_i = what position i finds at h_j, for j before i in the order         (the same weights; keys are always h's)

  Only g predicts, and only where a prediction is wanted, a sixth of the tokens. Without predictions g is not needed.

As in the published code: post-norm blocks, no bias in attention, dropout also inside the feed-forward networks; scores
for tokens by the embedding table and one bias a token. Against `transformers`: a position that may see nothing at all
finds nothing here, and there the average of all it must not see.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from models import pretrained
from models.config import Config, option
from models.contract import Body, Filler, LeftToRight, Model
from models.inputs import attention_mask
from models.pretrained import xlnet as published
from models.schema import Count, Few, NotNegative, Share, Whole
from models.tokenizers import Tokenizer
from nn import DecoderCache, Dropout, Embedding, LayerNorm, Linear, Module, Parameter, init
from nn.attention import Attention, KeysValues, KVCache, check_heads, split_heads
from nn.layers import ACTIVATIONS
from nn.transformer import Block, Blocks, FeedForward, Stream
from tinytensor import Tensor, backend, no_grad, ops

PRESETS: dict[str, dict] = {
    "toy": dict(vocab_size=1000, context=128, layers=4, heads=4, width=128),
    "base": dict(layers=12, heads=12, width=768),
    "large": dict(layers=24, heads=16, width=1024),
}


@dataclass(frozen=True)
class XLNetConfig(Config):
    """The shape of an XLNet."""

    presets: ClassVar[dict[str, dict]] = PRESETS

    vocab_size: Count = option(32000, "V, the number of different tokens")
    context: Count = option(512, "T, the usual length of a text in tokens; there is no longest one")
    layers: Few = option(12, "L, the number of transformer blocks")
    heads: Few = option(12, "H, the attention heads in a block")
    width: Count = option(768, "C, the length of the vectors between blocks")
    hidden: Whole = option(0, "F, the width inside the feed-forward networks (0: four times C)")
    dropout: Share = option(0.1, "share dropped from embeddings, probabilities, branches and inside the networks")
    activation: Literal[*ACTIVATIONS] = option("gelu", f"of the feed-forward networks: {', '.join(ACTIVATIONS)}")
    memory: Whole = option(0, "M, tokens before a batch that are remembered in the next one (0: none)")
    reuse: Whole = option(0, "how many tokens, from the beginning of a text, go into the memory (0: all)")
    farthest: Whole = option(0, "larger distances count as this one (0: each counts as itself)")
    norm_eps: NotNegative = option(1e-12, "the layer norms' guard against division by zero")
    init_std: NotNegative = option(0.02, "standard deviation of the first weights")
    pad_id: Whole = option(5, "the token that fills up short rows")
    mask_id: Whole = option(6, "the token that stands where one is to be guessed")

    def __post_init__(self):
        super().__post_init__()
        check_heads(self.width, self.heads)
        if self.width % 2:
            raise ValueError(f"width {self.width} must be even: half of a distance is sines, half of it cosines")


class Relation(NamedTuple):
    """How the R rows of a stream stand to the S keys they look at, in one layer.

    distances: (H, P, D) or (B, H, P, D), a vector for each distance, the largest first: of keys far in the past.
    starts: (B, R), which of them is that of the first key; or a number, then row i begins at starts - i.
    keys: S.   other: (B, R, S), 1 where query and key belong to different segments, else 0; or None.
    """

    distances: Tensor
    starts: int | np.ndarray
    keys: int
    other: Tensor | None


class RelativeAttention(Attention):
    """softmax(((q + u) k^T + (q + w) r^T + (q + s) e^T) / sqrt(D)) v,   r the distance's vector, e the segments'

    content, position, segment: the biases u, w and s, (H, D) each.   far: makes r of a distance's sines and cosines.
    segments: (2, H, D), e of a key of the same segment, and of another. What is the same for all keys of a row drops
    out of its softmax: so their difference is added where the segments differ, and nothing where they do not.
    The last two terms are the bias of the fused attention, (B, H, R, S) numbers; no pair of positions has a vector.
    """

    def __init__(self, config: XLNetConfig):
        c, weights = config, init.normal(config.init_std)
        how = dict(memory_width=c.width, bias=False, biased=True, weight_init=weights, output_init=weights)
        super().__init__(c.width, c.heads, dropout=c.dropout, **how)
        self.far = Linear(c.width, c.width, bias=False, weight_init=weights)
        shape = c.heads, c.width // c.heads
        self.content, self.position, self.segment = (Parameter.make(shape, weights) for _ in range(3))
        self.segments = Parameter.make((2, *shape), weights)

    def queries(self, x: Tensor) -> Tensor:
        """q + u: (B, R, C) -> (B, H, R, D)"""
        return split_heads(self.q(x), self.heads) + self._left(self.content)[:, None]

    def distances(self, sines: Tensor) -> Tensor:
        """(..., P, C) -> (..., H, P, D)"""
        r = self.far(sines)
        return self._left(r.reshape(*r.shape[:-1], len(self.content), self.head_width)).swapaxes(-2, -3)

    def _left(self, a: Tensor) -> Tensor:
        """(..., H, D) -> the same of those heads that pruning left."""
        return a if self.kept_heads is None else a[..., self.kept_heads.data, :]

    def _how(self, mask, relation: Relation, queries: Tensor) -> dict:
        """The keywords of ops.attention for these queries, which are q + u."""
        distances, starts, keys, other = relation
        scaled = lambda bias: (queries + self._left(bias - self.content)[:, None]) * self.head_width**-0.5
        scores = scaled(self.position) @ distances.swapaxes(-1, -2)  # (B, H, R, P): of every distance that occurs
        bias = ops.stretches(scores, starts, keys)  # (B, H, R, S): of each key's
        if other is not None:
            e = self._left(self.segments[1] - self.segments[0])  # (H, D)
            bias = bias + (scaled(self.segment) @ e[:, :, None]) * other[:, None]
        return super()._how(mask, None, queries) | {"bias": bias}


class Layer(Block):
    """norm1(x + attention(x)), then norm2(x + feed_forward(x)): of either stream, over the same keys and values."""

    def __init__(self, config: XLNetConfig):
        c, weights = config, init.normal(config.init_std)
        first = dict(weight_init=weights, output_init=weights)
        network = FeedForward(c.width, c.hidden or 4 * c.width, activation=c.activation, dropout=c.dropout, **first)
        norm = lambda: LayerNorm(c.width, eps=c.norm_eps)
        super().__init__(RelativeAttention(c), network, norm, dropout=c.dropout, post_norm=True)

    def __call__(self, x: Stream, mask, relation: Relation, keys_values: KeysValues) -> Stream:
        x = self._add(x, self.attention(x.full, mask, relation, memory=keys_values), self.norm1, self.dropout1)
        return self._add(x, self.feed_forward(x.full), self.norm2, self.dropout2)


class Written(DecoderCache):
    """What was written so far, and the vectors of all distances in it, (H, 2 x capacity, D) a layer, made but once."""

    def __init__(self, layers: list[KVCache], distances: list[Tensor]):
        super().__init__(layers)
        self.distances = distances


@dataclass
class Read:
    """What XLNet makes of a batch. content: (B, T, C), or None where only predictions were wanted; asked: (B, K, C),
    those; inputs: (B, T, C) of each layer, what it read."""

    content: Tensor | None
    asked: Tensor | None
    inputs: list


class XLNet(Module, Model, Body, LeftToRight, Filler, pretrained.Published):
    """ids (B, T) -> scores (B, T, V); or, of the tokens at `places` (B, K), (B, K, V). See `read`."""

    config_class, kinds, heads = XLNetConfig, ("xlnet",), ("output_bias",)

    def __init__(self, config: XLNetConfig):
        self.config = config
        weights = init.normal(config.init_std)
        self.embedding = Embedding(config.vocab_size, config.width, weights)
        self.unknown = Parameter.make((config.width,), weights)  # what the query stream starts from at every place
        self.blocks = Blocks(Layer(config) for _ in range(config.layers))
        self.output_bias = Parameter.make((config.vocab_size,), init.zeros)
        self.dropout = Dropout(config.dropout)

    @property
    def output_table(self) -> Tensor:
        return self.embedding.weight

    def __call__(self, ids, token_types=None, mask=None, sees=None, places=None, memory=None, remembered=None,
                 backwards=None) -> Tensor:
        found = self.read(ids, token_types, mask, sees, places, memory, remembered, backwards)
        return self._scored(found.content if found.asked is None else found.asked)

    def _scored(self, x: Tensor) -> Tensor:
        return ops.linear(x, self.output_table, self.output_bias)

    def read(self, ids, token_types=None, mask=None, sees=None, places=None, memory=None, remembered=None,
             backwards=None) -> Read:
        """ids, token_types: (B, T), the tokens and their segments (None: all of one).   mask: (B, T), False at padding.

        sees: (B, T, T), True where row i may see token j (None: it may see all); besides, the content stream sees its
            own token.   places: (B, K), where the query stream shall predict, each by what its row of `sees` may see;
            without them there is no query stream, without `sees` they would be known through what others have seen.
        memory, remembered: of the batch before, see new_state.   backwards: (B,), True where a row's text is reversed,
            so that its distances are counted the other way.
        """
        if ids.ndim != 2:
            raise ValueError(f"XLNet reads ids of shape (B, T), not {ids.shape}")
        if places is not None and sees is None:
            raise ValueError("places are to be predicted, but nothing says who sees whom: give sees (B, T, T) too")
        T, M, like = ids.shape[1], 0 if memory is None else memory.shape[2], self.unknown.data
        content, asked = self._masks(attention_mask(mask, ids.shape, like), sees, places, T, M, remembered)
        segments = None if token_types is None else backend.beside(like, token_types)
        distances = np.arange(M + T, -T, -1)  # largest first; none is M + T, but of a token that is to follow the last
        sines = self.dropout(self._sines(distances))  # (P, C)
        if backwards is not None:
            sines = ops.stack([sines, self.dropout(self._sines(-distances))])
        h, g, inputs = Stream(self.dropout(self.embedding(ids))), None, []
        here = T, M + T, _others(segments, segments, M, like)
        if places is not None:
            g = Stream(self.dropout(ops.broadcast_to(self.unknown, (*places.shape, self.config.width))))
            of = None if segments is None else _at(segments, places)
            there = T - backend.beside(like, places), M + T, _others(of, segments, M, like)
        for n, block in enumerate(self.blocks):
            inputs.append(h.full.data)
            looked_at = h.full if memory is None else ops.concatenate([Tensor(memory[:, n]), h.full], axis=1)
            keys_values, far = block.attention.keys_values(looked_at), block.attention.distances(sines)
            if backwards is not None:  # (2, H, P, D) -> (B, H, P, D)
                rows = backend.beside(like, backwards).astype(int)
                far = ops.embedding(far.reshape(2, -1), rows).reshape(len(rows), *far.shape[1:])
            if g is not None:
                g = block(g, asked, Relation(far, *there), keys_values)
            if g is None or n < len(self.blocks) - 1:  # what the last layer's content stream would say, nobody reads
                h = block(h, content, Relation(far, *here), keys_values)
        return Read(*(None if x is None else self.dropout(x.full) for x in (h if g is None else None, g)), inputs)

    def _sines(self, distances: np.ndarray) -> Tensor:
        """(P,) -> (P, C): sines, then cosines, of the distance times C / 2 frequencies, in float32 as published."""
        c, like = self.config, self.unknown
        if c.farthest:
            distances = distances.clip(-c.farthest, c.farthest)
        frequencies = 1 / np.float32(10000) ** (np.arange(0, c.width, 2, dtype=np.float32) / np.float32(c.width))
        angles = distances.astype(np.float32)[:, None] * frequencies
        return Tensor(like.xp.asarray(np.concatenate([np.sin(angles), np.cos(angles)], axis=1), like.dtype))

    def _masks(self, mask, sees, places, T: int, M: int, remembered) -> tuple:
        """What the two streams' rows may look at: (B or 1, T, M + T) and (B, K, M + T) booleans; None: at everything.

        The content stream sees its own token, also where that is padding: a row always has something to look at.
        """
        xp, like = self.unknown.xp, self.unknown.data
        own, real = xp.eye(T, M + T, M, dtype=bool)[None], None if mask is None else mask[:, None]  # (B, 1, T)
        if M and (remembered is not None or mask is not None):
            count = backend.beside(like, [M] if remembered is None else remembered)
            filled = xp.arange(M) >= M - count[:, None, None]  # (B or 1, 1, M)
            real = xp.ones((1, 1, T), bool) if real is None else real
            rows = max(len(filled), len(real))
            real = xp.concatenate([xp.broadcast_to(part, (rows, *part.shape[1:])) for part in (filled, real)], axis=2)
        if sees is not None:
            sees = xp.pad(backend.beside(like, sees), ((0, 0), (0, 0), (M, 0)), constant_values=True)
        seen = real if sees is None else sees if real is None else sees & real
        return None if seen is None else seen | own, None if places is None else _at(seen, places)

    # ---- learning

    def loss(self, batch: dict, counts: dict[str, int] | None = None) -> Tensor:
        """The mean of -log p(target), in nats, over the tokens asked for.

        batch: ids (B, T), places and targets (B, K), padded with IGNORED; and, if any, token_types, mask, sees,
        backwards, see `read`, and memory and remembered, which are overwritten with those for the batch that follows.
        """
        counts = counts or self.divisors(batch)
        found = self._read(batch)
        if "memory" in batch:
            self.remember(batch, found.inputs)
        total = ops.linear_cross_entropy(found.asked, self.output_table, batch["targets"], self.output_bias,
                                         reduction="sum")  # fmt: skip
        return total / counts["targets"]

    def _read(self, batch: dict) -> Read:
        names = ("token_types", "mask", "sees", "places", "memory", "remembered", "backwards")
        return self.read(batch["ids"], **{name: batch[name] for name in names if name in batch})

    def scores(self, batch: dict) -> Tensor:
        """(B, K, V): of the tokens at the places asked for."""
        return self._scored(self._read(batch).asked)

    def new_state(self, rows: int) -> dict:
        """An empty memory. memory: (rows, L, M, C), what each layer read at the M tokens before; remembered: (rows,),
        how many of them, the last ones, there were."""
        c, like = self.config, self.unknown
        if not c.memory:
            return {}
        memory = like.xp.zeros((rows, len(self.blocks), c.memory, c.width), like.dtype)
        return {"memory": memory, "remembered": like.xp.zeros(rows, int)}

    def remember(self, state: dict, inputs: list) -> None:
        """Put what the layers read, (B, T, C) each, behind what a state holds; no gradient goes back through it."""
        c, xp = self.config, self.unknown.xp
        new = xp.stack(inputs, axis=1)[:, :, : c.reuse or None]  # (B, L, R, C)
        state["memory"][...] = xp.concatenate([state["memory"], new], axis=2)[:, :, -c.memory :]
        state["remembered"][...] = xp.minimum(state["remembered"] + new.shape[2], c.memory)

    # ---- filling in, and as the body under a task's head (models/heads.py)

    def fill_scores(self, ids, token_types=None, mask=None) -> Tensor:
        """(B, T, V): of the token at every place, by all tokens but those at mask_id, which are to be guessed.

        Where there is a token its own score is no guess: as in BERT, it is among those that are seen.
        """
        xp, (B, T) = self.unknown.xp, ids.shape
        sees = xp.broadcast_to((backend.beside(self.unknown.data, ids) != self.config.mask_id)[:, None], (B, T, T))
        return self(ids, token_types, mask, sees=sees, places=xp.broadcast_to(xp.arange(T), (B, T)))

    pools = False

    @property
    def feature_width(self) -> int:
        return self.config.width

    def features(self, batch: dict) -> Tensor:
        """A vector for every token, (B, T, C), of the arrays "ids", and where given "token_types" and "mask"."""
        return self.read(batch["ids"], batch.get("token_types"), batch.get("mask")).content

    def summary(self, batch: dict) -> Tensor:
        """A vector for every row, (B, C): that of its last token, <cls>, on whichever side its padding stands."""
        x = self.features(batch)
        if batch.get("mask") is None:
            return x[:, -1]
        mask = backend.beside(x.data, batch["mask"])
        return x[x.xp.arange(len(mask)), mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)]

    # ---- writing from left to right

    def hidden(self, ids, mask=None, cache: DecoderCache | None = None) -> Tensor:
        """(B, T, C): for each token the query stream's vector at the place behind it, made of the tokens up to there.

        That is the order from left to right: a token's content, too, is made of those before it. An XLNet learns from
        all orders and meets this one seldom, so a GPT of its size scores a text better.
        """
        if cache is not None:
            return self._go_on(ids, cache, mask, causal=True)
        xp, like, (B, T) = self.unknown.xp, self.unknown.data, ids.shape
        more = lambda a, last: xp.concatenate([backend.beside(like, a), xp.full((B, 1), last)], axis=1)
        sees = xp.broadcast_to(xp.tri(T + 1, k=-1, dtype=bool), (B, T + 1, T + 1))
        places = xp.broadcast_to(xp.arange(1, T + 1), (B, T))
        mask = None if mask is None else more(mask, True)
        return self.read(more(ids, self.config.pad_id), None, mask, sees=sees, places=places).asked

    def new_cache(self, batch: int, capacity: int | None = None) -> DecoderCache:
        """Empty memory for texts of up to `capacity` tokens (the context, if not said)."""
        capacity, like = capacity or self.config.context, self.unknown.data
        layers = [block.attention.new_cache(batch, capacity, like) for block in self.blocks]
        with no_grad():
            sines = self._sines(np.arange(capacity, -capacity, -1))
            return Written(layers, [block.attention.distances(sines) for block in self.blocks])

    def step(self, ids, cache: DecoderCache, mask=None):
        """Read the tokens `ids` (B, T) that follow the cached ones; returns the next token's scores, a raw (B, V).

        Tokens that are read together see each other, as those do from which XLNet learns to predict the others: a
        prompt is understood both ways. What is written then follows in order.
        """
        with no_grad():
            return self._scored(self._go_on(ids, cache, mask, causal=False)[:, -1]).data

    def _go_on(self, ids, cache: Written, mask, causal: bool) -> Tensor:
        """The query stream's vectors behind the new tokens: behind each (B, T, C) if causal, else behind the last."""
        xp, (B, T), start = self.unknown.xp, ids.shape, cache.length
        S = start + T
        _, real = cache.look(T, mask)  # (B, S)
        seen = xp.tri(T, S, start, dtype=bool)[None] if causal else xp.ones((1, 1, S), bool)
        seen = seen if real is None else seen & real[:, None]
        own, first = xp.eye(T, S, start, dtype=bool), cache.layers[0].capacity - S  # S is the largest distance
        h = Stream(self.embedding(ids))
        g = Stream(ops.broadcast_to(self.unknown, (B, seen.shape[1], self.config.width)))
        for block, kept, distances in zip(self.blocks, cache.layers, cache.distances):
            far, (k, v) = distances[:, first : first + S + T], block.attention.keys_values(h.full)
            keys_values = tuple(map(Tensor, kept.append(k.data, v.data)))
            g = block(g, seen, Relation(far, seen.shape[1] - 1, S, None), keys_values)
            h = block(h, seen | own, Relation(far, T, S, None), keys_values)
        return g.full

    def save_pretrained(self, folder: str | Path, tokenizer: Tokenizer | None = None) -> None:
        """Write a folder that `transformers` opens as XLNetLMHeadModel; see pretrained.save."""
        pretrained.save(self, published.LAYOUT, folder, {}, tokenizer)


def _at(rows, places):
    """rows (B, T, ...), places (B, K) -> (B, K, ...)"""
    xp = backend.array_module(rows)
    return rows[xp.arange(len(rows))[:, None], backend.beside(rows, places)]


def _others(queries, keys, M: int, like) -> Tensor | None:
    """(B, R, M + T), 1 where the segments of a query (B, R) and a key (B, T) differ; all that is remembered is of 0."""
    if keys is None:
        return None
    xp = backend.array_module(like)
    keys = xp.concatenate([xp.zeros((len(keys), M), keys.dtype), keys], axis=1)
    return Tensor((queries[:, :, None] != keys[:, None]).astype(like.dtype))
