"""Train an ERNIE-GEN: a BERT that writes, by filling in pieces that were taken out of a text.

Without any flag it learns from built-in stories, on all cores, in a few minutes. It begins slowly: an [ATTN] has to
find out first which row is the word before its own, and for 1500 steps it knows little more than how often each word
comes. The published ones began from a BERT.

  python -m train ernie-gen --data book.txt              learn from your own text
  python -m train ernie-gen --init runs/bert-1           begin with a BERT's weights, of a run or a published folder
  python -m train ernie-gen --noise 0                    read nothing but the right words
  python -m train ernie-gen --resume runs/ernie-gen-1    go on where a run was stopped

Then teach it tasks: python -m train finetune runs/ernie-gen-1 --task text2text --data FILE.tsv --noise 0.5
"""

import argparse
from collections.abc import Iterable

from models.bert import PRESETS
from models.tokenizers import WordPiece
from models.tokenizers.wordpiece import BERT_TOKENS
from train import pretrain
from train.commands.t5 import train
from train.recipes import Recipe


def wordpiece(texts: Iterable[str], vocab_size: int) -> WordPiece:
    """With an [ATTN], and capitals: what is written shall look like what was read."""
    return WordPiece.train(texts, vocab_size, (*BERT_TOKENS, "[ATTN]"), lowercase=False)


RECIPE = Recipe(
    family="ernie-gen", tokenizers={"wordpiece": wordpiece}, usual=("wordpiece", "wordpiece"), vocab_size=1024,
    # BERT's recipe, with a context in which the stories' passages and their questions have room.
    model=PRESETS["tiny"] | dict(context=200, init_std=0.04, dropout=0.0, attention_dropout=0.0),
    training=dict(steps=8000, batch=4, lr=1e-3, beta2=0.98, weight_decay=0.01),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pretrain.add_arguments(parser, RECIPE)


def main(args: argparse.Namespace) -> None:
    train(pretrain.start(args, RECIPE))
