"""Optimizers: how to change the parameters, given their gradients.

All parameters are packed into one long array, and all gradients into another; each Parameter keeps a view of its own
stretch of both. One update is then a few passes over long arrays instead of a dozen small calls per parameter, and
several workers can share it: each updates its own part, and holds the optimizer's state for that part only.

How large a step to take is a function of how many were taken (Schedule). AdamW: Loshchilov & Hutter 2019
(arXiv:1711.05101). Adafactor, which keeps less, has a file of its own.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from nn import Parameter
from tinytensor import backend
from tinytensor.distributed import Communicator, share
from train.precision import RoundedCopy

SHAPES = ("cosine", "linear", "inverse-sqrt", "constant")  # of a learning rate after its warm-up


class FlatParameters:
    """The trainable parameters as one long array `data`, and their gradients as another, `grad`.

    Matrices (two or more axes) come first, so "decay only matrices" means: only the elements before `decayed`.
    """

    def __init__(self, parameters: Iterable[Parameter], dtype=None, allocate: Callable | None = None):
        """dtype: what the model computes in, if narrower than its parameters (train/precision.py, RoundedCopy).
        allocate(n, dtype): a zeroed array of n elements; the trainer passes one that worker processes share.
        """
        parameters = list(parameters)
        trained = [p for p in parameters if p.requires_grad]
        if not trained:
            raise ValueError("there is nothing to train: no parameter requires a gradient")
        kinds = {(p.device, p.dtype) for p in trained}
        if len(kinds) > 1:
            raise ValueError(f"parameters must share one device and dtype to be trained together, not {kinds}")
        self.parameters = sorted(trained, key=lambda p: p.ndim < 2)  # stable: within both, the model's order
        ends = np.cumsum([p.size for p in self.parameters]).tolist()
        self.slices = [slice(end - p.size, end) for p, end in zip(self.parameters, ends)]
        self.size = ends[-1]
        self.decayed = sum(p.size for p in self.parameters if p.ndim >= 2)
        xp, own = trained[0].xp, trained[0].dtype
        self.data = (allocate or xp.zeros)(self.size, own)
        for parameter, place in zip(self.parameters, self.slices):
            self.data[place] = parameter.data.reshape(-1)
        self.place_parameters(self.data)
        self.grad = xp.zeros(self.size, own)
        self.collect_gradients_in(self.grad, self.parameters)
        self.rounded = None
        if dtype is not None and dtype != own:
            self.rounded = RoundedCopy(self, [p for p in parameters if not p.requires_grad and p.dtype == own], dtype)

    def place_parameters(self, flat) -> None:
        """From now on the values of the parameters are those in the array `flat`."""
        for parameter, place in zip(self.parameters, self.slices):
            parameter.data = flat[place].reshape(parameter.shape)

    @contextlib.contextmanager
    def full_precision(self) -> Iterator[None]:
        """Inside this block the parameters are the unrounded ones, to be saved or replaced."""
        if self.rounded:
            self.rounded.put_aside()
        try:
            yield
        finally:
            if self.rounded:
                self.rounded.use()

    def keep_full_precision(self) -> None:
        """Training is over: from now on the parameters are the unrounded ones."""
        if self.rounded:
            self.rounded.put_aside()
            self.rounded = None

    def rounded_part(self, part: slice):
        """The stretch of the rounded copy that belongs to a stretch of `data`; None where there is no copy."""
        return None if self.rounded is None else self.rounded.data[part]

    def collect_gradients_in(self, flat, parameters: list[Parameter]) -> None:
        """From now on the gradients of `parameters` (ours, or a copy of the model's) arrive in the array `flat`."""
        for parameter, place in zip(parameters, self.slices):
            parameter.grad = None
            parameter.gradient_place = flat[place].reshape(parameter.shape)

    def complete_gradients(self, parameters: list[Parameter]) -> None:
        """Fill in what backward() left out: a zero where no gradient arrived, a copy where one arrived elsewhere."""
        for parameter in parameters:
            if parameter.grad is None:
                parameter.gradient_place[...] = 0
            elif parameter.grad is not parameter.gradient_place:
                parameter.gradient_place[...] = parameter.grad

    def apply_masks(self, part: slice) -> None:
        """Set the masked weights among the elements of `part` back to 0, as pruning left them."""
        for parameter, place in zip(self.parameters, self.slices):
            low, high = max(part.start, place.start), min(part.stop, place.stop)
            if parameter.mask is not None and low < high:
                mask = parameter.xp.asarray(parameter.mask.reshape(-1)[low - place.start : high - place.start])
                self.data[low:high] *= mask
                if self.rounded is not None:
                    self.rounded.data[low:high] *= mask


Parameters = Iterable[Parameter] | FlatParameters


class Optimizer:
    """What the optimizers share. A subclass says how its part of the flat arrays is updated, in `update`.

    In your own loop:   loss.backward();  clip_grad_norm(parameters, 1.0);  optimizer.step();  optimizer.zero_grad()

    parts: the elements that each of `size` workers updates; part: those of this one, worker `rank`.
    state: name -> array: all that must be saved, beside `steps`, to go on as if nothing had happened; for `part` only.
    state_parts: where each worker's state lies in the state of all.
    """

    def __init__(self, parameters: Parameters, lr: float, rank: int = 0, size: int = 1):
        if not 0 <= lr < math.inf:
            raise ValueError(f"lr must be a number from 0 on, not {lr}")
        self.flat = parameters if isinstance(parameters, FlatParameters) else FlatParameters(parameters)
        self.lr, self.rank = lr, rank
        self.steps = 0  # updates done
        self.parts, self.state_parts = self._cut(size)
        self.part = self.parts[rank]
        self.state: dict = {}

    def _cut(self, size: int) -> tuple[list[slice], list[slice]]:
        """(parts, state_parts); here the state has a number for each element."""
        parts = [share(self.flat.size, rank, size) for rank in range(size)]
        return parts, parts

    def _make_state(self, *names: str) -> None:
        own, data = self.state_parts[self.rank], self.flat.data
        zeros = backend.array_module(data).zeros
        self.state = {name: zeros(own.stop - own.start, data.dtype) for name in names}

    def step(self, lr: float | None = None) -> None:
        """Update all parameters from their gradients, at the rate `lr` (the one given at the start by default)."""
        self.flat.complete_gradients(self.flat.parameters)
        self.steps += 1
        self.update(self.flat.grad, self.lr if lr is None else lr)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.flat.parameters:
            parameter.grad = None

    def update(self, grad, lr: float, grad_scale: float = 1.0) -> None:
        """Update this worker's part from `grad`, all gradients as one flat array, times grad_scale.

        Masked weights (Parameter.mask) stay 0.
        """
        raise NotImplementedError

    def whole_state(self, comm: Communicator) -> dict:
        """The state of all workers, who must all ask for it; only rank 0 gets it."""
        if comm.size == 1:
            return self.state
        whole = {}
        for name, own in self.state.items():
            array = np.zeros(self.state_parts[-1].stop, own.dtype)
            array[self.state_parts[self.rank]] = own
            comm.all_gather(array, self.state_parts)
            if comm.rank == 0:
                whole[name] = array
        return whole

    def check_state(self, state: dict) -> None:
        """ValueError unless `state` is what whole_state gives."""
        kind, shape = type(self).__name__, (self.state_parts[-1].stop,)
        for name in self.state:
            found = state[name].shape if name in state else "missing"
            if found != shape:
                raise ValueError(f"the saved state is not {kind}'s: {name} is {found}, expected {shape}")

    def load_state(self, state: dict, steps: int) -> None:
        """Take this worker's part of the state of all."""
        self.check_state(state)
        for name, array in self.state.items():
            array[...] = backend.array_module(array).asarray(state[name][self.state_parts[self.rank]])
        self.steps = steps


class AdamW(Optimizer):
    """Adam with decoupled weight decay, which touches matrices only (not biases and gains).

    m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2,   m' = m / (1 - beta1^t),   v' = v / (1 - beta2^t)
    p = p - lr * weight_decay * p - lr * m' / (sqrt(v') + eps)
    """

    def __init__(self, parameters: Parameters, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0.01, rank: int = 0, size: int = 1):
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be shares in [0, 1), not {betas}")
        super().__init__(parameters, lr, rank, size)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self._make_state("m", "v")

    def update(self, grad, lr: float, grad_scale: float = 1.0) -> None:
        flat, part, (beta1, beta2) = self.flat, self.part, self.betas
        backend.backend_of(grad).adamw(
            flat.data[part], grad[part], self.state["m"], self.state["v"], lr=lr, beta1=beta1, beta2=beta2,
            eps=self.eps, weight_decay=self.weight_decay, step=self.steps, grad_scale=grad_scale,
            decayed=max(0, flat.decayed - part.start), copy=flat.rounded_part(part),
        )
        flat.apply_masks(part)


class SGD(Optimizer):
    """Gradient descent, with momentum if asked for, and decay of matrices added to the gradient.

    g = g + weight_decay * p,   u = momentum * u + g,   p = p - lr * u   (nesterov: p - lr * (g + momentum * u))
    """

    def __init__(self, parameters: Parameters, lr: float = 0.1, momentum: float = 0.0, nesterov: bool = False,
                 weight_decay: float = 0.0, rank: int = 0, size: int = 1):
        super().__init__(parameters, lr, rank, size)
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay
        if momentum:
            self._make_state("velocity")

    def update(self, grad, lr: float, grad_scale: float = 1.0) -> None:
        flat, part = self.flat, self.part
        backend.backend_of(grad).sgd(
            flat.data[part], grad[part], self.state.get("velocity"), lr=lr, momentum=self.momentum,
            nesterov=self.nesterov, weight_decay=self.weight_decay, grad_scale=grad_scale,
            decayed=max(0, flat.decayed - part.start), copy=flat.rounded_part(part),
        )
        flat.apply_masks(part)


def clip_grad_norm(parameters: Iterable[Parameter], max_norm: float) -> float:
    """Scale all gradients down so that their joint length is at most max_norm; returns the length before.

    Pascanu, Mikolov & Bengio 2013 (arXiv:1211.5063): the direction stays, only the length is cut.
    """
    grads = [p.grad for p in parameters if p.grad is not None]
    norm = math.sqrt(sum(backend.backend_of(g).squared_norm(g) for g in grads))
    if (scale := clip_scale(norm, max_norm)) < 1:
        for g in grads:
            g *= scale
    return norm


def clip_scale(norm: float, max_norm: float) -> float:
    """What to multiply gradients of length `norm` by; max_norm 0 means no clipping."""
    return min(1.0, max_norm / (norm + 1e-6)) if max_norm else 1.0


@dataclass(frozen=True)
class Schedule:
    """The learning rate: schedule(step), for step = 0, 1, ..., is that of the step's update.

    It begins with a linear warm-up, because Adam's estimates are worthless at first. After it the rate stays, falls in
    a straight line, along a cosine (Loshchilov & Hutter 2017), or like 1/sqrt(step) (Vaswani et al. 2017).
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
        if self.shape in ("cosine", "linear") and (low := self.min_lr) > self.lr:
            raise ValueError(f"min_lr {low:g} is above lr {self.lr:g}, and the rate would rise; lower --min-lr too")

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
