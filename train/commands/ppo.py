"""Let a talker learn from a reward model by reinforcement (PPO): it writes, is judged, and makes the better likelier.

  python -m train ppo runs/finetune-1 --reward runs/reward-1           talk from the stories' world
  python -m train ppo runs/finetune-1 --reward runs/reward-1 --kl 0    nothing keeps it near the talker it began as
  python -m train ppo RUN --reward RUN --data harmless.jsonl.gz        prompts of hh-rlhf's files
  python -m train ppo --resume runs/ppo-1                              go on where it was stopped
"""

import argparse
import contextlib
import json
from pathlib import Path

import numpy as np

from train import runs
from train.data import stories
from train.flags import add_config_flags, given
from train.plots import draw_panels
from train.preference import ppo, start
from train.preference.ppo import PPOConfig
from train.preference.rewarder import Rewarder
from train.trainer import TrainConfig

FOLLOWS = ("steps", "accumulate", "graph", "device", "dtype")
PANELS = {"reward": "the reward model's", "gold": "the rule's", "kl": "nats a reply from the start",
          "value_loss": "the critic's error", "entropy": "nats a token", "length": "tokens a reply",
          "clip_fraction": "share of tokens out of range"}  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    start.add_arguments(parser, "ppo")
    parser.add_argument("--reward", metavar="RUN", type=Path, help="the reward model: a run of reward")
    add_config_flags(parser, "how it learns", PPOConfig)
    add_config_flags(parser, "the training", TrainConfig, ppo.TRAINING, skip=FOLLOWS)


def main(args: argparse.Namespace) -> None:
    args = start.begun(args, "ppo", add_arguments)
    if args.reward is None:
        raise ValueError(f"say what judges the replies: python -m train ppo {args.run} --reward RUN")
    config, settings = PPOConfig(**given(args, PPOConfig)), ppo.TRAINING | given(args, TrainConfig)
    TrainConfig(**settings)
    ppo.per_phase(config, settings["batch"])
    source, (preferences, compared) = start.talker(args.run), start.examples(args)
    rewarder = Rewarder.of(args.reward, compared)
    prompts, held_out = start.as_demonstrations(preferences), start.as_demonstrations(compared)
    text = None
    if config.ptx:
        told = stories.corpus(400_000, settings.get("seed", 0)).text
        text = np.array(source.inputs.tokenizer.encode(told), np.int32)
    make = lambda folder, going_on: ppo.begin(folder.path, source, going_on, rewarder, prompts, held_out, config,
                                              settings, text)
    trainer = start.trainer_of(args, "ppo", [args.run, args.reward], make, (prompts, held_out))
    print(f"{len(prompts)} prompts, {len(held_out)} held out; {config.phases} phases of {config.rollouts} replies, "
          f"{trainer.config.steps} steps; in {trainer.folder.goal}")  # fmt: skip
    ppo.prepare(trainer)
    with contextlib.closing(trainer.folder):
        if not runs.train(trainer):
            print(f"stopped after step {trainer.progress.step}; go on with: python -m train ppo --resume {trainer.run}")
            return
        draw(trainer.run)
    print("held out: " + ", ".join(f"{name} {value:.4f}" for name, value in trainer.report.scores.items()))
    print(f"to talk to it: python -m train chat {trainer.run}")


def draw(run: Path) -> bool:
    """ppo.png: what every phase came to."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    points = {name: [(line["step"], line[name]) for line in lines if name in line and "kl" in line] for name in PANELS}
    panels = [({name: points[name]}, PANELS[name]) for name in PANELS if points[name]]
    return draw_panels(run / "ppo.png", panels, "step", run.name)
