"""Which reply do people prefer?   {"messages": [...], "replies": [the best, ..., the worst]}

The reward model, the second of the three steps from a language model to an assistant (Ouyang et al. 2022, section 3.4):
one number r for a conversation with a reply, such that of any two replies the better one has the higher number.

    loss = mean over all pairs of a prompt of -log sigmoid(r(better) - r(worse))          Bradley & Terry 1952

All K replies of a prompt are one row of a batch, with K passes and K (K - 1) / 2 pairs: shuffled as examples of their
own, they would be seen K - 1 times in an epoch and be overfitted.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np

from models.chat import check_messages
from models.contract import Body
from models.heads import Head
from models.inputs import as_text
from models.schema import Few
from tinytensor import Tensor, ops
from train.tasks import conversations
from train.tasks.task import Row, Task, field


class Ranker(Head):
    """Rewards (B, K) of K replies;  targets: "best" (B,), which is the first."""

    target = "best"

    def scores(self, batch: dict) -> Tensor:
        return self.scored(self.summaries(batch)).reshape(batch["ids"].shape[:2])

    def loss_sum(self, batch: dict) -> Tensor:
        return ranking_loss(self.scores(batch)).sum()


def ranking_loss(rewards: Tensor) -> Tensor:
    """rewards (B, K), the best reply's first -> (B,): the mean over pairs i < j of -log sigmoid(r_i - r_j)."""
    better, worse = np.triu_indices(rewards.shape[1], 1)
    return ops.softplus(rewards[:, worse] - rewards[:, better]).mean(axis=1)


@dataclass(frozen=True)
class Reward(Task):
    """replies: how many there are to a prompt."""

    kind: ClassVar[str] = "reward"
    columns: ClassVar[tuple[str, ...]] = ("messages", "replies", "chosen", "rejected")
    asks: ClassVar[tuple[str, ...]] = ("messages", "replies")
    least: ClassVar[int] = 2

    replies: Few

    @classmethod
    def read(cls, example: dict, where: str) -> dict | None:
        return conversations.preference(example, where)

    @classmethod
    def of(cls, examples: list[dict], held_out: list[dict] = ()) -> Self:
        numbers = {len(field(e, "replies", list, cls.kind)) for e in (*examples, *held_out)}
        if len(numbers) != 1 or min(numbers) < 2:
            raise ValueError(f"all prompts need the same number of replies, at least 2, not {sorted(numbers)}")
        return cls(numbers.pop())

    def rows(self, example: dict, inputs) -> list[Row]:
        messages = check_messages(field(example, "messages", list, self.kind))
        replies = field(example, "replies", list, self.kind)
        arrays = inputs.pad([inputs.judged(messages, str(reply)) for reply in replies])  # (K, T) each
        return [Row(arrays | {"best": np.int64(0)})]

    def make_head(self, body: Body, dropout: float) -> Ranker:
        return Ranker(body, dropout=dropout)

    def decode(self, row: Row, scores: np.ndarray) -> list[float]:
        return [float(score) for score in scores]

    def score(self, examples: list[dict], answers: list[list[float]]) -> dict[str, float]:
        """The share of pairs in the right order, and of prompts whose best reply has the highest reward."""
        better, worse = np.triu_indices(self.replies, 1)
        rewards = np.array(answers)  # (N, K)
        pairs, best = (rewards[:, better] > rewards[:, worse]).mean(), (rewards.argmax(axis=1) == 0).mean()
        return {"pair_accuracy": float(pairs), "best_accuracy": float(best)}

    def as_text(self, example: dict) -> tuple[str, str]:
        """The replies in the order of their letters, so that a model cannot know the best by its place."""
        listed = sorted(example["replies"])
        choices = "".join(f" choice {i}: {reply}" for i, reply in enumerate(listed))
        return f"prefer: {as_text(example['messages'])}{choices}", str(listed.index(example["replies"][0]))

    def texts(self, example: dict) -> list[str]:
        return [example["messages"][-1]["content"], *example["replies"]]

    def example(self, texts: list[str]) -> dict:
        if len(texts) < 2:
            raise ValueError("a reward model reads what the user says and one or more replies")
        return {"messages": [{"role": "user", "content": texts[0]}], "replies": texts[1:]}

    def shown(self, example: dict, answer: list[float]) -> str:
        return "\n".join(f"{reward:7.3f}  {reply}" for reward, reply in zip(answer, example["replies"]))
