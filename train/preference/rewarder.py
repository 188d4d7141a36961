"""A learned reward: what a reward model says of replies, brought to mean 0 and deviation 1 over good and bad ones.

A reward model knows differences only (train/tasks/reward.py), so where its zero lies, and how long its unit is, is
chosen here, as Ziegler et al. 2019 do before anything is learned from it.
"""

from pathlib import Path
from typing import Self

import numpy as np

from models.chat import ChatInputs
from train import finetune
from train.finetune import FineTuned
from train.tasks import Reward
from train.tasks.chat import Talker


class Rewarder:
    """Rewards of replies by the reward model of a run."""

    def __init__(self, tuned: FineTuned, mean: float = 0.0, deviation: float = 1.0):
        self.tuned, self.mean, self.deviation = tuned, mean, deviation

    @classmethod
    def of(cls, run: Path, preferences: list[dict]) -> Self:
        """preferences: of which all replies, good and bad, together get rewards of mean 0 and deviation 1."""
        plain = cls(judge(run))
        pairs = [(example["messages"], reply) for example in preferences for reply in example["replies"]]
        found = plain(*zip(*pairs))
        return cls(plain.tuned, float(found.mean()), float(found.std()) or 1.0)

    def __call__(self, prompts: list[list[dict]], replies: list[str]) -> np.ndarray:
        """(N,): the reward of each reply to its prompt, a list of messages."""
        asked = [{"messages": prompt, "replies": [reply]} for prompt, reply in zip(prompts, replies)]
        said = np.array([reward for (reward,) in self.tuned.answers(asked)])
        return (said - self.mean) / self.deviation

    def teach(self, talker: Talker) -> None:
        """Let a talker's critic begin as this reward model, if that reads as it does: having begun as a talker, too."""
        head = self.tuned.model
        if isinstance(self.tuned.inputs, ChatInputs) and head.body.config == talker.critic.config:
            talker.critic.load_state_dict(head.body.gpt.state_dict())
            talker.value.weight.data[...] = head.out.weight.data / self.deviation
            talker.value.bias.data[...] = (head.out.bias.data - self.mean) / self.deviation

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
