"""Train a reward model: a number for every reply, higher for those that people prefer.

  python -m train reward runs/finetune-1                     of a talker: its own replies among others, put in order by
                                                             the rule of the stories' world
  python -m train reward runs/gpt-1                          of a GPT: replies made for the stories' world
  python -m train reward runs/gpt-1 --data harmless.jsonl.gz             hh-rlhf's files as published
  python -m train ask runs/finetune-1 "Who is it?" "It is Mia." "Go away."        the rewards of two replies
The same as finetune --task reward, whose other flags it has.
"""

import argparse

from train.commands import finetune


def add_arguments(parser: argparse.ArgumentParser) -> None:
    finetune.add_arguments(parser)
    parser.set_defaults(task="reward")


def main(args: argparse.Namespace) -> None:
    if args.task != "reward":
        raise ValueError(f"reward learns preferences, not {args.task}: python -m train finetune --task {args.task}")
    if args.resume:
        args.task = None
    finetune.main(args)
