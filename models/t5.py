"""T5: every text task as text in, text out (Raffel et al. 2020, arXiv:1910.10683).

An encoder reads the input, every position seeing every other; a decoder writes the output one token after another,
each of its blocks also looking at what the encoder made of the input (cross-attention). That is the transformer of
Vaswani et al. 2017, and translation, summaries and answers are all one problem to it.

Notable, against the original:
- RMS norm before each branch, and once more at the end of either stack; no biases anywhere
- no position embedding: each head adds to its scores a learned number for the distance between query and key. Distances
  are put into 32 buckets, finer when near; all blocks of a stack share the numbers; cross-attention has none
- attention scores are not divided by sqrt(D): the first query weights are smaller by as much
- one table embeds input and output and gives the scores; the final vectors are multiplied by 1/sqrt(C) before it
T5 v1.1 (the presets "t5-v1.1-...", also mT5's and ByT5's form) has a gated GELU in place of ReLU (Shazeer
2020, arXiv:2002.05202) and an output table of its own, without that scale.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from models import pretrained
from models.config import Config, check_choice, check_not_negative, check_positive, check_shares, option
from models.contract import Model, Writer
from models.pretrained import t5 as published
from models.tokenizers import Tokenizer
from nn import DecoderCache, Dropout, Embedding, KVCache, Linear, Module, Parameter, RMSNorm, init
from nn.attention import attention_mask, merge_heads, split_heads
from nn.transformer import ACTIVATIONS
from tinytensor import Tensor, backend, no_grad, ops
from tinytensor.ops.attention import unpack_heads
from tinytensor.ops.softmax import IGNORED

V1_1 = dict(activation="gelu_tanh", gated=True, tied=False)
PRESETS: dict[str, dict] = {
    "t5-small": dict(layers=6, width=512, hidden=2048, heads=8),
    "t5-base": dict(layers=12, width=768, hidden=3072, heads=12),
    "t5-large": dict(layers=24, width=1024, hidden=4096, heads=16),
    "t5-3b": dict(layers=24, width=1024, hidden=16384, heads=32, head_width=128),
    "t5-11b": dict(layers=24, width=1024, hidden=65536, heads=128, head_width=128),
    "t5-v1.1-small": dict(V1_1, layers=8, width=512, hidden=1024, heads=6),
    "t5-v1.1-base": dict(V1_1, layers=12, width=768, hidden=2048, heads=12),
    "t5-v1.1-large": dict(V1_1, layers=24, width=1024, hidden=2816, heads=16),
    "t5-v1.1-xl": dict(V1_1, layers=24, width=2048, hidden=5120, heads=32),
    "t5-v1.1-xxl": dict(V1_1, layers=24, width=4096, hidden=10240, heads=64),
}


@dataclass(frozen=True)
class T5Config(Config):
    """The shape of a T5."""

    presets: ClassVar[dict[str, dict]] = PRESETS

    vocab_size: int = option(32128, "V, the number of different tokens")
    layers: int = option(6, "L, the encoder's transformer blocks")
    decoder_layers: int = option(0, "the decoder's blocks (0: as many as the encoder's)")
    heads: int = option(8, "H, the attention heads in a block")
    head_width: int = option(64, "D, the length of a head's queries, keys and values")
    width: int = option(512, "C, the length of the vectors between blocks")
    hidden: int = option(2048, "F, the inner width of the feed-forward networks")
    buckets: int = option(32, "how many numbers for the distances between positions a head has")
    max_distance: int = option(128, "distances from this one on share the last bucket")
    activation: str = option("relu", "of the feed-forward networks: relu, gelu_tanh (v1.1's), gelu, silu")
    gated: bool = option(False, "multiply the activation by a second projection (v1.1)")
    tied: bool = option(True, "use the token embedding as the output table too (not in v1.1)")
    dropout: float = option(0.0, "share dropped from embeddings, probabilities, branches and inside the networks")
    norm_eps: float = option(1e-6, "added to the mean square in the norms")
    pad_id: int = option(0, "the token that fills up short rows, and that every output starts from")
    eos_id: int = option(1, "the token that ends inputs and outputs")

    def __post_init__(self):
        check_positive(self, "vocab_size", "layers", "heads", "head_width", "width", "hidden")
        check_not_negative(self, "decoder_layers", "norm_eps")
        if self.buckets < 4 or self.buckets % 2:
            raise ValueError(f"buckets must be an even number from 4 on, not {self.buckets}")
        if self.max_distance <= self.buckets // 2:
            raise ValueError(f"max_distance {self.max_distance} must be more than half of the {self.buckets} buckets")
        check_shares(self, "dropout")
        check_choice(self, "activation", ACTIVATIONS)
        for name in ("pad_id", "eos_id"):
            if not 0 <= vars(self)[name] < self.vocab_size:
                raise ValueError(f"{name} {vars(self)[name]} is outside the vocabulary of {self.vocab_size} tokens")


class T5(Module, Model, Writer):
    """(ids (B, S), decoder ids (B, T)) -> logits (B, T, V): the scores of the token after each one of the output."""

    repeatable = True  # a step does the same for every batch of one shape, so a CUDA graph can repeat it (--graph)

    def __init__(self, config: T5Config):
        self.config = config
        self.embedding = Embedding(config.vocab_size, config.width, init.normal(1.0))
        self.encoder = Stack(config, config.layers)
        self.decoder = Stack(config, config.decoder_layers or config.layers, decoder=True)
        first = init.normal(config.width**-0.5)
        self.head = None if config.tied else Linear(config.width, config.vocab_size, bias=False, weight_init=first)

    @property
    def output_table(self) -> Tensor:
        """(V, C): a row per token, to be compared with a position's final vector."""
        return self.head.weight if self.head else self.embedding.weight

    def __call__(self, input_ids, decoder_input_ids, mask=None) -> Tensor:
        """input_ids: (B, S).   decoder_input_ids: (B, T), the output moved one to the right, behind pad_id.
        mask: (B, S), True at the input's tokens and False at its padding (all are tokens if None).
        """
        memory, mask = self.encode(input_ids, mask)
        return ops.linear(self.decode(decoder_input_ids, memory, mask), self.output_table)  # (B, T, V)

    def encode(self, input_ids, mask=None) -> tuple[Tensor, object]:
        """The memory (B, S, C) that the decoder looks at, and its mask as attention wants it, (B, 1, 1, S)."""
        _check_ids("input", input_ids)
        mask = attention_mask(mask, input_ids.shape, self.embedding.weight.data)
        return self.encoder(self.embedding(input_ids), mask), mask

    def decode(self, ids, memory: Tensor | None = None, mask=None, cache: DecoderCache | None = None) -> Tensor:
        """The final vectors (B, T, C) of the output's ids (B, T), ready to be compared with the output table.

        memory, mask: from `encode`. Or else a cache from `new_cache`; ids then follow the cached ones, and the mask is
        that of all the output's positions so far, (B, 1, 1, S), if there is padding among them.
        """
        _check_ids("output", ids)
        blocks = self.decoder.blocks
        if cache is None:
            memory = [(*block.cross.keys_values(memory), mask) for block in blocks]
            return self._scaled(self.decoder(self.embedding(ids), None, memory))
        names, looked_at = [(f"keys.{n}", f"values.{n}") for n in range(len(blocks))], cache.memory.get("mask")
        memory = [(Tensor(cache.memory[keys]), Tensor(cache.memory[values]), looked_at) for keys, values in names]
        return self._scaled(self.decoder(self.embedding(ids), mask, memory, cache))

    def _scaled(self, x: Tensor) -> Tensor:
        return x * self.config.width**-0.5 if self.config.tied else x

    def loss(self, batch: dict, counts: dict[str, int] | None = None) -> Tensor:
        """The mean of -log p(target), in nats per token.

        batch: "ids" (B, S), optionally their "mask" (B, S), and "targets" (B, T), padded with IGNORED.
        counts: divide the sum by counts["targets"] instead of by the number of the batch's own targets.
        """
        targets, counts = batch["targets"], counts or self.counts(batch)
        memory, mask = self.encode(batch["ids"], batch.get("mask"))
        # A step that a CUDA graph repeats finds its inputs on the GPU, and what is made of them must be made there.
        given = backend.beside(self.output_table.data, targets) if backend.repeated() else targets
        hidden = self.decode(shift_right(given, self.config.pad_id), memory, mask)
        total = ops.linear_cross_entropy(hidden, self.output_table, targets, reduction="sum")
        return total / counts["targets"]

    reads_source = True

    def scores(self, batch: dict) -> Tensor:
        return self(batch["ids"], shift_right(batch["targets"], self.config.pad_id), batch.get("mask"))

    def right(self, batch: dict):
        return batch["targets"]

    def counts(self, batch: dict) -> dict[str, int]:
        """How many predictions the loss of a batch is the mean of."""
        return {"targets": ops.count_targets(batch["targets"])}

    def new_cache(self, batch: int, capacity: int = 512, *, source, source_mask=None) -> DecoderCache:
        """What is needed to write outputs of up to `capacity` tokens for `batch` inputs, source (B, S).

        The encoder runs here, once. The cache's memory holds the keys and values that each decoder block's
        cross-attention makes of the encoder's vectors.   source_mask: (B, S), False at padding.
        """
        if len(source) != batch:
            raise ValueError(f"a cache for {batch} outputs needs as many inputs, not {len(source)}")
        like, attentions = self.embedding.weight.data, [block.attention for block in self.decoder.blocks]
        own = [KVCache(batch, one.heads, capacity, one.head_width, like) for one in attentions]
        with no_grad():
            vectors, mask = self.encode(source, source_mask)
            memory = {} if mask is None else {"mask": mask}
            for layer, block in enumerate(self.decoder.blocks):
                keys, values = block.cross.keys_values(vectors)
                memory |= {f"keys.{layer}": keys.data, f"values.{layer}": values.data}
        return DecoderCache(own, memory)

    def step(self, ids, cache: DecoderCache, mask=None):
        """Read the tokens `ids` (B, T) of the output after the cached ones; the next token's logits, a raw (B, V).

        mask: (B, T), False at padding before the output's first token.
        """
        with no_grad():
            seen = cache.see(ids.shape[1], mask)
            mask = None if seen is None else attention_mask(seen, seen.shape, self.embedding.weight.data)
            last = self.decode(ids, None, mask, cache)[:, -1]
            return ops.linear(last, self.output_table).data

    # ---- published folders

    @classmethod
    def from_pretrained(cls, folder: str | Path, **changes) -> T5:
        """The T5 in a Hugging Face folder, in evaluation mode; changes: config fields, such as dropout."""
        return pretrained.load(cls, T5Config, published.LAYOUTS, folder, changes)[0]

    def save_pretrained(self, folder: str | Path, tokenizer: Tokenizer | None = None) -> None:
        """Write a folder that `transformers` opens as T5ForConditionalGeneration; see pretrained.save."""
        pretrained.save(self, published.LAYOUT, folder, {}, tokenizer)


def shift_right(targets, start_id: int):
    """What the decoder reads so as to predict `targets` (B, T): start_id, then all targets but the last."""
    xp = backend.array_module(targets)
    ids = xp.full_like(targets, start_id)
    ids[:, 1:] = xp.where(targets[:, :-1] == IGNORED, start_id, targets[:, :-1])
    return ids


class Stack(Module):
    """The encoder's blocks, or the decoder's, and what they share: relative positions and the last norm."""

    def __init__(self, config: T5Config, layers: int, decoder: bool = False):
        self.positions = RelativePositions(config, both_ways=not decoder)
        self.blocks = [Block(config, decoder) for _ in range(layers)]
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.dropout = Dropout(config.dropout)

    def __call__(self, x: Tensor, mask=None, memory=None, cache: DecoderCache | None = None) -> Tensor:
        """x: (B, T, C).   mask: (B, 1, 1, S), of the stack's own keys.   cache: of what the decoder read before x.
        memory: for the decoder, what each block's cross-attention looks at: its keys, its values and their mask.
        """
        T = x.shape[1]
        if cache and cache.place is not None:
            bias, mask = self.positions.at(cache.place, cache.capacity), cache.written()
        else:
            bias = self.positions(T, T + (cache.length if cache else 0))  # (H, T, S)
        nothing = [None] * len(self.blocks)
        x, branch = self.dropout(x), None
        for block, looked_at, own in zip(self.blocks, memory or nothing, cache.layers if cache else nothing):
            x, branch = block(x, branch, bias, mask, looked_at, own)
        return self.dropout(self.norm.add(x, branch)[1])


class Block(Module):
    """x = x + attention(norm(x)), in the decoder x = x + cross(norm(x)), then x = x + feed_forward(norm(x)).

    As in nn.PreNormBlock the last branch is left for the next block to add: x, branch = block(x, branch, ...).
    """

    def __init__(self, config: T5Config, decoder: bool):
        self.norm1 = RMSNorm(config.width, config.norm_eps)
        self.attention = SelfAttention(config, causal=decoder)
        self.cross_norm = RMSNorm(config.width, config.norm_eps) if decoder else None
        self.cross = CrossAttention(config) if decoder else None
        self.norm2 = RMSNorm(config.width, config.norm_eps)
        self.feed_forward = FeedForward(config)
        self.dropout = Dropout(config.dropout)

    def __call__(self, x: Tensor, branch: Tensor | None, bias: Tensor, mask, memory, cache: KVCache | None):
        """bias: (H, T, S).   The others are those of Stack, for this block."""
        x, y = self.norm1.add(x, branch)
        branch = self.attention(y, bias, mask, cache)
        if self.cross:
            x, y = self.cross_norm.add(x, branch, self.dropout)
            branch = self.cross(y, *memory)
        x, y = self.norm2.add(x, branch, self.dropout)
        return x, self.dropout(self.feed_forward(y))


class SelfAttention(Module):
    """softmax(q k^T + bias) v over the positions of one sequence: no scale, no biases in the projections.

    `qkv.weight` is (3 H D, C), the rows of q, then k, then v; H D need not be C.   bias: (H, T, S), see below.
    """

    def __init__(self, config: T5Config, causal: bool):
        self.heads, self.head_width = config.heads, config.head_width
        self.kept_heads = None  # which of all heads these are, where pruning took some away (nn/compression/surgery.py)
        self.causal, self.drop = causal, config.dropout
        C, inner = config.width, config.heads * config.head_width
        self.qkv = Linear(C, 3 * inner, bias=False, weight_init=_first_qkv(config))
        self.out = Linear(inner, C, bias=False, weight_init=init.normal(inner**-0.5))

    def __call__(self, x: Tensor, bias: Tensor, mask=None, cache: KVCache | None = None) -> Tensor:
        qkv = self.qkv(x)  # (B, T, 3 H D)
        bias = bias if self.kept_heads is None else bias[self.kept_heads.data]
        options = dict(causal=self.causal, mask=mask, bias=bias, scale=1.0)
        if cache is None:
            drop = self.drop if self.training else 0.0
            return self.out(ops.self_attention(qkv, self.heads, dropout=drop, **options))
        q, k, v = unpack_heads(qkv.data, 3, self.heads)  # (B, H, T, D) each
        keys, values = cache.append(k, v)
        return self.out(merge_heads(ops.attention(Tensor(q), Tensor(keys), Tensor(values), **options)))


class CrossAttention(Module):
    """Every position of the output looks at all of the memory, without any notion of distance.

    `kv.weight` is (2 H D, C), the rows of k, then v.
    """

    def __init__(self, config: T5Config):
        self.heads, self.head_width, self.drop = config.heads, config.head_width, config.dropout
        C, inner = config.width, config.heads * config.head_width
        self.q = Linear(C, inner, bias=False, weight_init=_first_q(config))
        self.kv = Linear(C, 2 * inner, bias=False, weight_init=init.normal(C**-0.5))
        self.out = Linear(inner, C, bias=False, weight_init=init.normal(inner**-0.5))

    def keys_values(self, memory: Tensor) -> list[Tensor]:
        """The memory (B, S, C) as keys and values, (B, H, S, D) each."""
        return [split_heads(part, self.heads) for part in self.kv(memory).split(2)]

    def __call__(self, x: Tensor, keys: Tensor, values: Tensor, mask=None) -> Tensor:
        q = split_heads(self.q(x), self.heads)
        drop = self.drop if self.training else 0.0
        return self.out(merge_heads(ops.attention(q, keys, values, mask=mask, scale=1.0, dropout=drop)))


class FeedForward(Module):
    """out(activation(into(x))), or if gated (v1.1) out(activation(gate(x)) * into(x)); dropout before `out`."""

    def __init__(self, config: T5Config):
        C, F = config.width, config.hidden
        first = init.normal(C**-0.5)
        self.gate = Linear(C, F, bias=False, weight_init=first) if config.gated else None
        self.into = Linear(C, F, bias=False, weight_init=first)
        self.out = Linear(F, C, bias=False, weight_init=init.normal(F**-0.5))
        self.activation = ACTIVATIONS[config.activation]
        self.dropout = Dropout(config.dropout)

    def __call__(self, x: Tensor) -> Tensor:
        h = self.activation(self.gate(x)) * self.into(x) if self.gate else self.activation(self.into(x))
        return self.out(self.dropout(h))


class RelativePositions(Module):
    """A number per head and bucket of distances, `weight` (buckets, H), added to the scores of attention."""

    def __init__(self, config: T5Config, both_ways: bool):
        self.weight = Parameter.make((config.buckets, config.heads), init.normal(config.width**-0.5))
        self.both_ways, self.max_distance = both_ways, config.max_distance

    def __call__(self, T: int, S: int) -> Tensor:
        """(H, T, S) for the last T of S positions as queries and all S as keys.

        The same distance stands along each diagonal, so a head has no more than T + S - 1 different numbers.
        """
        buckets = diagonal_buckets(T, S, self.both_ways, len(self.weight), self.max_distance)
        return ops.toeplitz(ops.embedding(self.weight, buckets).T, T, S)

    def at(self, place, S: int) -> Tensor:
        """(H, 1, S) for one query at `place`, (1,), and S keys; those behind it get the number of distance 0."""
        xp = self.weight.xp
        buckets = diagonal_buckets(1, S, self.both_ways, len(self.weight), self.max_distance)
        numbers = ops.embedding(self.weight, buckets)  # (S, H)
        away = xp.arange(S) - backend.beside(self.weight.data, place)  # the last row of `numbers` is for distance 0
        return Tensor(xp.take(numbers.data, xp.minimum(away, 0) + (S - 1), axis=0).T[:, None])


def relative_position_bucket(distance, both_ways: bool, buckets: int = 32, max_distance: int = 128) -> np.ndarray:
    """The bucket of each distance (position of the key minus that of the query).

    both_ways: the upper half of the buckets is for keys after the query; otherwise those count as distance 0. Half of
    the buckets of a direction are for single distances 0, 1, 2, ..., the others for ranges that grow by a constant
    factor up to max_distance. From there on all share the last.
    """
    distance = np.asarray(distance)
    if both_ways:
        buckets //= 2
        side, r = np.where(distance > 0, buckets, 0), np.abs(distance)
    else:
        side, r = 0, np.maximum(-distance, 0)
    exact = buckets // 2
    growth = np.log(np.maximum(r, exact) / exact) / math.log(max_distance / exact)  # 0 at `exact`, 1 at max_distance
    far = np.minimum(exact + (growth * (buckets - exact)).astype(int), buckets - 1)
    return side + np.where(r < exact, r, far)


@functools.lru_cache(maxsize=64)
def diagonal_buckets(T: int, S: int, both_ways: bool, buckets: int, max_distance: int) -> np.ndarray:
    """The buckets of all T + S - 1 distances between the last T of S positions and all S, from the lowest up."""
    distances = np.arange(T + S - 1) - (S - 1)  # key minus query, from the last query and the first key on
    found = relative_position_bucket(distances, both_ways, buckets, max_distance)
    found.setflags(write=False)  # so a CUDA graph knows it for a constant
    return found


def _first_q(config: T5Config) -> init.Initializer:
    """Smaller than keys' by sqrt(D), in place of dividing the scores by it."""
    return init.normal((config.width * config.head_width) ** -0.5)


def _first_qkv(config: T5Config) -> init.Initializer:
    q, kv = _first_q(config), init.normal(config.width**-0.5)

    def fill(shape: tuple[int, ...]) -> np.ndarray:
        third = (shape[0] // 3, shape[1])
        return np.concatenate([q(third), kv(third), kv(third)])

    return fill


def _check_ids(what: str, ids) -> None:
    if ids.ndim != 2 or ids.shape[1] == 0:
        raise ValueError(f"T5 reads {what} ids of shape (B, T) with at least one token, not {ids.shape}")
