"""GPT: predict the next token from all tokens before it (Radford et al. 2018 and 2019; Brown et al. 2020).

A stack of transformer blocks between two uses of one table: it turns token ids into vectors at the bottom and, unless
`tied` is off, vectors into scores for the next token at the top.

Notable in GPT-2's form of it, which this file follows:
- causal self-attention: position t sees positions 0..t, so one pass over a text trains every position at once
- positions are learned vectors, added to the token vectors; so there is a longest input, `context`
- layer norm before each block's two branches and once more at the end (pre-norm)
- GELU in its tanh form; the matrices that write to the residual stream start smaller by sqrt(2 * layers)
Options beyond GPT-2's (as in nanoGPT): no biases, an output table of its own, other activations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.config import option
from nn import Dropout, Embedding, KVCache, LayerNorm, Linear, Module, PreNormBlock, init
from nn.attention import check_heads
from tinytensor import Tensor, no_grad, ops


@dataclass(frozen=True)
class GPTConfig:
    """The shape of a GPT."""

    vocab_size: int = option(50257, "V, the number of different tokens")
    context: int = option(1024, "T, the longest input in tokens")
    layers: int = option(12, "L, the number of transformer blocks")
    heads: int = option(12, "H, the attention heads in a block")
    width: int = option(768, "C, the length of the vectors between blocks")
    dropout: float = option(0.0, "share dropped from embeddings, attention probabilities and branches in training")
    bias: bool = option(True, "biases in linear layers and layer norms")
    tied: bool = option(True, "use the token embedding as the output table too")
    activation: str = option("gelu_tanh", "of the feed-forward networks: gelu_tanh (GPT-2's), gelu, relu, silu")
    init_std: float = option(0.02, "standard deviation of the first weights; narrow models learn faster from more")
    recompute: bool = option(False, "find attention probabilities again in backward: slower, for long contexts")

    def __post_init__(self):
        for name in ("vocab_size", "context", "layers", "heads", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be a share in [0, 1), not {self.dropout}")
        check_heads(self.width, self.heads)

    @classmethod
    def preset(cls, name: str, **changes) -> GPTConfig:
        """One of PRESETS, with some fields changed: GPTConfig.preset("gpt2", dropout=0.1)."""
        if name not in PRESETS:
            raise ValueError(f"unknown preset {name!r}; choose from {', '.join(PRESETS)}")
        return cls(**(PRESETS[name] | changes))


# The toys have nanoGPT's shapes for a laptop's CPU and for a GPU; the others are GPT-2's published sizes.
PRESETS: dict[str, dict] = {
    "toy": dict(vocab_size=65, context=64, layers=4, heads=4, width=128, bias=False),
    "baby": dict(vocab_size=65, context=256, layers=6, heads=6, width=384, dropout=0.2, bias=False),
    "gpt2": dict(layers=12, heads=12, width=768),
    "gpt2-medium": dict(layers=24, heads=16, width=1024),
    "gpt2-large": dict(layers=36, heads=20, width=1280),
    "gpt2-xl": dict(layers=48, heads=25, width=1600),
}


class GPT(Module):
    """ids (B, T) -> logits (B, T, V): at each position the scores of the token that comes next."""

    def __init__(self, config: GPTConfig):
        self.config = config
        weights = init.normal(config.init_std)
        residual = init.normal(config.init_std / math.sqrt(2 * config.layers))
        self.token_embedding = Embedding(config.vocab_size, config.width, weights)
        self.position_embedding = Embedding(config.context, config.width, weights)
        self.dropout = Dropout(config.dropout)
        self.blocks = [
            PreNormBlock(
                config.width,
                config.heads,
                causal=True,
                activation=config.activation,
                bias=config.bias,
                dropout=config.dropout,
                recompute=config.recompute,
                weight_init=weights,
                output_init=residual,
            )
            for _ in range(config.layers)
        ]
        self.norm = LayerNorm(config.width, config.bias)
        self.head = None if config.tied else Linear(config.width, config.vocab_size, bias=False, weight_init=weights)

    @property
    def output_table(self) -> Tensor:
        """(V, C): a row per token, to be compared with a position's final vector."""
        return self.head.weight if self.head else self.token_embedding.weight

    def __call__(self, ids, cache: list[KVCache] | None = None) -> Tensor:
        return ops.linear(self.hidden(ids, cache), self.output_table)  # (B, T, V)

    def hidden(self, ids, cache: list[KVCache] | None = None) -> Tensor:
        """ids (B, T) -> the final vectors (B, T, C), before they are compared with the output table."""
        if ids.ndim != 2:
            raise ValueError(f"GPT reads ids of shape (B, T), not {ids.shape}")
        T = ids.shape[1]
        start = cache[0].length if cache else 0
        if start + T > self.config.context:
            raise ValueError(f"{start + T} tokens are more than the context of {self.config.context}")
        positions = self.position_embedding.weight[start : start + T]  # (T, C)
        x = self.dropout(self.token_embedding(ids) + positions)  # (B, T, C)
        branch = None
        for layer, block in enumerate(self.blocks):
            x, branch = block(x, branch, cache=cache[layer] if cache else None)
        _, x = self.norm.add(x, branch)
        return x

    def counts(self, batch: dict) -> dict[str, int]:
        """How many predictions the loss of a batch is the mean of."""
        return {"targets": ops.count_targets(batch["targets"])}

    def loss(self, batch: dict, counts: dict[str, int] | None = None) -> Tensor:
        """The mean of -log p(target), in nats per token, over batch["ids"] and batch["targets"], both (B, T).

        counts: what to divide the sum by, if not by the batch's own; see train/objectives.
        """
        hidden, counts = self.hidden(batch["ids"]), counts or self.counts(batch)
        total = ops.linear_cross_entropy(hidden, self.output_table, batch["targets"], reduction="sum")
        return total / counts["targets"]

    def new_cache(self, batch: int) -> list[KVCache]:
        """Empty caches for decoding `batch` sequences up to the full context."""
        c = self.config
        like = self.token_embedding.weight.data
        return [KVCache(batch, c.heads, c.context, c.width // c.heads, like) for _ in range(c.layers)]

    def step(self, ids, cache: list[KVCache]):
        """Read the tokens `ids` (B, T) that follow the cached ones; returns the next token's logits, a raw (B, V)."""
        with no_grad():
            last = self.hidden(ids, cache)[:, -1]
            return ops.linear(last, self.output_table).data
