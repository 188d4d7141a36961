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

import functools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np

from models import pretrained
from models.config import option
from models.contract import Model, Writer
from models.inputs import attention_mask
from models.mixture import Mixture
from models.pretrained import t5 as published
from models.schema import Count, Few, NotNegative, Range, Share, Whole
from models.tokenizers import Tokenizer
from nn import DecoderCache, Dropout, Embedding, Linear, Module, Parameter, RMSNorm, init
from nn.attention import Attention, KeysValues
from nn.layers import ACTIVATIONS
from nn.transformer import Block, Blocks, FeedForward, Stream
from tinytensor import Tensor, backend, no_grad, ops
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
class T5Config(Mixture):
    """The shape of a T5."""

    presets: ClassVar[dict[str, dict]] = PRESETS

    vocab_size: Count = option(32128, "V, the number of different tokens")
    layers: Few = option(6, "L, the encoder's transformer blocks")
    decoder_layers: Whole = option(0, "the decoder's blocks (0: as many as the encoder's)")
    heads: Few = option(8, "H, the attention heads in a block")
    head_width: Count = option(64, "D, the length of a head's queries, keys and values")
    width: Count = option(512, "C, the length of the vectors between blocks")
    hidden: Count = option(2048, "F, the inner width of the feed-forward networks")
    buckets: Annotated[int, Range(4, 10_000)] = option(32, "a head's numbers for the distances between positions")
    max_distance: Count = option(128, "distances from this one on share the last bucket")
    activation: Literal[*ACTIVATIONS] = option("relu", f"of the feed-forward networks: {', '.join(ACTIVATIONS)}")
    gated: bool = option(False, "multiply the activation by a second projection (v1.1)")
    tied: bool = option(True, "use the token embedding as the output table too (not in v1.1)")
    dropout: Share = option(0.0, "share dropped from embeddings, probabilities, branches and inside the networks")
    norm_eps: NotNegative = option(1e-6, "added to the mean square in the norms")
    pad_id: Whole = option(0, "the token that fills up short rows, and that every output starts from")
    eos_id: Whole = option(1, "the token that ends inputs and outputs")

    @property
    def start_id(self) -> int:
        """What every output starts from."""
        return self.pad_id

    def __post_init__(self):
        super().__post_init__()
        if self.buckets % 2:
            raise ValueError(f"buckets must be an even number, not {self.buckets}")
        if self.max_distance <= self.buckets // 2:
            raise ValueError(f"max_distance {self.max_distance} must be more than half of the {self.buckets} buckets")
        for name, token in (("pad_id", self.pad_id), ("eos_id", self.eos_id)):
            if token >= self.vocab_size:
                raise ValueError(f"{name} {token} is outside the vocabulary of {self.vocab_size} tokens")


class T5(Module, Model, Writer, pretrained.Published):
    """(ids (B, S), decoder ids (B, T)) -> logits (B, T, V): the scores of the token after each one of the output."""

    config_class, kinds = T5Config, ("t5", "mt5")  # which from_pretrained reads
    reads_source = True
    label_smoothing = 0.0

    def __init__(self, config: T5Config):
        self.config = config
        self.repeatable = not config.experts  # whether a step does the same for every batch of one shape (--graph)
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
        vectors, mask = self.encode(input_ids, mask)
        vectors = self.decode(decoder_input_ids, self.memory_of(vectors), mask)
        return (self.head or self.embedding).compared(vectors)  # (B, T, V)

    def encode(self, input_ids, mask=None, loads: list | None = None) -> tuple[Tensor, object]:
        """A vector for each token of the input, (B, S, C), and the mask (B, S) for attention to them, or None."""
        _check_ids("input", input_ids)
        x = self.embedding(input_ids)
        mask = attention_mask(mask, input_ids.shape, x.data)
        return self.encoder(x, mask, loads=loads), mask

    def memory_of(self, vectors: Tensor) -> list[KeysValues]:
        """What each block of the decoder looks at, made once of the encoder's vectors (B, S, C)."""
        return [block.cross.keys_values(vectors) for block in self.decoder.blocks]

    def decode(self, ids, memory: list[KeysValues], memory_mask=None, mask=None, cache=None,
               loads: list | None = None) -> Tensor:  # fmt: skip
        """The final vectors (B, T, C) of the output's ids (B, T), ready to be compared with the output table.

        memory, memory_mask: see above.   cache: of new_cache; ids then follow the cached ones.
        mask: (B, T), False at padding before the output's first token.   loads: see nn/experts.py.
        """
        _check_ids("output", ids)
        x = self.decoder(self.embedding(ids), mask, memory, memory_mask, cache, loads)
        return x * self.config.width**-0.5 if self.config.tied else x

    def loss(self, batch: dict, counts: dict[str, int] | None = None) -> Tensor:
        """The mean of -log p(target), in nats per token.

        batch: "ids" (B, S), optionally their "mask" (B, S), and "targets" (B, T), padded with IGNORED; optionally
        "read" (B, T), what the decoder reads in place of the right tokens.
        In training `label_smoothing` of each target is spread evenly over the vocabulary.
        """
        targets, counts = batch["targets"], counts or self.divisors(batch)
        read = batch["read"] if "read" in batch else shift_right(targets, self.config.start_id)
        loads, written = ([], []) if self.training else (None, None)
        vectors, mask = self.encode(batch["ids"], batch.get("mask"), loads)
        hidden = self.decode(read, self.memory_of(vectors), mask, loads=written)
        smoothing = self.label_smoothing * self.training
        loss = (self.head or self.embedding).cross_entropy(hidden, targets, smoothing=smoothing) / counts["targets"]
        return loss + self.config.penalty(loads, written, counts=counts) if loads or written else loss

    def scores(self, batch: dict) -> Tensor:
        """(B, T, V): of each token of the output, given the right ones before it."""
        return self(batch["ids"], shift_right(batch["targets"], self.config.start_id), batch.get("mask"))

    # ---- writing

    @property
    def steps_alike(self) -> bool:
        """Not where experts are chosen."""
        return self.repeatable

    def new_cache(self, batch: int, capacity: int = 512, *, source, source_mask=None) -> DecoderCache:
        """What is needed to write outputs of up to `capacity` tokens for `batch` inputs, source (B, S).

        The encoder runs here, once. The cache's memory holds the keys and values that each decoder block's
        cross-attention makes of the encoder's vectors.   source_mask: (B, S), False at padding.
        """
        if len(source) != batch:
            raise ValueError(f"a cache for {batch} outputs needs as many inputs, not {len(source)}")
        like, attentions = self.embedding.weight.data, [block.attention for block in self.decoder.blocks]
        own = [one.new_cache(batch, capacity, like) for one in attentions]
        with no_grad():
            vectors, mask = self.encode(source, source_mask)
            memory = {} if mask is None else {"mask": mask}
            for layer, (keys, values) in enumerate(self.memory_of(vectors)):
                memory |= {f"keys.{layer}": keys.data, f"values.{layer}": values.data}
        return DecoderCache(own, memory)

    def step(self, ids, cache: DecoderCache, mask=None):
        """Read the tokens `ids` (B, T) of the output after the cached ones; the next token's logits, a raw (B, V).

        mask: (B, T), False at padding before the output's first token.
        """
        kept = lambda name: Tensor(cache.memory[name])
        memory = [(kept(f"keys.{layer}"), kept(f"values.{layer}")) for layer in range(len(cache.layers))]
        with no_grad():
            last = self.decode(ids, memory, cache.memory.get("mask"), mask, cache)[:, -1]
            return (self.head or self.embedding).compared(last).data

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
        counted_by = "decoder_layers" if decoder else "layers"
        self.blocks = Blocks((_block(config, layer, decoder) for layer in range(layers)), counted_by)
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.dropout = Dropout(config.dropout)

    def __call__(self, x: Tensor, mask=None, memory: list[KeysValues] | None = None, memory_mask=None, cache=None,
                 loads: list | None = None) -> Tensor:  # fmt: skip
        """x: (B, T, C).   mask: (B, T), of x, if there is padding.   cache: of what the decoder read before x.
        memory, memory_mask: for the decoder, what each block's cross-attention looks at.
        """
        T, nothing = x.shape[1], [None] * len(self.blocks)
        if cache:
            bias = self.positions(T, cache.span(T), cache.place)
            _, mask = cache.look(T, mask)
        else:
            bias = self.positions(T, T)  # (H, T, T)
        x = Stream(self.dropout(x), loads=loads)
        for block, looked_at, own in zip(self.blocks, memory or nothing, cache.layers if cache else nothing):
            x = block(x, mask, bias, own, looked_at, memory_mask)
        return self.dropout(x.normalized(self.norm))


def _block(config: T5Config, layer: int, decoder: bool) -> Block:
    c, C, inner = config, config.width, config.heads * config.head_width
    q = init.normal((C * c.head_width) ** -0.5)  # smaller than keys' by sqrt(D), in place of dividing the scores by it
    first, last = init.normal(C**-0.5), init.normal(inner**-0.5)
    how = dict(head_width=c.head_width, scale=1.0, bias=False, dropout=c.dropout)
    how |= dict(query_init=q, weight_init=first, output_init=last)
    attention = Attention(C, c.heads, causal=decoder, biased=True, **how)
    cross = Attention(C, c.heads, memory_width=C, **how) if decoder else None
    norm, branches = lambda: RMSNorm(C, c.norm_eps), dict(cross=cross, dropout=c.dropout)
    network = dict(gated=c.gated, weight_init=first, output_init=init.normal(c.hidden**-0.5))
    if c.mixed(layer):
        return c.expert_block(attention, norm, c.hidden, in_turn=decoder, **network, **branches)
    feed_forward = FeedForward(C, c.hidden, activation=c.activation, bias=False, dropout=c.dropout, **network)
    return Block(attention, feed_forward, norm, **branches)


class RelativePositions(Module):
    """A number per head and bucket of distances, `weight` (buckets, H), added to the scores of attention."""

    def __init__(self, config: T5Config, both_ways: bool):
        self.weight = Parameter.make((config.buckets, config.heads), init.normal(config.width**-0.5))
        self.both_ways, self.max_distance = both_ways, config.max_distance

    def __call__(self, T: int, S: int, place=None) -> Tensor:
        """(H, T, S) for the last T of S positions as queries and all S as keys.

        The same distance stands along each diagonal, so a head has no more than T + S - 1 different numbers.
        place: (1,), where the one query of a StaticCache stands instead; keys behind it get the number of distance 0.
        """
        buckets = diagonal_buckets(T, S, self.both_ways, len(self.weight), self.max_distance)
        numbers = ops.embedding(self.weight, buckets)  # (T + S - 1, H)
        if place is None:
            return ops.toeplitz(numbers.T, T, S)
        xp = numbers.xp
        away = xp.minimum(xp.arange(S) - place, 0)  # the last row of `numbers` is for distance 0
        return Tensor(xp.take(numbers.data, away + (S - 1), axis=0).T[:, None])


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


def _check_ids(what: str, ids) -> None:
    if ids.ndim != 2 or ids.shape[1] == 0:
        raise ValueError(f"T5 reads {what} ids of shape (B, T) with at least one token, not {ids.shape}")
