"""On a GPU a step is begun before the last one's numbers are read: the GPU need not wait for Python, nor Python for it.

Whether a step's loss and gradient are finite, and what the gradient is multiplied by, is decided on the GPU (Verdict),
where the update reads it: after a step that went wrong no update changes anything. Python reads of it a step later, and
gives up as if it had waited (train/anomaly.py). Where a step's numbers are needed at once, for a line in metrics.jsonl,
an evaluation or a checkpoint, it does wait: nothing is ever saved of a step that has not been looked at.
"""

import math
from typing import NamedTuple

import numpy as np

from tinytensor.backend.gpu.verdict import Verdict
from train import anomaly


class Begun(NamedTuple):
    """A step that has not been looked at, and what the optimizer knew before it."""

    step: int
    lr: float
    verdict: Verdict
    missed: list[int]


class Ahead:
    """ahead(step, lr) does what loop.step(step, lr) does (train/trainer.py); its loss is a Verdict."""

    def __init__(self, loop):
        self.loop, self.last = loop, None
        loop.read = lambda loss: loss.astype(np.float64)  # a copy: a recorded step writes into the same place again

    def __call__(self, step: int, lr: float) -> tuple[Verdict, float, int, bool]:
        loop, optimizer, last = self.loop, self.loop.optimizer, self.last
        loss, tokens, _ = loop.gradient(step, loop.reader)
        verdict = Verdict(loop.grad, loss, loop.config.clip, last and last.verdict)
        self.last = Begun(step, lr, verdict, optimizer.missed)
        arrived = [parameter.grad is not None for parameter in loop.parameters]
        optimizer.steps = step + 1
        optimizer.update(loop.grad, lr, verdict, arrived)
        stop = loop.trainer.stop_asked
        if last:
            self.look(last)
        now = stop or self.needed(step + 1)
        return verdict, self.look(self.last) if now else math.nan, tokens, stop

    def needed(self, steps: int) -> bool:
        """Whether something is told or saved after so many steps."""
        config = self.loop.config
        return steps == config.steps or not all(
            steps % every for every in (config.log_every, config.eval_every, config.save_every))

    def look(self, begun: Begun) -> float:
        """The norm of a step's gradient; where a number was not finite, the run ends as it was before that step."""
        loss, norm, _, finite = begun.verdict.read()
        if not finite:
            loop, self.last = self.loop, None
            loop.optimizer.missed, loop.trainer.progress.step = begun.missed, begun.step
            anomaly.give_up(loop, begun.step, begun.lr, loss, norm)
        return norm


def step_of(loop):
    """What makes the steps of a Loop: an Ahead if it is alone on its GPU and nobody needs every number at once."""
    trainer, config = loop.trainer, loop.config
    waits = trainer.loss_scale or trainer.carried or trainer.between or loop.world.size > 1
    return loop.step if waits or config.optimizer.startswith("adafactor") else Ahead(loop)
