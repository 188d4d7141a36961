"""Direct preference optimization: learn from pairs of replies without a reward model (Rafailov et al. 2023).

The policy p that is best for a reward r, without straying from a reference q, is q * exp(r / beta) up to a factor that
depends on the prompt alone. So r = beta * log(p / q) + that factor, which falls out of the difference of two replies
to one prompt: the ranking loss of a reward model becomes a loss of the policy itself.
"""

import copy
import math
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from models.config import option
from models.schema import Few, Positive, check_fields
from nn import Module
from tinytensor import Tensor
from tinytensor.ops.softmax import IGNORED
from train.finetune import FineTuned, FineTuneReport
from train.objectives.labelled import Labelled
from train.preference import start
from train.preference.estimators import dpo_losses
from train.preference.replies import measured, reply_log_probs
from train.tasks import Row
from train.tasks.chat import Talker
from train.trainer import TrainConfig, Trainer

TRAINING = dict(batch=16, lr=2e-5, min_lr=0.0, schedule="linear", beta2=0.999, weight_decay=0.0)


@dataclass(frozen=True)
class DPOConfig:
    """How to learn from pairs."""

    epochs: Few = option(1, "times to go through the pairs")
    beta: Positive = option(0.1, "how dear it is to stray from the reference: the smaller, the further")

    def __post_init__(self):
        check_fields(self)


class Dpo(Talker):
    """A talker that learns from pairs;  batch: "ids" and "targets" (B, 2, T), the better reply first, and "reference"
    (B, 2), their log-probabilities under the model it began as."""

    def __init__(self, talker: Module, beta: float):
        super().__init__(talker.body, talker.longest)
        self.beta = beta

    def counts(self, batch: dict) -> dict[str, int]:
        return {"pairs": len(batch["ids"])}

    def margins(self, batch: dict) -> Tensor:
        """(B, 2): the log-probabilities of both replies."""
        B, _, T = batch["ids"].shape
        ids, targets = (batch[name].reshape(2 * B, T) for name in ("ids", "targets"))
        return reply_log_probs(self.body, ids, targets).reshape(B, 2)

    def loss(self, batch: dict, counts: dict | None = None) -> Tensor:
        counts = counts or self.divisors(batch)
        return dpo_losses(self.margins(batch), batch["reference"], self.beta).sum() / counts["pairs"]

    def right(self, batch: dict):
        return np.zeros(len(batch["ids"]), int)

    def scores(self, batch: dict) -> Tensor:
        """(B, 2): the rewards that the policy stands for, up to what depends on the prompt."""
        margins = self.margins(batch)
        return (margins - Tensor(batch["reference"].astype(margins.dtype))) * self.beta


def pair_rows(tuned: FineTuned, preferences: list[dict]) -> list[Row]:
    """A row of (2, T) arrays for every two replies to a prompt."""
    rows = []
    for example in preferences:
        said = [{"role": "assistant", "content": text} for text in example["replies"]]
        learned = [tuned.inputs.learned([*example["messages"], reply]) for reply in said]
        for row in learned:
            row["targets"][: row["prompt"] - 1] = IGNORED  # of earlier replies, which both have
        rows += [Row(tuned.inputs.pad([learned[i], learned[j]])) for i, j in combinations(range(len(said)), 2)]
    return rows


def begin(folder: Path, source: FineTuned, going_on: FineTuned | None, preferences: list[dict], held_out: list[dict],
          config: DPOConfig, settings: dict) -> Trainer:  # fmt: skip
    """source: the talker as it begins, which is the reference too.   going_on: as a run's last checkpoint has it."""
    pad = lambda arrays: source.inputs.pad(arrays, axis=1)
    rows, held_rows = pair_rows(source, preferences), pair_rows(source, held_out)
    for some in (rows, held_rows):
        reference = measured(source.model.body, [row.arrays for row in some], pad)
        for row, logs in zip(some, reference):
            row.arrays["reference"] = logs
    model = Dpo(going_on.model if going_on else copy.deepcopy(source.model), config.beta)
    objective = Labelled(pad, settings["batch"], settings.get("seed", 0))
    per_epoch = objective.steps_per_epoch(rows)
    steps = math.ceil(config.epochs * per_epoch)
    every = dict(steps=steps, eval_every=max(1, steps // 5), save_every=max(1, steps // 5), warmup=max(1, steps // 10))
    tuned = start.with_model(source, model)
    if going_on is None:
        start.save_talker(folder, tuned)
    report = FineTuneReport(folder, steps, tuned, start.as_demonstrations(held_out), per_epoch)
    return Trainer(model, objective, rows, held_rows, TrainConfig(**(every | settings)), folder, report)
