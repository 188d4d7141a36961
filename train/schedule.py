"""Learning-rate schedules: how large a step to take, as a function of how many were taken.

All begin with a linear warm-up, because Adam's estimates are worthless at first. After it the rate stays, falls in a
straight line, falls along a cosine (Loshchilov & Hutter 2017), or falls like 1/sqrt(step) (Vaswani et al. 2017).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SHAPES = ("cosine", "linear", "inverse-sqrt", "constant")


@dataclass(frozen=True)
class Schedule:
    """schedule(step), for step = 0, 1, ..., is the rate of that step's update.

    lr: the highest rate.   min_lr: where cosine and linear end, at `steps`.
    warmup: number of steps over which the rate rises to lr; step t < warmup has lr * (t + 1) / (warmup + 1).
    """

    lr: float
    steps: int
    warmup: int = 0
    min_lr: float = 0.0
    shape: str = "cosine"

    def __post_init__(self):
        if self.shape not in SHAPES:
            raise ValueError(f"unknown schedule {self.shape!r}; choose from {', '.join(SHAPES)}")
        if not (0 <= self.lr < math.inf and 0 <= self.min_lr < math.inf):
            raise ValueError(f"learning rates must be numbers from 0 on: lr {self.lr}, min_lr {self.min_lr}")
        if self.shape in ("cosine", "linear") and self.min_lr > self.lr:
            rates = f"min_lr {self.min_lr:g} is above lr {self.lr:g}"
            raise ValueError(f"{rates}, and the rate would rise; lower --min-lr too")

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return self.lr * (step + 1) / (self.warmup + 1)
        if self.shape == "constant":
            return self.lr
        if self.shape == "inverse-sqrt":
            return self.lr * math.sqrt(max(self.warmup, 1) / max(step, self.warmup, 1))
        done = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        share = 0.5 * (1 + math.cos(math.pi * done)) if self.shape == "cosine" else 1 - done
        return self.min_lr + share * (self.lr - self.min_lr)
