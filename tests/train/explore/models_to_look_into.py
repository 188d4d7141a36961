"""A small model of each family with its tokenizer; larger first weights than usual, so that its heads differ."""

import numpy as np

import tinytensor as tt
from models import GPT, T5, ELMo, GPTConfig, T5Config
from models.elmo import ELMoConfig
from models.families import FAMILIES
from models.sight import Sight, SightConfig
from models.tokenizers import ByteLevelBPE, Unigram, WordPiece, Words
from models.tokenizers.xlnet import train
from models.xlnet import XLNet, XLNetConfig

TEXT = "The quick brown fox jumps over the lazy dog. The dog sleeps, and the quick fox runs over the hill to the den."
SHORT = "The lazy fox runs to the hill."
ENCODER = dict(context=32, layers=2, heads=2, width=16, init_std=0.3, dropout=0.0, attention_dropout=0.0)


def gpt(**changes):
    tokenizer = ByteLevelBPE.train([TEXT], 300)
    shape = dict(vocab_size=310, context=32, layers=3, heads=2, width=16, init_std=0.3)
    return GPT(GPTConfig(**shape | changes)), tokenizer


def sight():
    tokenizer = ByteLevelBPE.train([TEXT], 300)
    shape = dict(vocab_size=310, context=32, layers=2, heads=2, width=16, init_std=0.3, side=12, patch=4)
    return Sight(SightConfig(**shape)), tokenizer


def encoder(name: str, **more):
    tokenizer = WordPiece.train([TEXT], 80)
    family = FAMILIES[name]
    config = family.config(**ENCODER | dict(vocab_size=tokenizer.vocab_size, pad_id=tokenizer.pad_id) | more)
    return family.model(config), tokenizer


def t5():
    tokenizer = Unigram.train([TEXT], 60, extra_ids=4)
    return T5(T5Config(vocab_size=70, layers=2, heads=2, head_width=8, width=16, hidden=32)), tokenizer


def xlnet():
    tokenizer = train([TEXT], 60)
    return XLNet(XLNetConfig(vocab_size=60, context=32, layers=2, heads=2, width=16, init_std=0.3)), tokenizer


def elmo(**changes):
    tokenizer = Words.train([TEXT], 12)
    shape = dict(vocab_size=12, width=8, hidden=16, char_width=4, filters="1x4,2x8", highways=1, dropout=0.0)
    return ELMo(ELMoConfig(**shape | changes)), tokenizer


MODELS = {
    "gpt": gpt, "gpt with windows": lambda: gpt(window=3), "gpt-1": lambda: gpt(post_norm=True),
    "sight": sight, "bert": lambda: encoder("bert"), "distilbert": lambda: encoder("distilbert"),
    "roberta": lambda: encoder("roberta", token_types=2), "albert": lambda: encoder("albert", embedding_width=8),
    "t5": t5, "xlnet": xlnet, "elmo": elmo, "elmo without words": lambda: elmo(vocab_size=0),
}  # fmt: skip


def made(name: str):
    """(model in evaluation, tokenizer)"""
    tt.manual_seed(3)
    model, tokenizer = MODELS[name]()
    for parameter in model.parameters():  # biases and norms that do something
        if parameter.ndim == 1 and parameter.dtype == np.float32:
            parameter.data += 0.1 * np.random.default_rng(parameter.size).standard_normal(parameter.shape, np.float32)
    return model.eval(), tokenizer
