"""ERNIE-GEN: a BERT that writes, trained by infilling (Xiao et al. 2020, arXiv:2001.11314).

A writer learns with the right words before it and works with its own: one slip, and it stands where it has never been.
ERNIE-GEN predicts each word from an artificial token, [ATTN], at the word's own place, instead of from the word before.
What it reads of the words so far may be wrong (noise), so it learns to go by all of them. One transformer carries three
flows, which differ in nothing but the rows of a mask:

    source      the text that was read        sees the source, in both directions
    contextual  the words so far              sees the source and the words up to itself
    word query  an [ATTN] for every word      sees the source, the words before its own, and itself
    span query  another [ATTN] for each       the same, but only the words before the span that its word is in: so the
                                              model also learns to plan several words at once

No row but itself sees an [ATTN], so the contextual flow is the same with and without queries, and all three are one
pass. Loss: the mean of both query flows. Writing, and learning a task, need the word queries alone: a step reads the
pair (last word, [ATTN]) and keeps of it only the word's keys and values.

Blocks, embeddings and head are BERT's (models/bert.py), with 1024 positions, 4 segments, eps 1e-5 in the norms and no
pooler. Positions go on from the source's to the output's; an [ATTN] has that of the word it stands for.

From the authors' code for fine-tuning and decoding are the masks of the first three rows, the positions, the segments
and the sizes. Their code for pretraining was never published: the span queries, and that both flows count alike, are
told from memory of the paper and were not held against it.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, NoReturn, Self

import numpy as np

from models.bert import BERT, PRESETS, BERTConfig, BERTForPreTraining, MaskedHead
from models.config import option
from models.contract import Model, Writer
from models.schema import Count, Id, NotNegative, Whole
from models.t5 import shift_right
from nn import DecoderCache, Module
from nn.transformer import Stream
from tinytensor import Tensor, backend, no_grad, ops
from tinytensor.ops.softmax import IGNORED

BERTS_MARKS = dict(start_id=101, eos_id=102, attn_id=103)  # in its published vocabulary, where [MASK] has to be [ATTN]


@dataclass(frozen=True)
class ERNIEGenConfig(BERTConfig):
    """The shape of an ERNIE-GEN, and the tokens that mean something to it."""

    presets: ClassVar[dict[str, dict]] = {
        "toy": PRESETS["tiny"] | dict(vocab_size=1024, context=200),
        "base": PRESETS["base"] | BERTS_MARKS, "large": PRESETS["large"] | BERTS_MARKS,
    }  # fmt: skip

    context: Count = option(1024, "the longest source and output together, in tokens")
    token_types: Whole = option(4, "segments that are told apart")
    pooler: bool = option(False, "a layer that makes one vector of the first token's; nothing here reads it")
    norm_eps: NotNegative = option(1e-5, "the layer norms' guard against division by zero")
    target_type: Whole = option(3, "the segment of what is written; the source's is 0")
    start_id: Id = option(2, "the token that every output starts from, [CLS]")
    eos_id: Id = option(3, "the token that ends sources and outputs, [SEP]")
    attn_id: Id = option(5, "the token that stands for a word to be predicted, [ATTN] (or [MASK])")

    def __post_init__(self):
        super().__post_init__()
        for name in ("pad_id", "start_id", "eos_id", "attn_id"):
            if vars(self)[name] >= self.vocab_size:
                what = f"is outside the vocabulary of {self.vocab_size} tokens"
                raise ValueError(f"{name} {vars(self)[name]} {what}")
        if self.target_type >= self.token_types:
            raise ValueError(f"target_type {self.target_type} is none of the {self.token_types} token_types, from 0 on")


class Rows(NamedTuple):
    """What stands in the rows of a pass, (B, N) each, and which row sees which, (B, N, N) booleans."""

    ids: object
    positions: object
    types: object
    sees: object


class ERNIEGen(Module, Model, Writer):
    """A batch of sources and outputs -> logits (B, T, V): the scores of every word of the output, from its [ATTN].

    A batch holds "ids" (B, S), the sources [CLS] ... [SEP], and where some are padded their "mask" (B, S); "targets"
    (B, T), the outputs ... [SEP], padded with IGNORED. Also, if given: "read" (B, T), what the contextual flow reads
    (else [CLS] and all targets but the last); and "spans" (B, T), the number of the first target of the span that each
    one is in, which adds the span queries to the loss.
    """

    repeatable = True  # a step does the same for every batch of one shape, so a CUDA graph can repeat it (--graph)
    reads_source = True
    steps_alike = False  # a step reads two rows and keeps one
    label_smoothing = 0.0

    def __init__(self, config: ERNIEGenConfig):
        self.config = config
        self.bert = BERT(config)
        self.mlm = MaskedHead(self.bert)

    @property
    def output_table(self) -> Tensor:
        """(V, C): the token embedding, which gives the scores, too."""
        return self.bert.embeddings.token.weight

    # ---- learning

    def __call__(self, batch: dict) -> Tensor:
        hidden, first = self.flows(batch | {"spans": None})
        return self.logits(hidden[:, first:])

    def flows(self, batch: dict) -> tuple[Tensor, int]:
        """The final vectors of all rows, (B, N, C), and the number of the first query among them."""
        rows = self.rows(batch)
        return self.pass_through(*rows), batch["ids"].shape[1] + batch["targets"].shape[1]

    def rows(self, batch: dict) -> Rows:
        """Source, contextual flow, word queries and, where there are spans, span queries, side by side.

        The rule of all masks: a row of the output sees the source, the contextual rows 0 .. `reach`, and itself.
        """
        c, source, targets, spans = self.config, batch["ids"], batch["targets"], batch.get("spans")
        (B, S), T, xp = source.shape, targets.shape[1], backend.array_module(source)
        mask = xp.ones((B, S), bool) if batch.get("mask") is None else batch["mask"].astype(bool)
        lengths = mask.sum(axis=1)[:, None]
        self._check_room(lengths, targets)
        read = shift_right(targets, c.start_id) if batch.get("read") is None else batch["read"]
        steps = xp.arange(T)[None]
        reach = [steps, steps] if spans is None else [steps, steps, spans]  # of contextual row k, and of each query
        reach, queries = xp.concatenate([xp.broadcast_to(r, (B, T)) for r in reach], axis=1), len(reach) - 1
        ids = xp.concatenate([source, read, xp.full((B, queries * T), c.attn_id)], axis=1)
        places = [xp.broadcast_to(xp.arange(S), (B, S)), lengths + steps, *[lengths + steps + 1] * queries]
        positions = xp.minimum(xp.concatenate(places, axis=1), c.context - 1)  # of padding, beyond the context
        types = xp.where(xp.arange(ids.shape[1]) < S, 0, c.target_type)
        words = xp.concatenate([xp.zeros((B, S, T), bool), steps <= reach[:, :, None]], axis=1)  # (B, N, T)
        own = xp.broadcast_to(xp.eye(ids.shape[1], dtype=bool)[:, S + T :], (B, ids.shape[1], queries * T))
        all_see = xp.broadcast_to(mask[:, None], (B, ids.shape[1], S))
        return Rows(ids, positions, xp.broadcast_to(types, ids.shape), xp.concatenate([all_see, words, own], axis=2))

    def _check_room(self, lengths, targets) -> None:
        """Every row must fit into the context; what lies on a GPU is not looked at, which would be to wait for it."""
        if backend.device_of(targets) == "cpu":
            needed = int((lengths[:, 0] + (targets != IGNORED).sum(axis=1)).max(initial=0)) + 1
            if needed > self.config.context:
                what = f"a source and its output take {needed} positions"
                raise ValueError(f"{what}, more than the context of {self.config.context}; cut them with --max-length")

    def pass_through(self, ids, positions, types, sees=None, cache: DecoderCache | None = None) -> Tensor:
        """The final vectors (B, N, C) of the tokens `ids` (B, N), which may follow those of a cache.

        sees: (B, S) or (B, N, S), which of the S keys up to the last new one the rows see; None: all.
        """
        table = self.bert.embeddings.position
        vectors = table.weight[positions] if isinstance(positions, slice) else table(positions)
        x = self.bert.embeddings(ids, vectors, types)
        x, sees = Stream(x), None if sees is None else backend.beside(x.data, sees)
        for block, own in zip(self.bert.stack, cache.layers if cache else [None] * len(self.bert.stack)):
            x = block(x, sees, None, own)
        return x.full

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., C) -> (..., V)"""
        return ops.linear(self.mlm.transform(hidden), self.output_table, self.mlm.bias)

    def loss(self, batch: dict, counts: dict[str, int] | None = None) -> Tensor:
        """The mean of -log p(target) in nats per token; with "spans", the mean of what both query flows give.

        In training `label_smoothing` of each target is spread evenly over the vocabulary.
        """
        counts = counts or self.divisors(batch)
        hidden, first = self.flows(batch)
        queries = 1 if batch.get("spans") is None else 2
        targets = backend.array_module(batch["targets"]).concatenate([batch["targets"]] * queries, axis=1)
        x, smoothing = self.mlm.transform(hidden[:, first:]), self.label_smoothing * self.training
        total = self.bert.embeddings.token.cross_entropy(x, targets, self.mlm.bias, smoothing=smoothing)
        return total / (queries * counts["targets"])

    def scores(self, batch: dict) -> Tensor:
        """(B, T, V): of each token of the output, given the right ones before it."""
        return self(batch)

    def real(self, batch: dict):
        """(B, N), booleans: which vectors between the blocks are of tokens, not of padding (those of `scores`)."""
        there, xp = batch["targets"] != IGNORED, backend.array_module(batch["targets"])
        mask = xp.ones(batch["ids"].shape, bool) if batch.get("mask") is None else batch["mask"]
        return xp.concatenate([mask, there, there], axis=1)

    # ---- writing

    @property
    def longest(self) -> int:
        return self.config.context - 1  # the last place is for an [ATTN]

    def new_cache(self, batch: int, capacity: int = 512, *, source, source_mask=None) -> DecoderCache:
        """What is needed to write outputs of up to `capacity` tokens for `batch` sources (B, S), which are read here.

        source_mask: (B, S), False at padding, which stands on the right.
        """
        if len(source) != batch:
            raise ValueError(f"a cache for {batch} outputs needs as many sources, not {len(source)}")
        S, like = source.shape[1], self.output_table.data
        if capacity < 1 or S + capacity > self.longest:
            room = f"{S} tokens to read and {max(1, capacity)} to write, with an [ATTN] behind them,"
            raise ValueError(f"{room} are more than the context of {self.config.context}; read or write less")
        layers = [block.attention.new_cache(batch, S + capacity + 1, like) for block in self.bert.stack]
        cache = DecoderCache(layers)
        positions, sees = cache.look(S, None if source_mask is None or np.all(source_mask) else source_mask)
        with no_grad():
            self.pass_through(source, positions, np.zeros(source.shape, int), sees, cache)
        return cache

    def step(self, ids, cache: DecoderCache, mask=None):
        """Read the tokens `ids` (B, T) of the output after the cached ones; the next token's logits, a raw (B, V).

        The [ATTN] behind them is read with them and not kept.   mask: (B, T), False at padding before the first token.
        """
        c, (B, T) = self.config, ids.shape
        beside = lambda column, value: np.concatenate([column, np.full((B, 1), value, column.dtype)], axis=1)
        positions, seen = cache.look(T + 1, None if mask is None else beside(mask, True))
        before = np.tri(T + 1, cache.length + T + 1, cache.length, dtype=bool)[None]
        sees = before if seen is None else backend.beside(seen, before) & seen[:, None]
        with no_grad():
            types = np.full((B, T + 1), c.target_type)
            hidden = self.pass_through(beside(ids, c.attn_id), positions, types, sees, cache)
            for layer in cache.layers:
                layer.length -= 1
            return self.logits(hidden[:, -1]).data

    # ---- files

    @classmethod
    def from_bert(cls, bert: BERTForPreTraining, ids: Mapping[str, int]) -> Self:
        """An ERNIE-GEN with the weights of a BERT, as the published ones began.

        ids: pad_id, start_id, eos_id and attn_id of its vocabulary. The output's segment is new, and starts at random.
        """
        fields = {field.name: vars(bert.config)[field.name] for field in dataclasses.fields(BERTConfig)}
        fields |= dict(pooler=False, token_types=max(4, bert.config.token_types)) | ids
        model, theirs = cls(ERNIEGenConfig(**fields)), bert.state_dict()
        state = model.state_dict()
        for name, own in state.items():
            if name.endswith("token_type.weight"):
                own = np.concatenate([backend.to_numpy(array) for array in (theirs[name], own[len(theirs[name]) :])])
                theirs[name] = own
        model.load_state_dict({name: theirs[name] for name in state})
        return model

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> NoReturn:
        """Refuses: there is nothing to read."""
        raise ValueError(f"{folder}: no layout of an ERNIE-GEN in PyTorch was ever published; a run is opened with "
                         "train.checkpoint.load_model, and a BERT begun from with: python -m train ernie-gen --init")

    def save_pretrained(self, folder: str | Path) -> NoReturn:
        """Refuses: nobody could read it."""
        raise ValueError(f"{folder}: no layout of an ERNIE-GEN in PyTorch was ever published, so none is written; the "
                         "folder of a run holds all of it, in model.safetensors and config.json")
