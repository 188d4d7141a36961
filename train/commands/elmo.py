"""Train an ELMo: two LSTMs that read a text both ways, and give each word a vector that depends on its sentence.

Without any flag it learns from built-in stories, on all cores, in a few minutes.

  python -m train elmo --data book.txt                   learn from your own text
  python -m train elmo --data book.txt --softmax sampled --samples 1000 --vocab-size 50000
  python -m train elmo --resume runs/elmo-1              go on where a run was stopped

Then put it to use: python -m train finetune runs/elmo-1 --task tag --data FILE.tsv
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.config import option
from models.elmo import PRESETS, ELMoConfig
from models.tokenizers import ElmoCharacters, Tokenizer, Words
from train import checkpoint, pretrain
from train.objectives.bidirectional import Bidirectional
from train.report import perplexity
from train.trainer import TrainConfig

SUMMARY = "train an ELMo, whose word vectors depend on the sentence"


@dataclass(frozen=True)
class ELMoObjective:
    """How the text is read."""

    context: int = option(20, "words in a row of a batch; gradients go back that far, while the state goes on")

    def __post_init__(self):
        if self.context < 1:
            raise ValueError(f"context must be at least 1, not {self.context}")

    def make(self, model: ELMoConfig, training: TrainConfig, tokenizer: Tokenizer) -> Bidirectional:
        if not isinstance(tokenizer, Words):
            raise ValueError(f"ELMo predicts whole words; a {type(tokenizer).__name__} tokenizer has none")
        spelling = ElmoCharacters(model.characters).encode_words(tokenizer.tokens).astype(np.int16)
        return Bidirectional(self.context, training.batch, spelling, tokenizer.vocab_size)


RECIPE = pretrain.Recipe(
    family="elmo",
    make_objective=lambda model, training, objective, tokenizer: objective.make(model, training, tokenizer),
    tokenizers={"words": Words.train},
    usual=("words", "words"),
    vocab_size=10_000,
    model=PRESETS["toy"],
    training=dict(steps=3000, batch=16, lr=3e-3, eval_batches=5),
    objective=ELMoObjective,
    stories=2_000_000,
)


def objective_of(folder: Path, model, tokenizer: Tokenizer, batch: int) -> Bidirectional:
    """The objective that a run was trained with, for evaluating `batch` rows at a time."""
    settings = pretrain.load_settings(folder)
    objective = checkpoint.made_from(ELMoObjective, settings.get("objective"), folder / "trainer.json")
    return objective.make(model.config, TrainConfig(**(settings["train"] | {"batch": batch})), tokenizer)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pretrain.add_arguments(parser, RECIPE)


def main(args: argparse.Namespace) -> None:
    run = pretrain.start(args, RECIPE)
    if not pretrain.train(run):
        return
    loss = run.trainer.report.val_loss
    print(f"held-out loss {loss:.4f} nats per word, perplexity {perplexity(loss):.2f}, the mean of both directions")
    print(pretrain.describe_folder(run))
    print(f"to use it: python -m train finetune {run.folder} --task tag --data FILE.tsv")
