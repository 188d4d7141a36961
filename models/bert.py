"""BERT: read a whole text at once, and learn by filling in words that were blotted out (Devlin et al. 2018,
arXiv:1810.04805).

Notable, against GPT:
- no causal mask: every position sees all others, so the model understands a text but cannot write one
- three embeddings are summed: of the token, of its position, and of the segment (the first or the second text)
- layer norm after each block's branches (post-norm), and once on the embeddings; exact GELU
- the first token, [CLS], stands for the whole text: the pooler makes a vector of it for tasks about texts
- two heads are trained at once: masked words, and whether the second text follows the first

RoBERTa, DistilBERT and ALBERT (files of those names) are this model with a few things changed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from models import pretrained
from models.config import Config, option
from models.contract import Body, Filler, Model, StaticBatch
from models.inputs import attention_mask
from models.pretrained import bert as published
from models.schema import Count, Few, NotNegative, Share, Whole
from nn import Dropout, Embedding, LayerNorm, Linear, Module, Parameter, init
from nn.attention import Attention, check_heads
from nn.layers import ACTIVATIONS
from nn.transformer import Block, Blocks, FeedForward, Stream
from tinytensor import Tensor, ops
from tinytensor.ops.softmax import IGNORED

# The published sizes: base and large of Devlin et al. 2018, the smaller ones of Turc et al. 2019 (arXiv:1908.08962).
PRESETS: dict[str, dict] = {
    "tiny": dict(layers=2, heads=2, width=128),
    "mini": dict(layers=4, heads=4, width=256),
    "small": dict(layers=4, heads=8, width=512),
    "medium": dict(layers=8, heads=8, width=512),
    "base": dict(layers=12, heads=12, width=768),
    "large": dict(layers=24, heads=16, width=1024),
}


@dataclass(frozen=True)
class BERTConfig(Config):
    """The shape of a BERT."""

    presets: ClassVar[dict[str, dict]] = PRESETS

    vocab_size: Count = option(30522, "V, the number of different tokens")
    context: Count = option(512, "T, the longest input in tokens")
    layers: Few = option(12, "L, the number of transformer blocks")
    heads: Few = option(12, "H, the attention heads in a block")
    width: Count = option(768, "C, the length of the vectors between blocks")
    hidden: Whole = option(0, "F, the width inside the feed-forward networks (0: four times C)")
    token_types: Whole = option(2, "segments that are told apart")
    dropout: Share = option(0.1, "share dropped from embeddings and branches in training")
    attention_dropout: Share = option(0.1, "share of the attention probabilities dropped in training")
    activation: Literal[*ACTIVATIONS] = option("gelu", f"of the feed-forward networks: {', '.join(ACTIVATIONS)}")
    pooler: bool = option(True, "a layer that makes one vector of the first token's, for tasks about whole texts")
    norm_eps: NotNegative = option(1e-12, "the layer norms' guard against division by zero")
    init_std: NotNegative = option(0.02, "standard deviation of the first weights")
    pad_id: Whole = option(0, "the token that fills up short rows")

    def __post_init__(self):
        super().__post_init__()
        check_heads(self.width, self.heads)


@dataclass
class Encoded:
    """What BERT makes of a batch. hidden: (B, T, C), a vector for every token; pooled: (B, C) or None.

    With the pretraining heads also mlm_logits (B, T, V), and nsp_logits (B, 2) for models that have that head.
    """

    hidden: Tensor
    pooled: Tensor | None
    mlm_logits: Tensor | None = None
    nsp_logits: Tensor | None = None


class Embeddings(Module):
    """norm(token + position + segment): ids (B, T) -> (B, T, width)."""

    def __init__(self, config: BERTConfig, width: int, first_position: int = 0):
        """first_position: the row of the position table that a text's first token gets."""
        weights = init.truncated_normal(config.init_std)
        self.token = Embedding(config.vocab_size, width, weights)
        self.position = Embedding(first_position + config.context, width, weights)
        self.token_type = Embedding(config.token_types, width, weights) if config.token_types else None
        self.norm = LayerNorm(width, eps=config.norm_eps)
        self.dropout = Dropout(config.dropout)

    def __call__(self, ids, positions, token_types=None) -> Tensor:
        x = self.token(ids) + positions
        if self.token_type:  # the first segment's vector is added even if nobody asked for segments
            x = x + (self.token_type.weight[0] if token_types is None else self.token_type(token_types))
        return self.dropout(self.norm(x))


class BERT(Module, Body, pretrained.Published):
    """ids (B, T), token_types (B, T), mask (B, T) -> Encoded. The mask is False (or 0) on padding."""

    config_class, kinds = BERTConfig, ("bert",)  # which from_pretrained reads
    inside = "bert."

    def __init__(self, config: BERTConfig):
        self.config = config
        self.embeddings = self.make_embeddings()
        self.blocks = self.make_blocks()
        self.pooler = self.dense(config.width, config.width) if config.pooler else None

    # ---- what the relatives change

    def make_embeddings(self) -> Embeddings:
        return Embeddings(self.config, self.config.width)

    def make_block(self) -> Block:
        c, weights = self.config, init.truncated_normal(self.config.init_std)
        first = dict(weight_init=weights, output_init=weights)
        attention = Attention(c.width, c.heads, dropout=c.attention_dropout, **first)
        network = FeedForward(c.width, c.hidden or 4 * c.width, activation=c.activation, **first)
        norm = lambda: LayerNorm(c.width, eps=c.norm_eps)
        return Block(attention, network, norm, dropout=c.dropout, post_norm=True)

    def make_blocks(self) -> list:
        return Blocks(self.make_block() for _ in range(self.config.layers))

    @property
    def stack(self) -> list[Block]:
        """The blocks in the order in which a vector passes through them."""
        return self.blocks

    def embed(self, ids, token_types=None) -> Tensor:
        positions = self.embeddings.position.weight[: ids.shape[1]]  # (T, C)
        return self.embeddings(ids, positions, token_types)

    # ---- reading

    def __call__(self, ids, token_types=None, mask=None) -> Encoded:
        if ids.ndim != 2:
            raise ValueError(f"{type(self).__name__} reads ids of shape (B, T), not {ids.shape}")
        if ids.shape[1] > self.config.context:
            raise ValueError(f"{ids.shape[1]} tokens are more than the context of {self.config.context}")
        x = self.embed(ids, token_types)  # (B, T, C)
        x, mask = Stream(x), attention_mask(mask, ids.shape, x.data)
        for block in self.stack:
            x = block(x, mask)
        x = x.full
        return Encoded(x, ops.tanh(self.pooler(x[:, 0])) if self.pooler else None)

    # ---- as the body under a task's head (models/heads.py)

    @property
    def feature_width(self) -> int:
        return self.config.width

    @property
    def pools(self) -> bool:
        return self.pooler is not None

    def features(self, batch: dict) -> Tensor:
        """A vector for every token, (B, T, C), of the arrays "ids", and where given "token_types" and "mask"."""
        return self(batch["ids"], batch.get("token_types"), batch.get("mask")).hidden

    def summary(self, batch: dict) -> Tensor:
        """A vector for every row, (B, C): the pooled one, or the first token's."""
        encoded = self(batch["ids"], batch.get("token_types"), batch.get("mask"))
        return encoded.hidden[:, 0] if encoded.pooled is None else encoded.pooled

    # ---- files

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `transformers` loads too; see pretrained.save."""
        (kind,) = self.kinds
        pretrained.save(self, published.LAYOUTS[kind], folder, published.called(kind, "Model", self.config))

    def dense(self, inputs: int, outputs: int) -> Linear:
        """A linear layer that starts as all of this model's do."""
        return Linear(inputs, outputs, weight_init=init.truncated_normal(self.config.init_std))


class MaskedHead(Module):
    """Which token stands here?   scores = norm(gelu(dense(x))) @ token table^T + bias.   (N, C) -> (N, V)"""

    def __init__(self, body: BERT):
        c, table = body.config, body.embeddings.token.weight
        self.dense = body.dense(c.width, table.shape[1])
        self.activation = ACTIVATIONS[c.activation]
        self.norm = LayerNorm(table.shape[1], eps=c.norm_eps)
        self.bias = Parameter.make((c.vocab_size,), init.zeros)

    def transform(self, x: Tensor) -> Tensor:
        return self.norm(self.activation(self.dense(x)))


class BERTForPreTraining(Module, Model, Filler, pretrained.Published):
    """BERT with the heads it is pretrained with: masked words, and whether two texts belong together.

    A batch holds "ids", "token_types" and "mask", all (B, T); "targets" (B, T), the tokens behind the masks and IGNORED
    elsewhere; and "next" (B,): 0 where the second text is the right one, 1 where it is not. Without "next" the sentence
    head is not trained.
    """

    body_class, config_class, kinds = BERT, BERTConfig, BERT.kinds
    sentence_head, needs = True, {"pooler": True}
    heads = ("mlm.*", "nsp.*", "bert.pooler.*")
    repeatable = True  # a step does the same for every batch of one shape, so a CUDA graph can repeat it (--graph)

    def __init__(self, config: BERTConfig):
        if self.sentence_head and not config.pooler:
            raise ValueError("the sentence head reads the pooled vector; it needs a config with pooler=True")
        self.config = config
        self.bert = self.body_class(config)
        self.mlm = MaskedHead(self.bert)
        self.nsp = self.bert.dense(config.width, 2) if self.sentence_head else None

    @property
    def body(self) -> BERT:
        return self.bert

    @property
    def output_table(self) -> Tensor:
        return self.bert.embeddings.token.weight

    def __call__(self, ids, token_types=None, mask=None) -> Encoded:
        encoded = self.bert(ids, token_types, mask)
        encoded.mlm_logits = ops.linear(self.mlm.transform(encoded.hidden), self.output_table, self.mlm.bias)
        encoded.nsp_logits = self.nsp(encoded.pooled) if self.nsp else None
        return encoded

    def counts(self, batch: dict) -> dict[str, int]:
        counts = {"mlm": ops.count_targets(batch["targets"])}
        return counts | ({"nsp": ops.count_targets(batch["next"])} if self.nsp and "next" in batch else {})

    def loss(self, batch: dict, counts: dict | None = None) -> Tensor:
        """The mean over masked tokens of -log p(token), plus that over rows of -log p(next), in nats."""
        counts = counts or self.divisors(batch)
        encoded = self.bert(batch["ids"], batch.get("token_types"), batch.get("mask"))
        targets, x = batch["targets"].reshape(-1), encoded.hidden.reshape(-1, self.config.width)
        if not isinstance(batch, StaticBatch):  # how many are masked changes from batch to batch
            chosen = np.flatnonzero(targets != IGNORED)  # one token in seven: nothing is computed for the others
            x, targets = ops.embedding(x, chosen), targets[chosen]
        x = self.mlm.transform(x)  # (N, E)
        nats = self.bert.embeddings.token.cross_entropy(x, targets, self.mlm.bias)
        loss = nats / counts["mlm"]
        if "nsp" in counts:
            loss = loss + ops.cross_entropy(self.nsp(encoded.pooled), batch["next"], reduction="sum") / counts["nsp"]
        return loss

    def scores(self, batch: dict) -> Tensor:
        """(B, T, V): of the tokens behind the masks, and of all others."""
        return self.fill_scores(batch["ids"], batch.get("token_types"), batch.get("mask"))

    def meaningful(self, batch: dict):
        """What BERT thinks of every token is worth learning from, not of the masked ones alone."""
        return batch["mask"]

    def fill_scores(self, ids, token_types=None, mask=None) -> Tensor:
        """(B, T, V): the score of every token at every place."""
        return self(ids, token_types, mask).mlm_logits

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a folder that `transformers` loads too; see pretrained.save."""
        (kind,), heads = self.kinds, "ForPreTraining" if self.sentence_head else "ForMaskedLM"
        pretrained.save(self, published.LAYOUTS[kind], folder, published.called(kind, heads, self.config))
