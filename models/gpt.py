"""GPT: predict the next token from all tokens before it (Radford et al. 2018 and 2019; Brown et al. 2020).

A stack of transformer blocks between two uses of one table: it turns token ids into vectors at the bottom and, unless
`tied` is off, vectors into scores for the next token at the top.

Notable, in all three generations:
- causal self-attention: position t sees positions 0..t, so one pass over a text trains every position at once
- positions are learned vectors, added to the token vectors; so there is a longest input, `context`
- GELU in its tanh form
What changed from one to the next:
- GPT-1 normalizes after each branch has been added to the residual stream (`post_norm`), as the first transformer did
- GPT-2 normalizes what goes into each branch, and once more at the end; the matrices that write to the residual stream
  start smaller by sqrt(2 * layers)
- GPT-3 is GPT-2 with every second block looking back over the last `window` positions only, a band along the diagonal
Options beyond these (as in nanoGPT): no biases, an output table of its own, other activations;
mixtures of experts (nn/experts.py); and for long inputs rotary positions (nn/rotary.py), and blocks computed twice.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from models import pretrained
from models.config import option
from models.contract import LeftToRight, Model
from models.mixture import Mixture
from models.pretrained import gpt as published
from models.schema import Count, Few, NotNegative, Share, Whole
from models.tokenizers import Tokenizer
from nn import DecoderCache, Dropout, Embedding, LayerNorm, Linear, Module, Rotary, init
from nn.attention import Attention, check_heads, positions_of
from nn.layers import ACTIVATIONS
from nn.recompute import remade
from nn.transformer import Block, Blocks, FeedForward, Stream
from tinytensor import Tensor, backend, no_grad

# The toys have nanoGPT's shapes for a laptop's CPU and for a GPU; the others are the published sizes. Two rows of
# GPT-3's table contradict themselves (24 heads of 128 are not 2048, 40 are not 5140); the paper's own counts of
# parameters fit 16 heads and 5120. It does not tell the width of the band either; 256 is GPT-Neo's.
_GPT3 = dict(context=2048, window=256)
PRESETS: dict[str, dict] = {
    "toy": dict(vocab_size=65, context=64, layers=4, heads=4, width=128, bias=False),
    "baby": dict(vocab_size=65, context=256, layers=6, heads=6, width=384, dropout=0.2, bias=False),
    "gpt": dict(vocab_size=40478, context=512, layers=12, heads=12, width=768, post_norm=True),
    "gpt2": dict(layers=12, heads=12, width=768),
    "gpt2-medium": dict(layers=24, heads=16, width=1024),
    "gpt2-large": dict(layers=36, heads=20, width=1280),
    "gpt2-xl": dict(layers=48, heads=25, width=1600),
    "gpt3-125m": dict(layers=12, heads=12, width=768, **_GPT3),
    "gpt3-350m": dict(layers=24, heads=16, width=1024, **_GPT3),
    "gpt3-760m": dict(layers=24, heads=16, width=1536, **_GPT3),
    "gpt3-1.3b": dict(layers=24, heads=16, width=2048, **_GPT3),
    "gpt3-2.7b": dict(layers=32, heads=32, width=2560, **_GPT3),
    "gpt3-6.7b": dict(layers=32, heads=32, width=4096, **_GPT3),
    "gpt3-13b": dict(layers=40, heads=40, width=5120, **_GPT3),
    "gpt3-175b": dict(layers=96, heads=96, width=12288, **_GPT3),
}


@dataclass(frozen=True)
class GPTConfig(Mixture):
    """The shape of a GPT."""

    presets: ClassVar[dict[str, dict]] = PRESETS

    vocab_size: Count = option(50257, "V, the number of different tokens")
    context: Count = option(1024, "T, the longest input in tokens")
    layers: Few = option(12, "L, the number of transformer blocks")
    heads: Few = option(12, "H, the attention heads in a block")
    width: Count = option(768, "C, the length of the vectors between blocks")
    hidden: Whole = option(0, "F, the length inside the feed-forward networks (0: 4 x width)")
    dropout: Share = option(0.0, "share dropped from embeddings, attention probabilities and branches in training")
    bias: bool = option(True, "biases in linear layers and layer norms")
    tied: bool = option(True, "use the token embedding as the output table too")
    activation: Literal[*ACTIVATIONS] = option("gelu_tanh", f"of the feed-forward networks: {', '.join(ACTIVATIONS)}")
    post_norm: bool = option(False, "normalize after each branch, as GPT-1, not before it")
    window: Whole = option(0, "positions that every second block sees, as in GPT-3 (0: all blocks see all)")
    norm_eps: NotNegative = option(1e-5, "added to the variance in layer norms")
    init_std: NotNegative = option(0.02, "deviation of the first weights; narrow models learn faster from more")
    rotary: NotNegative = option(0.0, "base of rotary positions, 10000 for example, in the place of learned ones (0)")
    recompute: bool = option(False, "keep a block's input only, and run it again in backward: for long contexts")

    def __post_init__(self):
        super().__post_init__()
        check_heads(self.width, self.heads)
        if self.rotary:
            Rotary(self.width // self.heads, self.rotary)


class GPT(Module, Model, LeftToRight, pretrained.Published):
    """ids (B, T) -> logits (B, T, V): at each position the scores of the token that comes next.

    mask: (B, T), False at padding, which may stand before or after a row's text: tokens are counted and seen as if it
    were not there.   cache: of new_cache, what was read before; ids are then the tokens that follow.
    """

    config_class, kinds = GPTConfig, ("gpt2", "openai-gpt")  # which from_pretrained reads

    def __init__(self, config: GPTConfig):
        self.config = c = config
        self.repeatable = not c.experts  # whether a step does the same for every batch of one shape (--graph)
        weights = init.normal(c.init_std)
        residual = weights if c.post_norm else init.normal(c.init_std / math.sqrt(2 * c.layers))
        self.token_embedding = Embedding(c.vocab_size, c.width, weights)
        self.position_embedding = None if c.rotary else Embedding(c.context, c.width, weights)
        self.rotary = Rotary(c.width // c.heads, c.rotary) if c.rotary else None
        self.dropout = Dropout(c.dropout)
        self.blocks = Blocks(self._block(layer, weights, residual) for layer in range(c.layers))
        self.norm = None if c.post_norm else LayerNorm(c.width, c.bias, c.norm_eps)
        self.head = None if c.tied else Linear(c.width, c.vocab_size, bias=False, weight_init=weights)

    def _block(self, layer: int, weights: init.Initializer, residual: init.Initializer) -> Block:
        c, first = self.config, dict(weight_init=weights, output_init=residual)
        how = dict(causal=True, window=c.window if c.window and layer % 2 else None, recompute=c.recompute)
        attention = Attention(c.width, c.heads, bias=c.bias, dropout=c.dropout, rotary=self.rotary, **how, **first)
        norm, F = lambda: LayerNorm(c.width, c.bias, c.norm_eps), c.hidden or 4 * c.width
        branches = dict(dropout=c.dropout, post_norm=c.post_norm)
        if c.experts and c.mixed(layer):
            return c.expert_block(attention, norm, F, in_turn=True, **first, **branches)
        network = FeedForward(c.width, F, activation=c.activation, bias=c.bias, **first)
        return Block(attention, network, norm, **branches)

    @property
    def output_table(self) -> Tensor:
        """(V, C): a row per token, to be compared with a position's final vector."""
        return self.head.weight if self.head else self.token_embedding.weight

    def __call__(self, ids, mask=None, cache: DecoderCache | None = None) -> Tensor:
        return (self.head or self.token_embedding).compared(self.hidden(ids, mask, cache))  # (B, T, V)

    def hidden(self, ids, mask=None, cache: DecoderCache | None = None, loads: list | None = None) -> Tensor:
        """ids (B, T) -> the final vectors (B, T, C), before they are compared with the output table."""
        x, mask = self._embed(ids, mask, cache)  # (B, T, C), (B, S) or None
        x = Stream(x, loads=loads)
        for block, layer in zip(self.blocks, cache.layers if cache else [None] * len(self.blocks)):
            x = remade(block, x, mask) if self.config.recompute and cache is None else block(x, mask, cache=layer)
        return x.normalized(self.norm) if self.norm else x.full

    def _embed(self, ids, mask, cache: DecoderCache | None):
        """Token and position vectors, added; and which positions may be attended to."""
        if ids.ndim != 2:
            raise ValueError(f"GPT reads ids of shape (B, T), not {ids.shape}")
        if mask is not None and mask.shape != ids.shape:
            raise ValueError(f"the mask has shape {mask.shape}, expected {ids.shape} to match the ids")
        if cache:
            positions, mask = cache.look(ids.shape[1], mask)
        else:
            positions = slice(0, ids.shape[1]) if mask is None else positions_of(mask)
        x = self.token_embedding(ids)
        if isinstance(positions, slice):  # (T, C), of all rows alike
            self._check_length(positions.stop)
            return self.dropout(x if self.rotary else x + self.position_embedding(positions)), mask
        if backend.device_of(positions) == "cpu":  # what lies on a GPU is not looked at: that would be to wait for it
            self._check_length(int(positions.max(initial=0)) + 1)
        return self.dropout(x if self.rotary else x + self.position_embedding(positions)), backend.beside(x.data, mask)

    def _check_length(self, longest: int) -> None:
        if longest > self.config.context:
            raise ValueError(f"{longest} tokens are more than the context of {self.config.context}")

    def loss(self, batch: dict, counts: dict[str, int] | None = None) -> Tensor:
        """The mean of -log p(target), in nats per token; batch: "ids", "targets" and, if any, "mask", all (B, T)."""
        loads, counts = [] if self.training else None, counts or self.divisors(batch)
        hidden = self.hidden(batch["ids"], batch.get("mask"), loads=loads)
        loss = (self.head or self.token_embedding).cross_entropy(hidden, batch["targets"]) / counts["targets"]
        return loss + self.config.penalty(loads, counts=counts) if loads else loss

    def scores(self, batch: dict) -> Tensor:
        """(B, T, V): of each next token."""
        return self(batch["ids"], batch.get("mask"))

    # ---- writing

    @property
    def longest(self) -> int:
        return self.config.context

    @property
    def steps_alike(self) -> bool:
        """Not where a window moves along, or experts are chosen."""
        return not (self.config.window or self.config.experts)

    def new_cache(self, batch: int, capacity: int | None = None) -> DecoderCache:
        """Empty memory for decoding `batch` sequences of up to `capacity` tokens (the context, if not said)."""
        capacity, like = capacity or self.config.context, self.blocks[0].norm1.weight.data
        return DecoderCache([block.attention.new_cache(batch, capacity, like) for block in self.blocks])

    def step(self, ids, cache: DecoderCache, mask=None):
        """Read the tokens `ids` (B, T) that follow the cached ones; returns the next token's logits, a raw (B, V)."""
        with no_grad():
            last = self.hidden(ids, mask, cache)[:, -1]
            return (self.head or self.token_embedding).compared(last).data

    def save_pretrained(self, folder: str | Path, tokenizer: Tokenizer | None = None) -> None:
        """Write a folder that `transformers` opens as GPT-1 or GPT-2, missing biases as zeros; see pretrained.save."""
        layout = published.LAYOUTS["openai-gpt" if self.config.post_norm else "gpt2"]
        end = tokenizer.end_id if tokenizer else None
        ends = {} if end is None or self.config.post_norm else {"bos_token_id": end, "eos_token_id": end}
        pretrained.save(self, layout, folder, ends, tokenizer)
