"""Train a Switch Transformer: a T5 in which each token passes one of many experts, or two.

Without any flag it learns span corruption from built-in stories, on all cores, in a few minutes.

  python -m train switch --data book.txt                 learn from your own text
  python -m train switch --experts 32 --balance 0        more experts; and what becomes of loads that nothing balances
  python -m train switch --top 2                         GShard's way: two experts to a token
  python -m train switch --resume runs/switch-1          go on where a run was stopped

A GPT and a T5 take --experts and the flags that go with it, too.
"""

import argparse
import dataclasses

from train import pretrain
from train.commands import t5

RECIPE = dataclasses.replace(t5.RECIPE, family="switch", model=t5.RECIPE.model | dict(experts=8, every=1))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pretrain.add_arguments(parser, RECIPE)


def main(args: argparse.Namespace) -> None:
    t5.train(pretrain.start(args, RECIPE))
