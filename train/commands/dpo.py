"""Let a talker learn from pairs of replies of which people prefer one, without a reward model (DPO).

  python -m train dpo runs/finetune-1                        talk from the stories' world, whose gold reward is known
  python -m train dpo runs/finetune-1 --data harmless.jsonl.gz --beta 0.1          hh-rlhf's files as published
  python -m train dpo --resume runs/dpo-1                    go on where it was stopped
"""

import argparse
import contextlib

from train import runs
from train.flags import add_config_flags, given
from train.preference import dpo, start
from train.preference.dpo import DPOConfig
from train.trainer import TrainConfig

FOLLOWS = ("steps", "accumulate")  # from the epochs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    start.add_arguments(parser, "dpo")
    add_config_flags(parser, "what is learned", DPOConfig)
    add_config_flags(parser, "the training", TrainConfig, dpo.TRAINING, skip=FOLLOWS)


def main(args: argparse.Namespace) -> None:
    args = start.begun(args, "dpo", add_arguments)
    config, settings = DPOConfig(**given(args, DPOConfig)), dpo.TRAINING | given(args, TrainConfig)
    TrainConfig(**settings)
    source, (preferences, held_out) = start.talker(args.run), start.examples(args)
    make = lambda folder, going_on: dpo.begin(folder.path, source, going_on, preferences, held_out, config, settings)
    trainer = start.trainer_of(args, "dpo", [args.run], make, (preferences, held_out))
    pairs, steps = len(trainer.train_data), trainer.config.steps
    print(f"{pairs} pairs to learn from and {len(trainer.val_data)} held out; {steps} steps; in {trainer.folder.goal}")
    with contextlib.closing(trainer.folder):
        if not runs.train(trainer):
            print(f"stopped after step {trainer.progress.step}; go on with: python -m train dpo --resume {trainer.run}")
            return
    print("held out: " + ", ".join(f"{name} {value:.4f}" for name, value in trainer.report.scores.items()))
    print(f"to talk to it: python -m train chat {trainer.run}")
