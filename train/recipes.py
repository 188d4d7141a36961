"""What suits each family: the objective it is pretrained for, and the sizes that learn most in minutes on a laptop.

An objective belongs to every model of a family, whoever made it: a run that goes on, is evaluated or made smaller asks
for it here. A recipe is what `python -m train FAMILY` starts from; flags change any of it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from models.bert import PRESETS as BERTS
from models.config import Config
from models.elmo import PRESETS as ELMOS
from models.families import FAMILIES, Family
from models.tokenizers import ByteLevelBPE, Bytes, Characters, Tokenizer, Unigram, WordPiece, Words
from train.data.documents import SentenceEncoder
from train.objectives.made import BothWays, TextToText, both_ways, masked, text_to_text
from train.objectives.masked import MaskedConfig
from train.objectives.windows import Causal
from train.trainer import TrainConfig

SENTINELS = 100  # that a tokenizer learned for a T5 has


@dataclass(frozen=True)
class NoSettings:
    """Of an objective that leaves nothing to choose."""


def causal(model: Config, training: TrainConfig, settings: NoSettings, tokenizer: Tokenizer) -> Causal:
    return Causal(model.context, training.batch, training.seed)


@dataclass(frozen=True)
class ObjectiveRecipe:
    """How an objective is made, for whatever family has it.

    make: (model's config, TrainConfig, settings, tokenizer) -> the objective.   settings: their dataclass.
    encoder: tokenizer -> what encodes a corpus for it.
    plain: whether it predicts each token of any text once, so that `eval` may measure texts by it.
    """

    make: Callable
    settings: type = NoSettings
    encoder: Callable = lambda tokenizer: tokenizer
    plain: bool = False


OBJECTIVES = {
    "causal": ObjectiveRecipe(causal, plain=True),
    "masked": ObjectiveRecipe(masked, MaskedConfig, SentenceEncoder),
    "text to text": ObjectiveRecipe(text_to_text, TextToText),
    "bidirectional": ObjectiveRecipe(both_ways, BothWays, plain=True),
}


@dataclass(frozen=True)
class Recipe:
    """What a pretraining command starts from."""

    family: str
    tokenizers: dict[str, Callable[[Iterable[str], int], Tokenizer]]  # name -> train(texts, vocab_size)
    usual: tuple[str, str]  # which of them is used for the built-in stories, and which for the user's own text
    vocab_size: int  # of a tokenizer that is learned, unless --vocab-size says otherwise
    model: dict  # the fields of the model's config that suit the stories, two cores and a few minutes
    training: dict  # those of TrainConfig
    stories: int = 8_000_000  # characters
    floor: bool = False  # whether every token of the text is predicted once, so that its entropy bounds the loss

    @property
    def record(self) -> Family:
        return FAMILIES[self.family]

    @property
    def objective(self) -> ObjectiveRecipe:
        return OBJECTIVES[self.record.objective]


GPT = Recipe(
    family="gpt", usual=("bpe", "characters"), vocab_size=1024, floor=True,
    tokenizers={"characters": lambda texts, vocab_size: Characters.train(texts), "bpe": ByteLevelBPE.train},
    # What learns most from the stories in two minutes on two cores.
    model=dict(context=256, layers=2, heads=4, width=128, bias=False, init_std=0.08),
    training=dict(steps=3500, batch=4, lr=3e-3),
)
BERT = Recipe(
    family="bert", tokenizers={"wordpiece": WordPiece.train}, usual=("wordpiece", "wordpiece"), vocab_size=1024,
    # BERT-Tiny, with larger first weights, from which a narrow model learns faster, and without dropout. Many small
    # batches: for the same tokens the loss falls faster than with a quarter as many of 32 (benchmarks/results/bert.md).
    model=BERTS["tiny"] | dict(context=128, init_std=0.04, dropout=0.0, attention_dropout=0.0),
    training=dict(steps=8000, batch=8, lr=1e-3, beta2=0.98, weight_decay=0.01),
)
T5 = Recipe(
    family="t5", usual=("unigram", "unigram"), vocab_size=1100,
    tokenizers={"bytes": lambda texts, vocab_size: Bytes(),
                "unigram": lambda texts, vocab_size: Unigram.train(texts, vocab_size, extra_ids=SENTINELS)},
    model=dict(layers=2, heads=4, head_width=32, width=128, hidden=512),
    # Adafactor's relative steps, as T5 was trained; after 300 steps 0.3 nats ahead of AdamW (benchmarks/results/t5.md).
    training=dict(steps=3000, batch=16, optimizer="adafactor-relative", lr=1e-2, min_lr=1e-3, weight_decay=0.0),
)
ELMO = Recipe(
    family="elmo", tokenizers={"words": Words.train}, usual=("words", "words"), vocab_size=10_000, model=ELMOS["toy"],
    training=dict(steps=3000, batch=16, lr=3e-3, eval_batches=5), stories=2_000_000,
)
