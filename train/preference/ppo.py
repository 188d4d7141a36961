"""Reinforcement learning from human feedback: a talker writes, a reward model judges, and PPO makes better likelier.

The third of the three steps from a language model to an assistant (Ouyang et al. 2022, section 3.4; Ziegler et al.
2019). A phase is:

    write    replies to `rollouts` prompts, each token drawn from the policy         (rollouts.py)
    judge    the reward model's score at a reply's last token; at each token -kl * log(p / q), q being the policy as it
             began: who strays from it, where the reward model knows nothing, pays for it
    credit   how much better a token turned out than the critic foretold: the advantage (estimators.py)
    learn    `epochs` times through the replies: tokens of positive advantage become likelier, but by no more than
             `clip`, since the replies were drawn from the policy as it was

All of it happens in the ordinary training loop: phases are written between its steps.
"""

import copy
import dataclasses
import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from models.config import option
from models.gpt import GPT
from models.schema import Few, NotNegative, Part, Positive, check_fields
from nn import Module, evaluating
from tinytensor import Tensor, ops, random
from train.finetune import FineTuned, FineTuneReport
from train.objectives import Objective
from train.objectives.labelled import by_length
from train.preference import start
from train.preference.estimators import policy_losses, value_losses, whiten
from train.preference.replies import counted, text_of, token_log_probs
from train.preference.rewarder import Rewarder
from train.preference.rollouts import Rollouts
from train.report import Report
from train.tasks import Row
from train.tasks.chat import CRITICS, Talker
from train.trainer import TrainConfig, Trainer

TRAINING = dict(batch=32, lr=3e-4, min_lr=3e-5, schedule="linear", beta2=0.99, eps=1e-5, weight_decay=0.0, clip=0.5,
                warmup=10, eval_batches=4, log_every=1)  # fmt: skip


@dataclass(frozen=True)
class PPOConfig:
    """How replies are written, judged and learned from."""

    phases: Few = option(24, "times to write replies and learn from them")
    rollouts: Few = option(128, "replies in a phase")
    epochs: Few = option(2, "times to go through them")
    kl: NotNegative = option(0.05, "what a nat of distance from the talker it began as costs, in units of the reward")
    target_kl: NotNegative = option(0.0, "adapt that to keep this distance, in nats a reply (0: leave it as it is)")
    longest: Few = option(80, "tokens of a reply at most")
    temperature: Positive = option(1.0, "at which replies are written; all probabilities are meant at it")
    gamma: Part = option(1.0, "how much a token counts for the one before it")
    lam: Part = option(0.95, "of the advantages: 1 trusts what came, 0 what the critic foretold")
    whiten_rewards: bool = option(False, "give tokens' rewards variance 1, as Ziegler et al.; it also makes tokens as "
                                  "such worth or cost something, so that the best policy is another one")  # fmt: skip
    clip_range: Positive = option(0.2, "how far from 1 the ratio of new to old probability is followed")
    value_coef: NotNegative = option(0.1, "weight of the critic's loss")
    critic: Literal[*CRITICS[1:]] = option("separate", "the critic: separate (a GPT of its own, which begins as the "
                                  "reward model if that began as the talker) or shared (a layer)")  # fmt: skip
    unfinished: NotNegative = option(1.0, "what a reply without an end loses, in units of the reward")
    ptx: NotNegative = option(0.0, "weight of the pretraining loss on the stories' text, learned beside (PPO-ptx)")

    def __post_init__(self):
        check_fields(self)


@dataclass
class Judge:
    """What a talker is measured by, itself not trained: the policy as it began, and the reward model."""

    reference: GPT
    rewarder: Rewarder
    tuned: FineTuned  # which task and tokenizer it has

    def text(self, ids: np.ndarray) -> str:
        """A reply as it reads."""
        return text_of(self.tuned, ids)

    def log_probs(self, batch: dict, temperature: float) -> Tensor:
        """(B, T): log p of the targets under the policy as it began."""
        return token_log_probs(self.reference, self.reference.hidden(batch["ids"]), batch["targets"], temperature)


class Ppo(Talker):
    """A talker with a critic that learns from what it wrote, see Rollouts; batches of held-out prompts have "example",
    their numbers in `held_out`, a list of conversations."""

    def __init__(self, talker: Talker, config: PPOConfig, judge: Judge, held_out: list[dict]):
        Module.__init__(self)
        self.body, self.longest, self.critic, self.value = talker.body, talker.longest, talker.critic, talker.value
        self.how, self.judge, self.held_out = config, judge, held_out

    def read(self, ids, targets) -> tuple[Tensor, Tensor]:
        """(B, T) each: log p of the targets, and what the critic foretells before each of them."""
        hidden = self.body.hidden(ids)
        seen = self.critic.hidden(ids) if self.critic else hidden
        return token_log_probs(self.body, hidden, targets, self.how.temperature), self.value(seen).squeeze(-1)

    def counts(self, batch: dict) -> dict[str, int]:
        if "example" in batch:
            return {"replies": len(batch["ids"])}
        text = {"text": batch["text"][:, 1:].size} if "text" in batch else {}
        return {"tokens": int(counted(batch["targets"]).sum())} | text

    def loss(self, batch: dict, counts: dict | None = None) -> Tensor:
        """Of the tokens of replies; of held-out prompts minus the mean reward of the most probable replies."""
        counts = counts or self.divisors(batch)
        if "example" in batch:
            asked = [self.held_out[number]["messages"][:-1] for number in batch["example"]]
            rewards = self.judge.rewarder(asked, [self.judge.text(ids) for ids in self(batch).data])
            return Tensor(np.float32(-rewards.sum() / counts["replies"]))
        c, inside = self.how, Tensor(counted(batch["targets"]).astype(np.float32))
        log_probs, values = self.read(batch["ids"], batch["targets"])
        policy = policy_losses(log_probs, batch["log_probs"], batch["advantages"], c.clip_range)
        value = value_losses(values, batch["values"], batch["returns"])
        loss = ((policy + value * c.value_coef) * inside).sum() / counts["tokens"]
        if "text" in batch:
            hidden = self.body.hidden(batch["text"][:, :-1])
            nats = ops.linear_cross_entropy(hidden, self.body.output_table, batch["text"][:, 1:], reduction="sum")
            loss = loss + nats * (c.ptx / counts["text"])
        return loss


class PpoReport(FineTuneReport):
    """Answers the held-out examples at the end only: every phase tells of its own replies."""

    axis = "minus the reward"

    def evaluated(self, step: int, val_loss: float) -> None:
        if step == self.steps:
            super().evaluated(step, val_loss)
        else:
            Report.evaluated(self, step, val_loss)


class Phases(Objective):
    """Batches of the replies of a step's phase."""

    def __init__(self, rollouts: Rollouts, training: TrainConfig, pad, text: np.ndarray | None):
        """text: (N,) ids to go on learning to predict beside them."""
        self.rollouts, self.batch, self.seed, self.pad, self.text = rollouts, training.batch, training.seed, pad, text

    def check(self, rows: list, what: str) -> None:
        if not rows:
            raise ValueError(f"the {what} part has no prompts")

    def training_batch(self, data, number: int) -> dict[str, np.ndarray]:
        N, T = self.rollouts.config.rollouts, self.rollouts.inputs.max_length
        epoch, place = divmod(number, N // self.batch)
        with random.seeded(self.seed, epoch, 4) as draw:
            rows = draw.permutation(N)[place * self.batch : (place + 1) * self.batch]
        made = self.rollouts.learned(rows)
        made["advantages"] = whiten(made["advantages"], counted(made["targets"])).astype(np.float32)
        if self.text is not None:
            with random.seeded(self.seed, number, 5) as draw:
                starts = draw.integers(0, len(self.text) - T, self.batch)
            made["text"] = self.text[starts[:, None] + np.arange(T + 1)].astype(int)
        return made

    def evaluation_batches(self, rows: list, limit: int | None = None) -> list:
        return by_length([row.length for row in rows], 32, limit)

    def evaluation_batch(self, rows: list, chosen: np.ndarray) -> dict[str, np.ndarray]:
        return self.pad([rows[i].arrays for i in chosen])


def begin(folder: Path, source: FineTuned, going_on: FineTuned | None, rewarder: Rewarder, prompts: list[dict],
          held_out: list[dict], config: PPOConfig, settings: dict, text: np.ndarray | None = None) -> Trainer:
    """source: the talker as it begins.   going_on: as a run's last checkpoint has it.
    prompts, held_out: conversations, whose last replies are left out.   text: ids, see Phases."""
    steps = config.phases * per_phase(config, settings["batch"])
    every = dict(steps=steps, eval_every=max(1, steps // 5), save_every=max(1, steps // 5))
    training = TrainConfig(**(every | settings))
    tuned, start_of = start.with_model(source, None, config.critic), copy.deepcopy(source.model.body)
    talker = going_on.model if going_on else tuned.task.make_head(copy.deepcopy(source.model.body), 0.0)
    if going_on is None and config.critic == "separate":
        rewarder.teach(talker)
    judge = Judge(start_of.requires_grad_(False), rewarder, tuned)
    model = Ppo(talker, config, judge, held_out)
    tuned = dataclasses.replace(tuned, model=model)
    if going_on is None:
        start.save_talker(folder, tuned)
    rows = []
    for number, example in enumerate(held_out):
        (row,) = tuned.task.rows({"messages": example["messages"][:-1]}, tuned.inputs)
        rows.append(Row(row.arrays | {"example": np.int64(number)}))
    report = PpoReport(folder, steps, tuned, held_out, per_phase(config, training.batch))
    objective = Phases(None, training, tuned.pad, text)
    trainer = Trainer(model, objective, prompts, rows, training, folder, report)
    trainer.whole = False
    allocate = trainer.comm.shared if trainer.workers > 1 else np.zeros
    rollouts = Rollouts(prompts, tuned.inputs, config, training.seed, allocate)
    objective.rollouts, trainer.extra = rollouts, rollouts.arrays
    trainer.between = functools.partial(_between, rollouts, per_phase(config, training.batch))
    return trainer


def per_phase(config: PPOConfig, batch: int) -> int:
    """Steps in a phase."""
    if config.rollouts % batch:
        raise ValueError(f"--rollouts {config.rollouts} must be a multiple of --batch {batch}")
    return config.epochs * (config.rollouts // batch)


def prepare(trainer: Trainer) -> None:
    """Before training begins or goes on: the replies of the first phase, or those that the checkpoint holds."""
    rollouts = trainer.objective.rollouts
    if trainer.progress.step:
        for name, array in rollouts.arrays.items():
            array[...] = trainer.extra[name]
        trainer.extra = rollouts.arrays
        return
    for rank in range(trainer.workers):
        with evaluating(trainer.model):
            rollouts.write(trainer.model, 0, rank, trainer.workers)


def _between(rollouts: Rollouts, per_phase: int, loop, step: int) -> None:
    """After the last step of a phase: what it came to, and the next one's replies."""
    rollouts.learning += time.monotonic() - max(loop.since, rollouts.left)  # not what evaluations took
    if step % per_phase == 0:
        moved = rollouts.moved(loop.model, loop.comm)
        if loop.report:
            loop.report.write(step=step, **rollouts.told(), **moved)
        if step < loop.config.steps:
            rollouts.next_phase(loop.model, step // per_phase, loop.comm)
    rollouts.left = time.monotonic()
