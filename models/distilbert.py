"""DistilBERT: BERT with half of its layers, taught by the whole (Sanh et al. 2019, arXiv:1910.01108).

What differs from BERT: no segments, no pooler, no sentence head; and no dropout on the attention's branch (there is one
on its probabilities, and on the feed-forward branch). How it is taught is the business of train/compression/distill.py.
"""

from dataclasses import dataclass
from typing import ClassVar

from models.bert import BERT, BERTConfig, BERTForPreTraining
from models.config import option
from models.schema import Few, Whole
from nn import Block, Dropout


@dataclass(frozen=True)
class DistilBERTConfig(BERTConfig):
    """The shape of a DistilBERT."""

    presets: ClassVar[dict[str, dict]] = {"base": dict(layers=6, heads=12, width=768)}

    layers: Few = option(6, "L, the number of transformer blocks")
    token_types: Whole = option(0, "segments that are told apart: none")
    pooler: bool = option(False, "a layer that makes one vector of the first token's, for tasks about whole texts")


class DistilBERT(BERT):
    """ids (B, T), mask (B, T) -> Encoded, whose pooled vector is None."""

    config_class, kinds = DistilBERTConfig, ("distilbert",)

    def make_block(self) -> Block:
        block = super().make_block()
        block.dropout1 = Dropout(0.0)
        return block


class DistilBERTForPreTraining(BERTForPreTraining):
    """DistilBERT with the masked-word head."""

    body_class, config_class, kinds = DistilBERT, DistilBERTConfig, DistilBERT.kinds
    sentence_head, needs = False, {}
