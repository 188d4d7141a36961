"""ALBERT: a BERT that uses one layer over and over (Lan et al. 2019, arXiv:1909.11942).

What differs from BERT:
- all layers share their parameters (or those of a group of layers do), so a wide model has few of them
- the token table is narrow (E), and one matrix widens its vectors to C: V * E + E * C numbers instead of V * C
- instead of the next sentence it is asked whether two neighbouring texts stand in the right order
- text as SentencePiece unigrams; GELU in its tanh form
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from models.bert import BERT, BERTConfig, BERTForPreTraining, Embeddings
from models.config import option
from models.schema import Count, Few, Share
from nn import Block
from nn.layers import ACTIVATIONS


@dataclass(frozen=True)
class ALBERTConfig(BERTConfig):
    """The shape of an ALBERT."""

    presets: ClassVar[dict[str, dict]] = {
        "base": dict(layers=12, heads=12, width=768),
        "large": dict(layers=24, heads=16, width=1024),
        "xlarge": dict(layers=24, heads=16, width=2048),
        "xxlarge": dict(layers=12, heads=64, width=4096),
    }

    vocab_size: Count = option(30000, "V, the number of different tokens")
    dropout: Share = option(0.0, "share dropped from embeddings and branches in training")
    attention_dropout: Share = option(0.0, "share of the attention probabilities dropped in training")
    activation: Literal[*ACTIVATIONS] = option("gelu_tanh", "of the feed-forward networks")
    embedding_width: Count = option(128, "E, the width of the embedding tables")
    groups: Few = option(1, "of layers, each with parameters of its own")
    inner: Few = option(1, "blocks in a layer of a group")

    def __post_init__(self):
        super().__post_init__()
        if self.groups > self.layers:
            raise ValueError(f"{self.groups} groups are more than the {self.layers} layers they share")


class ALBERT(BERT):
    """ids (B, T), token_types (B, T), mask (B, T) -> Encoded."""

    config_class, kinds = ALBERTConfig, ("albert",)

    def __init__(self, config: ALBERTConfig):
        super().__init__(config)
        self.widen = self.dense(config.embedding_width, config.width)

    def make_embeddings(self) -> Embeddings:
        return Embeddings(self.config, self.config.embedding_width)

    def make_blocks(self) -> list[list[Block]]:
        """groups x inner"""
        return [[self.make_block() for _ in range(self.config.inner)] for _ in range(self.config.groups)]

    @property
    def stack(self) -> list[Block]:
        layers, groups = self.config.layers, self.config.groups
        return [block for layer in range(layers) for block in self.blocks[layer * groups // layers]]

    def embed(self, ids, token_types=None):
        return self.widen(super().embed(ids, token_types))


class ALBERTForPreTraining(BERTForPreTraining):
    """ALBERT with the masked-word head and the sentence-order head: 0 in the right order, 1 swapped."""

    body_class, config_class, kinds = ALBERT, ALBERTConfig, ALBERT.kinds
