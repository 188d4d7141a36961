"""A learned reward: what a reward model says of replies, brought to mean 0 and deviation 1 on replies to compare with.

A reward model knows differences only (train/tasks/reward.py), so where its zero lies, and how long its unit is, is
chosen here, as Ziegler et al. 2019 do before anything is learned from it.
"""

from pathlib import Path
from typing import Self

import numpy as np

from train import finetune
from train.finetune import FineTuned
from train.tasks import Reward


class Rewarder:
    """Rewards of replies by the reward model of a run."""

    def __init__(self, tuned: FineTuned, mean: float = 0.0, deviation: float = 1.0):
        self.tuned, self.mean, self.deviation = tuned, mean, deviation

    @classmethod
    def of(cls, run: Path, references: list[dict]) -> Self:
        """references: conversations, whose last replies get rewards of mean 0 and deviation 1."""
        plain = cls(judge(run))
        found = plain([e["messages"][:-1] for e in references], [e["messages"][-1]["content"] for e in references])
        return cls(plain.tuned, float(found.mean()), float(found.std()) or 1.0)

    def __call__(self, prompts: list[list[dict]], replies: list[str]) -> np.ndarray:
        """(N,): the reward of each reply to its prompt, a list of messages."""
        asked = [{"messages": prompt, "replies": [reply]} for prompt, reply in zip(prompts, replies)]
        said = np.array([reward for (reward,) in self.tuned.answers(asked)])
        return (said - self.mean) / self.deviation

    def best_of(self, prompt: list[dict], replies: list[str]) -> str:
        """The reply with the highest reward, the first of those that are equally good."""
        return replies[int(np.argmax(self([prompt] * len(replies), replies)))]


def judge(run: Path) -> FineTuned:
    """The reward model of a run."""
    tuned = finetune.load(run)
    if not isinstance(tuned.task, Reward):
        what = f"was fine-tuned for {tuned.task.kind}, and tells no rewards"
        raise ValueError(f"{run} {what}; make a reward model with: python -m train reward RUN")
    return tuned
