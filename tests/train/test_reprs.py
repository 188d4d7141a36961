"""What is printed of a tokenizer, an optimizer, an objective or a config says what it is, in a line."""

import numpy as np
import pytest

from models import T5Config
from models.tokenizers import ByteLevelBPE, Bytes, Characters, ElmoCharacters, WordPiece
from nn import Linear
from train.adafactor import Adafactor
from train.objectives.bidirectional import Bidirectional
from train.objectives.labelled import Labelled
from train.objectives.masked import Masked
from train.objectives.sequences import SpanCorruption
from train.objectives.windows import Causal
from train.optim import AdamW
from train.sgd import SGD

WORDPIECE = WordPiece.train(["a cat and a dog"], 40)


@pytest.mark.parametrize("thing, said", [
    (ByteLevelBPE.train(["abab"], 258),
     "ByteLevelBPE(258 tokens, special: <|endoftext|>)"),
    (WORDPIECE,
     f"WordPiece({WORDPIECE.vocab_size} tokens, special: [PAD], [UNK], [CLS], [SEP], [MASK])"),
    (Bytes(), "Bytes(384 tokens, special: <pad>, </s>, <unk>, <extra_id_0>, <extra_id_1>)"),
    (Characters.train("abc"), "Characters(3 tokens, special: none)"),
    (ElmoCharacters(), "ElmoCharacters(characters=50)"),
    (Causal(8, 2), "Causal(context=8, batch=2, seed=0, apart=0)"),
    (SpanCorruption(8, 2, sentinels=(1, 2)),
     "SpanCorruption(context=8, batch=2, seed=0, eos=1, density=0.15, mean_span=3.0)"),
    (Labelled(lambda rows: {}, 4), "Labelled(batch=4, seed=0, cap=0, change=None)"),
    (Bidirectional(8, 2, np.zeros((9, 50)), 9), "Bidirectional(context=8, batch=2, vocab_size=9)"),
])  # fmt: skip
def test_a_line_says_what_it_is(thing, said):
    assert repr(thing) == said


def test_an_objective_tells_of_its_tokenizer_and_settings_and_a_config_of_its_fields():
    said = f"Masked(tokenizer={WORDPIECE!r}, context=32, batch=2, config=MaskedConfig("
    assert repr(Masked(WORDPIECE, 32, 2)).startswith(said)
    assert "vocab_size=32128, " in repr(T5Config())


@pytest.mark.parametrize("make, said", [
    (AdamW, "AdamW(lr=0.001, weight_decay=0.01, rank=0, steps=0, betas=(0.9, 0.999), eps=1e-08; 11"),
    (SGD, "SGD(lr=0.1, weight_decay=0.0, rank=0, steps=0, "), (Adafactor, "Adafactor(lr=0.01, weight_decay=0.0, "),
])  # fmt: skip
def test_an_optimizer_tells_its_numbers_and_what_it_updates(make, said):
    optimizer = make([*Linear(3, 2).parameters(), *Linear(2, 1).parameters()])
    assert repr(optimizer).startswith(said)
    assert repr(optimizer).endswith("; 11 values)")
