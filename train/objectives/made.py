"""How most objectives are made of what their commands offer; see ObjectiveRecipe (recipes.py)."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from models.config import Config, option
from models.elmo import ELMoConfig
from models.ernie_gen import ERNIEGenConfig
from models.schema import Count, Portion, Range, check_fields
from models.t5 import T5Config
from models.tokenizers import ElmoCharacters, Tokenizer, Words
from models.xlnet import XLNetConfig
from train.objectives.bidirectional import Bidirectional
from train.objectives.infilling import Infilling, InfillingConfig
from train.objectives.masked import Masked, MaskedConfig
from train.objectives.permutation import Permutation, PermutationConfig
from train.objectives.sequences import Deshuffling, NextSequence, PrefixLM, SpanCorruption
from train.objectives.windows import Windows
from train.trainer import TrainConfig


@dataclass(frozen=True)
class NoSettings:
    """Of an objective that leaves nothing to choose."""


@dataclass(frozen=True)
class TextToText:
    """What to learn from plain text, and on how much of it at a time."""

    objective: Literal["spans", "next", "prefix", "deshuffle"] = option(
        "spans", "what to learn: spans (write what was cut out), next (the text that follows), prefix (the rest), "
        "deshuffle (the tokens in order)")  # fmt: skip
    context: Count = option(128, "the longest input of the encoder in training; the model itself takes any")
    density: Portion = option(0.15, "spans: the share of the tokens that is cut out")
    mean_span: Annotated[float, Range(1)] = option(3.0, "spans: the mean length of what is cut out, in tokens")

    def __post_init__(self):
        check_fields(self)


@dataclass(frozen=True)
class BothWays:
    """How the text is read."""

    context: Count = option(20, "words in a row of a batch; gradients go back that far, while the state goes on")

    def __post_init__(self):
        check_fields(self)


def masked(model: Config, training: TrainConfig, settings: MaskedConfig, tokenizer: Tokenizer) -> Masked:
    return Masked(tokenizer, model.context, training.batch, settings, training.seed, one_shape=training.graph)


def text_to_text(model: T5Config, training: TrainConfig, settings: TextToText, tokenizer: Tokenizer) -> Windows:
    if tokenizer.pad_id is None or tokenizer.end_id is None:
        raise ValueError(f"a T5 needs tokens for padding and the end; this {type(tokenizer).__name__} has none")
    size = dict(context=settings.context, batch=training.batch, seed=training.seed)
    if settings.objective == "spans":
        marks = dict(sentinels=tuple(tokenizer.sentinel_ids), eos=model.eos_id)
        return SpanCorruption(**size, **marks, density=settings.density, mean_span=settings.mean_span)
    if settings.objective == "next":
        return NextSequence(**size)
    if settings.objective == "prefix":
        return PrefixLM(**size, pad=model.pad_id, eos=model.eos_id, one_shape=training.graph)
    return Deshuffling(**size, eos=model.eos_id)


def infilling(model: ERNIEGenConfig, training: TrainConfig, settings: InfillingConfig, tokenizer: Tokenizer) -> Windows:
    marks, continues = (model.start_id, model.eos_id), tokenizer.continues_word()
    return Infilling(model.context, training.batch, training.seed, marks, continues, settings)


def both_ways(model: ELMoConfig, training: TrainConfig, settings: BothWays, tokenizer: Tokenizer) -> Bidirectional:
    if not isinstance(tokenizer, Words):
        raise ValueError(f"ELMo predicts whole words; a {type(tokenizer).__name__} tokenizer has none")
    spelling = ElmoCharacters(model.characters).encode_words(tokenizer.tokens).astype(np.int16)
    return Bidirectional(settings.context, training.batch, spelling, tokenizer.vocab_size)


def permuted(model: XLNetConfig, training: TrainConfig, settings: PermutationConfig, tokenizer: Tokenizer):
    if model.memory and not model.reuse:
        raise ValueError("what is remembered must be plain text, which goes on: add --reuse, a part of the context")
    reuse = model.reuse or model.context // 2
    return Permutation(tokenizer, model.context, training.batch, reuse, settings, training.seed)
