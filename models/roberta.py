"""RoBERTa: BERT's architecture, trained longer and without the second task (Liu et al. 2019, arXiv:1907.11692).

What differs from BERT: text as byte-level BPE; one segment; masks drawn anew each time a text is read; no next-sentence
prediction; and a quirk of its first code: positions are counted from pad_id + 1, and every padding token has the
position pad_id, so the first `pad_id + 1` rows of the position table belong to no token.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from models.bert import BERT, PRESETS, BERTConfig, BERTForPreTraining, Embeddings
from models.config import option
from models.schema import Count, NotNegative, Whole
from tinytensor import backend


@dataclass(frozen=True)
class RoBERTaConfig(BERTConfig):
    """The shape of a RoBERTa."""

    presets: ClassVar[dict[str, dict]] = {name: PRESETS[name] for name in ("base", "large")}

    vocab_size: Count = option(50265, "V, the number of different tokens")
    token_types: Whole = option(1, "segments that are told apart")
    norm_eps: NotNegative = option(1e-5, "the layer norms' guard against division by zero")
    pad_id: Whole = option(1, "the token that fills up short rows")


class RoBERTa(BERT):
    """ids (B, T), token_types (B, T), mask (B, T) -> Encoded."""

    config_class, kinds = RoBERTaConfig, ("roberta",)

    def make_embeddings(self) -> Embeddings:
        return Embeddings(self.config, self.config.width, first_position=self.config.pad_id + 1)

    def embed(self, ids, token_types=None):
        return self.embeddings(ids, self.embeddings.position(self.positions(ids)), token_types)

    def positions(self, ids):
        """(B, T) -> (B, T): pad_id + 1, + 2, ... for the tokens, pad_id for padding, whatever the mask says."""
        real = ids != self.config.pad_id
        return backend.array_module(ids).cumsum(real, axis=1).astype(np.int64) * real + self.config.pad_id


class RoBERTaForPreTraining(BERTForPreTraining):
    """RoBERTa with the masked-word head."""

    body_class, config_class, kinds = RoBERTa, RoBERTaConfig, RoBERTa.kinds
    sentence_head, needs = False, {}
