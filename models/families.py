"""The families of models: one record each, with everything in which they differ.

Commands, runs, tasks and what makes models smaller ask the record and know no family by name. A new family takes a
model file, a table of published names (models/pretrained), a record here and a line of tests (tests/test_matrix.py).
How it is best trained on a laptop stands in train/recipes.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from models import chat
from models.albert import ALBERTConfig, ALBERTForPreTraining
from models.bert import BERTConfig, BERTForPreTraining
from models.config import Config
from models.contract import Body, Model
from models.distilbert import DistilBERTConfig, DistilBERTForPreTraining
from models.elmo import ELMo, ELMoConfig
from models.ernie_gen import ERNIEGen, ERNIEGenConfig
from models.gpt import GPT, GPTConfig
from models.gpt_body import GPTBody
from models.inputs import CharacterInputs, MarkedInputs, SharedInputs, TextInputs
from models.roberta import RoBERTaConfig, RoBERTaForPreTraining
from models.sight import Sight, SightConfig
from models.stretch import recomputing, stretched
from models.switch import SwitchConfig, SwitchTransformer
from models.t5 import T5, T5Config
from models.tokenizers import Tokenizer
from models.xlnet import XLNet, XLNetConfig


@dataclass(frozen=True)
class Family:
    """One record.

    body: (model, whether for a task) -> what a head reads; None: the model learns every task as text to read and
        text to write.   inputs: (model, tokenizer, most tokens, whether for a task) -> what makes the body's arrays.
    """

    name: str  # in a run's config.json
    model: type[Model]  # what is pretrained
    config: type[Config]
    objective: str  # what it is pretrained for: a key of OBJECTIVES in train/recipes.py
    unit: str  # in which models are compared: "perplexity", or "accuracy (%)" of the masked words
    published: tuple[str, ...] = ()  # the model_type in the config.json of published folders
    body: Callable[[Model, bool], Body] | None = None
    inputs: Callable[[Model, Tokenizer, int, bool], TextInputs] = lambda _, tokenizer, n, __: TextInputs(tokenizer, n)
    usual_length: int = 0  # tokens a text is cut to; 0: the context, which is also the most there may be
    ids: Mapping[str, Callable] = field(default_factory=dict)  # fields of the config that its tokenizer gives
    talker: Callable[[Model, Tokenizer, int], tuple] | None = None  # the reader of one that learns conversations
    begins: Mapping[str, Callable] = field(default_factory=dict)  # other family -> (its model, tokenizer) -> this one's
    anew: Mapping[str, Callable] = field(default_factory=dict)  # fields of the config that --init may change -> how

    def reader(self, model: Model, tokenizer: Tokenizer, max_length: int = 0, for_task: bool = True,
               talks: bool = False):  # fmt: skip
        """(what reads the texts, what makes its arrays) of a pretrained model, which may be changed.

        max_length: tokens a text is cut to (0: the usual).   for_task: False to make vectors without fine-tuning.
        talks: to write what comes next in a conversation (models/chat.py), with a row for each of its marks.
        """
        longest = self.usual_length or model.config.context
        if not self.usual_length and max_length > longest:
            raise ValueError(f"--max-length {max_length} is more than the model's context of {longest}")
        if talks:
            return self.talker(model, tokenizer, max_length or longest)
        inputs = self.inputs(model, tokenizer, max_length or longest, for_task)
        unmarked = for_task and not isinstance(inputs, chat.ChatInputs)
        return (self.body(model, unmarked) if self.body else model), inputs


PAD = {"pad_id": lambda tokenizer: tokenizer.pad_id}
END = PAD | {"eos_id": lambda tokenizer: tokenizer.end_id}
INFILLING = END | {"start_id": lambda tokenizer: _named(tokenizer, "[CLS]"),
                   "attn_id": lambda tokenizer: _named(tokenizer, "[ATTN]", "[MASK]")}  # fmt: skip


def _named(tokenizer: Tokenizer, *names: str) -> int:
    """The id of the first of these special tokens that there is."""
    found = [tokenizer.special_tokens[name] for name in names if name in tokenizer.special_tokens]
    if not found or tokenizer.separator_id is None or tokenizer.pad_id is None:
        raise ValueError(f"an ERNIE-GEN needs {' or '.join(names)}, [SEP] and [PAD]; this {type(tokenizer).__name__} "
                         "lacks one")
    return found[0]


def _from_bert(bert: BERTForPreTraining, tokenizer: Tokenizer) -> ERNIEGen:
    return ERNIEGen.from_bert(bert, {name: of(tokenizer) for name, of in INFILLING.items()})


def _marked(gpt: GPT, tokenizer: Tokenizer, n: int, for_task: bool) -> TextInputs:
    """A GPT gets marks of its own for the beginning, the middle and the end of a text, which mean nothing untrained;
    one that talks has its own."""
    if chat.END in tokenizer.special:
        return chat.ChatInputs(tokenizer, n)
    return MarkedInputs(tokenizer, n, gpt.config.vocab_size) if for_task else TextInputs(tokenizer, n)


def _encoder(name: str, model: type[Model], config: type[Config]) -> Family:
    """A BERT or one of its kin."""
    body = lambda model, for_task: model.body
    return Family(name, model, config, "masked", "accuracy (%)", model.kinds, body, ids=PAD)


def _encoder_decoder(name: str, model: type[Model], config: type[Config]) -> Family:
    """A T5 or one of its kin, which learns every task as text to read and text to write."""
    return Family(name, model, config, "text to text", "perplexity", model.kinds, usual_length=512, ids=END)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("gpt", GPT, GPTConfig, "causal", "perplexity", GPT.kinds,
               body=lambda gpt, for_task: GPTBody(gpt, marked=for_task), inputs=_marked, talker=chat.talker,
               anew={"context": stretched, "recompute": recomputing}),
        Family("sight", Sight, SightConfig, "pictures", "perplexity",
               body=lambda sight, for_task: GPTBody(sight, marked=for_task), inputs=_marked, talker=chat.talker,
               begins={"gpt": lambda gpt, tokenizer: Sight.from_gpt(gpt)}),
        Family("elmo", ELMo, ELMoConfig, "bidirectional", "perplexity",
               body=lambda elmo, for_task: elmo.as_body(), usual_length=500,
               inputs=lambda elmo, tokenizer, n, _: CharacterInputs(tokenizer, n, elmo.config.characters)),
        _encoder("bert", BERTForPreTraining, BERTConfig),
        _encoder("roberta", RoBERTaForPreTraining, RoBERTaConfig),
        _encoder("distilbert", DistilBERTForPreTraining, DistilBERTConfig),
        _encoder("albert", ALBERTForPreTraining, ALBERTConfig),
        Family("xlnet", XLNet, XLNetConfig, "permutation", "perplexity", XLNet.kinds,
               body=lambda xlnet, for_task: xlnet, ids=PAD | {"mask_id": lambda tokenizer: tokenizer.mask_id}),
        _encoder_decoder("t5", T5, T5Config),
        _encoder_decoder("switch", SwitchTransformer, SwitchConfig),
        Family("ernie-gen", ERNIEGen, ERNIEGenConfig, "infilling", "perplexity", ids=INFILLING,
               inputs=lambda model, tokenizer, n, _: SharedInputs(tokenizer, n, model.config.context),
               begins={"bert": _from_bert}),
    )
}  # fmt: skip
PUBLISHED = {kind: family for family in FAMILIES.values() for kind in family.published}


def family_of(model: Model) -> Family:
    """The record of a pretrained model."""
    for family in FAMILIES.values():
        if type(model) is family.model:
            return family
    raise ValueError(f"a {type(model).__name__} is no pretrained model of a known family: {', '.join(FAMILIES)}")
