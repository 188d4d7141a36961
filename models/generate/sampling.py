"""From the model's scores to one token: which tokens remain, how probable each is, and the draw.

In the order they are applied: penalties for what stands in the text already; temperature; top-k; top-p; min-p; typical.
Each works on the distribution that the ones before it left. This is also the order of `transformers`.
"""

from dataclasses import dataclass

import numpy as np

from models.config import option
from models.generate import filters
from models.schema import Chance, Count, Few, NotNegative, Part, Positive, check_fields
from tinytensor import random


@dataclass(frozen=True)
class Sampling:
    """How to choose a token. The defaults draw from the model's own distribution."""

    temperature: NotNegative = option(1.0, "the scores are divided by it; 0: the most probable token, 1: as trained")
    top_k: Count | None = option(None, "choose among the K most probable tokens only")
    top_p: Chance | None = option(None, "among the fewest most probable tokens whose probabilities add up to P")
    min_p: Part | None = option(None, "among tokens at least P times as probable as the most probable one")
    typical_p: Chance | None = option(None, "among tokens of the most ordinary surprise, adding up to P")
    repetition_penalty: Positive = option(1.0, "divides positive scores of tokens in the text, multiplies others")
    presence_penalty: float = option(0.0, "subtracted from the scores of tokens that have been written, prompt aside")
    no_repeat_ngram: Few | None = option(None, "never write the same N tokens in a row twice")

    def __post_init__(self):
        check_fields(self)

    def penalize(self, scores: np.ndarray, ids: np.ndarray, mask: np.ndarray | None, prompt: int) -> np.ndarray:
        """scores (B, V) after penalties for what stands in ids (B, T), whose first `prompt` columns are the prompt."""
        if self.repetition_penalty == 1 and not self.presence_penalty and self.no_repeat_ngram is None:
            return scores
        penalties = self.repetition_penalty, self.presence_penalty, self.no_repeat_ngram
        return filters.penalized(scores, ids, mask, prompt, *penalties)

    def choose(self, scores: np.ndarray) -> np.ndarray:
        """Draw one token per row.   (B, V) -> (B,)"""
        if self.temperature == 0:
            return scores.argmax(axis=-1)
        p = self.probabilities(scores)
        # The inverse of the cumulative distribution at a uniform draw; rounding may leave its end just short of 1.
        ladder = p.cumsum(axis=-1)
        draw = random.generator().random((len(p), 1)) * ladder[:, -1:]
        return (ladder <= draw).sum(axis=-1)

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """The distribution that a token is drawn from, (B, V) in float64: 0 for all that the filters leave out.

        min_p: Nguyen et al. 2024 (arXiv:2407.01082).
        """
        scores = scores.astype(np.float64) / self.temperature
        if self.top_k is not None and self.top_k < scores.shape[-1]:
            kth = np.partition(scores, -self.top_k, axis=-1)[:, -self.top_k, None]
            scores = np.where(scores >= kth, scores, -np.inf)
        p = np.exp(scores - scores.max(axis=-1, keepdims=True))
        p /= p.sum(axis=-1, keepdims=True)
        if self.top_p is not None and self.top_p < 1:
            p = filters.nucleus(p, self.top_p)
        if self.min_p is not None:
            p = filters.normalized(np.where(p >= self.min_p * p.max(axis=-1, keepdims=True), p, 0))
        if self.typical_p is not None and self.typical_p < 1:
            p = filters.typical(p, self.typical_p)
        return p


def log_softmax(scores: np.ndarray) -> np.ndarray:
    """log p of every token, in the scores' own precision.   (B, V) -> (B, V)"""
    shifted = scores - scores.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
