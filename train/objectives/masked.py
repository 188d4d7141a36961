"""Masked language modelling, and whether two texts belong together (BERT, RoBERTa, ALBERT, DistilBERT).

Of every text 15% of the tokens are chosen to be predicted. Of these 80% are replaced by [MASK], 10% by a random token
and 10% are left alone: so the model may never trust what it sees, and must form a view of every position (Devlin et al.
2018, section 3.1 and appendix C.2; the counts and roundings are those of the published create_pretraining_data.py).

A pass goes through all documents once, packed anew. With dynamic masking (Liu et al. 2019) no pass repeats another;
with static masking, as in the first BERT, there are `duplicates` different passes, which then come again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from models.config import option
from models.schema import Chance, Count, Part, Whole, check_fields
from models.tokenizers import Tokenizer, pad
from tinytensor import random
from tinytensor.ops.softmax import IGNORED
from train.data.documents import TASKS, Documents, Pair, pack
from train.objectives import Objective
from train.objectives.labelled import bucketed, by_length

MASKINGS = ("dynamic", "static")


@dataclass(frozen=True)
class MaskedConfig:
    """What is masked, and which pairs are made."""

    mask_share: Chance = option(0.15, "of a text's tokens, special ones counted too, that are to be predicted")
    max_predictions: Whole = option(0, "the most tokens to predict in one text (0: no limit)")
    whole_words: bool = option(False, "choose whole words instead of single tokens")
    masking: Literal[*MASKINGS] = option("dynamic", "dynamic (drawn anew), or static (--duplicates passes, repeated)")
    duplicates: Count = option(10, "different passes with static masking")
    pairs: Literal[*TASKS] = option("next", f"what is asked of a pair of texts: {', '.join(TASKS)}")
    short: Part = option(0.1, "share of documents packed to a random smaller length")

    def __post_init__(self):
        check_fields(self)


@dataclass
class Masked(Objective):
    """Batches {"ids", "token_types", "mask", "targets"}, (B, T) each, and "next" (B,) unless pairs are "none".

    The data is a file of ids in which the tokenizer's separator ends sentences and documents (data/documents.py).
    Batch `number` is a function of the seed and the number, so a resumed run goes on with the same batches.
    one_shape: fill all training batches up to `batch` rows of `context` tokens, of which nothing is asked.
    """

    tokenizer: Tokenizer
    context: int
    batch: int
    config: MaskedConfig = MaskedConfig()
    seed: int = 0
    one_shape: bool = False
    _documents: dict = field(default_factory=dict, repr=False)  # id of a file -> (file, Documents)
    _passes: dict = field(default_factory=dict, repr=False)  # (id of a file, pass) -> (pairs, batches of pairs)

    def __post_init__(self):
        if self.tokenizer.mask_id is None:
            raise ValueError("this tokenizer has no [MASK] or <mask>; masked language modelling needs one")
        self.frame_length = len(self.tokenizer.dress([], None if self.config.pairs == "none" else [])[0])
        if self.context < (least := self.frame_length + 8):
            raise ValueError(f"a context of {self.context} is too short for a pair; use at least {least}")
        self.is_special = np.zeros(self.tokenizer.vocab_size, bool)
        self.is_special[list(self.tokenizer.special_tokens.values())] = True
        self.continues = self.tokenizer.continues_word() if self.config.whole_words else None

    def check(self, tokens: np.ndarray, what: str) -> None:
        documents = self.documents(tokens)
        if self.config.pairs == "next" and len(documents) < 2:
            few = f"the {what} part has {len(documents)} documents; a next sentence from elsewhere needs at least two"
            raise ValueError(f"{few}: put blank lines between documents, or use --pairs order or none")
        if not self.pairs_of_pass(tokens, 0)[0]:
            raise ValueError(f"the {what} part has no two sentences to make a pair of; give more --data")

    def documents(self, tokens: np.ndarray) -> Documents:
        if id(tokens) not in self._documents:
            self._documents[id(tokens)] = tokens, Documents(tokens, self.tokenizer.separator_id)
        return self._documents[id(tokens)][1]

    def pairs_of_pass(self, tokens: np.ndarray, number: int) -> tuple[list[Pair], list[np.ndarray]]:
        """All pairs of a pass, and their numbers in batches of like length."""
        key = id(tokens), number
        if key not in self._passes:
            for old in [k for k in self._passes if k[0] == key[0] and k[1] != 0]:
                del self._passes[old]  # the first pass stays: its size counts for all
            with random.seeded(self.seed, number) as draw:
                room = self.context - self.frame_length
                pairs = pack(self.documents(tokens), room, self.config.pairs, self.config.short, draw)
                batches = bucketed([pair.length for pair in pairs], self.batch, draw) if pairs else []
            self._passes[key] = pairs, batches
        return self._passes[key]

    def training_batch(self, tokens: np.ndarray, number: int) -> dict[str, np.ndarray]:
        per_pass = len(self.pairs_of_pass(tokens, 0)[1])
        turn, place = divmod(number, per_pass)
        if self.config.masking == "static":
            turn %= self.config.duplicates
        pairs, batches = self.pairs_of_pass(tokens, turn)
        with random.seeded(self.seed, turn, place + 1) as draw:
            batch = self.make([pairs[i] for i in batches[place % len(batches)]], self.documents(tokens), draw)
        return self.filled_up(batch) if self.one_shape else batch

    def filled_up(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The batch as (batch, context) arrays: more padding, and rows that are nothing else."""
        blank = {"ids": self.tokenizer.pad_id or 0, "targets": IGNORED, "next": IGNORED}
        whole = {}
        for name, array in batch.items():
            rows = array if array.ndim == 1 else pad(array, blank.get(name, 0), self.context)
            (whole[name],) = pad([rows], blank.get(name, 0), self.batch)
        return whole

    def evaluation_batches(self, tokens: np.ndarray, limit: int | None = None) -> list[np.ndarray]:
        """Of the first pass's pairs."""
        return by_length([pair.length for pair in self.pairs_of_pass(tokens, 0)[0]], self.batch, limit)

    def evaluation_batch(self, tokens: np.ndarray, chosen: np.ndarray) -> dict[str, np.ndarray]:
        pairs, _ = self.pairs_of_pass(tokens, 0)
        with random.seeded(self.seed, *chosen.tolist()) as draw:  # the same masks at every evaluation
            return self.make([pairs[i] for i in chosen], self.documents(tokens), draw)

    def make(self, pairs: list[Pair], documents: Documents, draw: np.random.Generator) -> dict[str, np.ndarray]:
        """Some pairs as a batch, masked."""
        rows = self.tokenizer.batch([self.tokenizer.dress(*pair.ids(documents)) for pair in pairs])
        chosen = self.choose(rows.ids, rows.mask, draw)
        seen = self.replace(rows.ids, chosen, draw)
        targets = np.where(chosen, rows.ids, IGNORED)
        batch = {"ids": seen, "token_types": rows.types, "mask": rows.mask, "targets": targets}
        return batch if self.config.pairs == "none" else batch | {"next": np.array([pair.label for pair in pairs])}

    def choose(self, ids: np.ndarray, mask: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """Which tokens are to be predicted, (B, T). Never a special one."""
        candidates = mask & ~self.is_special[ids]
        budget = [self.budget(n) for n in mask.sum(axis=1).tolist()]
        if self.continues is not None:
            return np.stack([self.choose_words(*row, draw) for row in zip(ids, candidates, budget)])
        keys = np.where(candidates, draw.random(ids.shape), 2.0)  # the lowest keys are chosen
        rank = keys.argsort(axis=1).argsort(axis=1)
        return candidates & (rank < np.array(budget)[:, None])

    def choose_words(self, ids: np.ndarray, candidates: np.ndarray, budget: int, draw: np.random.Generator):
        """The same for one row, (T,), word by word: a word for which there is no room is passed over, never cut."""
        places = np.flatnonzero(candidates)
        begins = ~self.continues[ids[places]] | (np.diff(places, prepend=-1) > 1)
        words = np.split(places, np.flatnonzero(begins)[1:])
        chosen, left = np.zeros(len(ids), bool), budget
        for i in draw.permutation(len(words)):
            if not left:
                break
            if len(words[i]) <= left:
                chosen[words[i]] = True
                left -= len(words[i])
        return chosen

    def budget(self, length: int) -> int:
        """How many of a text's tokens are predicted; rounded half to even, as Python does."""
        share = max(1, round(length * self.config.mask_share))
        return min(share, self.config.max_predictions or math.inf)

    def replace(self, ids: np.ndarray, chosen: np.ndarray, draw: np.random.Generator) -> np.ndarray:
        """What the model sees: of the chosen tokens 80% masked, 10% random of the whole vocabulary, 10% as they are."""
        dice = draw.random(ids.shape)
        strange = draw.integers(0, self.tokenizer.vocab_size, ids.shape)
        seen = np.where(chosen & (dice < 0.8), self.tokenizer.mask_id, ids)
        return np.where(chosen & (dice >= 0.9), strange, seen)
