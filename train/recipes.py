"""What suits each family: the objective it is pretrained for, and the sizes that learn most in minutes on a laptop.

An objective belongs to every model of a family, whoever made it: a run that goes on, is evaluated or made smaller asks
for it here. A recipe is what `python -m train FAMILY` starts from; flags change any of it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from models.config import Config
from models.families import FAMILIES, Family
from models.tokenizers import Tokenizer
from train.data.documents import SentenceEncoder
from train.data.told import StoriesSource
from train.objectives.infilling import InfillingConfig
from train.objectives.made import BothWays, NoSettings, TextToText, both_ways, infilling, masked, permuted, text_to_text
from train.objectives.masked import MaskedConfig
from train.objectives.permutation import Lines, Permutation, PermutationConfig
from train.objectives.pictured import Asking, SceneEncoder, pictured
from train.objectives.windows import Causal
from train.trainer import TrainConfig


def causal(model: Config, training: TrainConfig, settings: NoSettings, tokenizer: Tokenizer) -> Causal:
    return Causal(model.context, training.batch, training.seed)


@dataclass(frozen=True)
class ObjectiveRecipe:
    """How an objective is made, for whatever family has it.

    make: (model's config, TrainConfig, settings, tokenizer) -> the objective.   settings: their dataclass.
    encoder: tokenizer -> what encodes a corpus for it.
    plain: of the objective, makes one that predicts each token of any text once, for `eval`; None if there is none.
    """

    make: Callable
    settings: type = NoSettings
    encoder: Callable = lambda tokenizer: tokenizer
    plain: Callable | None = None


OBJECTIVES = {
    "causal": ObjectiveRecipe(causal, plain=lambda made: made),
    "masked": ObjectiveRecipe(masked, MaskedConfig, SentenceEncoder),
    "text to text": ObjectiveRecipe(text_to_text, TextToText),
    "infilling": ObjectiveRecipe(infilling, InfillingConfig),
    "bidirectional": ObjectiveRecipe(both_ways, BothWays, plain=lambda made: made),
    "pictures": ObjectiveRecipe(pictured, Asking, SceneEncoder),
    "permutation": ObjectiveRecipe(permuted, PermutationConfig, Lines, plain=Permutation.in_order),
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
    source: Callable = StoriesSource  # so many characters of built-in text
    floor: bool = False  # whether every token of the text is predicted once, so that its entropy bounds the loss

    @property
    def record(self) -> Family:
        return FAMILIES[self.family]

    @property
    def objective(self) -> ObjectiveRecipe:
        return OBJECTIVES[self.record.objective]
