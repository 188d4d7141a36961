"""Optimizers: how to change the parameters, given their gradients.

All parameters are packed into one long array, and all gradients into another; each Parameter keeps a view of its own
stretch of both. One update is then a few passes over long arrays instead of a dozen small calls per parameter, and
several workers can share it: each updates its own part, and holds the optimizer's state for that part only.

How large a step to take is a function of how many were taken (Schedule). AdamW: Loshchilov & Hutter 2019
(arXiv:1711.05101). SGD and Adafactor, which keep less, have files of their own.
"""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nn import Parameter
from tinytensor import Tensor, backend
from tinytensor.distributed import Communicator, share
from train.parameters import listed, take_back
from train.precision import RoundedCopy

SHAPES = ("cosine", "linear", "polynomial", "inverse-sqrt", "constant")  # of a learning rate after its warm-up


class FlatParameters:
    """The trainable parameters as one long array `data`, and their gradients as another, `grad`.

    Matrices (two or more axes) come first, so "decay only matrices" means: only the elements before `decayed`.
    groups: what is particular to some of them (train/parameters.py); group_of: the number of each one's group.
    """

    def __init__(self, parameters: Iterable[Parameter], dtype=None, allocate: Callable | None = None):
        """dtype: what the model computes in, if narrower than its parameters (train/precision.py, RoundedCopy).
        allocate(n, dtype): a zeroed array of n elements; the trainer passes one that worker processes share.
        """
        plain = isinstance(parameters, list) and {type(p) for p in parameters} == {Parameter}
        if plain and len(group_of := dict.fromkeys(map(id, parameters), 0)) == len(parameters):
            self.groups = [{}]
        else:
            parameters, self.groups, group_of = listed(parameters)
        trained = [p for p in parameters if p.requires_grad]
        if not trained:
            raise ValueError("there is nothing to train: no parameter requires a gradient")
        kinds = {(p.device, p.dtype) for p in trained}
        if len(kinds) > 1:
            raise ValueError(f"parameters must share one device and dtype to be trained together, not {kinds}")
        # A stable sort: within both, and within a group, the model's order.
        self.parameters = sorted(trained, key=lambda p: (p.ndim < 2, group_of[id(p)]))
        self.frozen = [p for p in parameters if not p.requires_grad]
        self.group_of = [group_of[id(p)] for p in self.parameters]
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
        self.gradient_places = self.collect_gradients_in(self.grad, self.parameters)
        self.rounded = None
        if dtype is not None and dtype != own:
            self.rounded = RoundedCopy(self, [p for p in self.frozen if p.dtype == own], dtype)

    def place_parameters(self, flat) -> None:
        """From now on the values of the parameters are those in the array `flat`."""
        self.places = [flat[place].reshape(p.shape) for p, place in zip(self.parameters, self.slices)]
        for parameter, place in zip(self.parameters, self.places):
            parameter.data = place

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

    def collect_gradients_in(self, flat, parameters: list[Parameter]) -> list:
        """From now on the gradients of `parameters` (ours, or a copy of the model's) arrive in the array `flat`.

        Returns each one's place there.
        """
        places = [flat[place].reshape(p.shape) for p, place in zip(parameters, self.slices)]
        for parameter, place in zip(parameters, places):
            if isinstance(parameter, Parameter):  # a plain Tensor's gradient arrives elsewhere, and is copied
                parameter.gradient_place = place
        return places

    def complete_gradients(self, parameters: list[Parameter], places: list | None = None) -> list[bool]:
        """Fill in what backward() left out: a zero where no gradient arrived, a copy where one arrived elsewhere.

        places: where the gradients belong, if not to each one's gradient_place. Returns at which one arrived.
        """
        for parameter, place in zip(parameters, places or [p.gradient_place for p in parameters]):
            if parameter.grad is None:
                place[...] = 0
            elif parameter.grad is not place:
                if parameter.grad.shape != place.shape:
                    raise ValueError(f"a parameter {place.shape} has a gradient of shape {parameter.grad.shape}")
                place[...] = parameter.grad
            if places and isinstance(parameter, Parameter):
                parameter.gradient_place = place  # another optimizer may have given it another
        return [parameter.grad is not None for parameter in parameters]

    def apply_masks(self, part: slice) -> None:
        """Set the masked weights among the elements of `part` back to 0, as pruning left them."""
        for parameter, place in zip(self.parameters, self.slices):
            low, high = max(part.start, place.start), min(part.stop, place.stop)
            if low < high and isinstance(parameter, Parameter) and parameter.mask is not None:
                mask = parameter.xp.asarray(parameter.mask.reshape(-1)[low - place.start : high - place.start])
                self.data[low:high] *= mask
                if self.rounded is not None:
                    self.rounded.data[low:high] *= mask


Parameters = Iterable[Parameter] | FlatParameters


class Stretch(NamedTuple):
    """Parameters beside one another that are updated alike."""

    numbers: range  # theirs, among flat.parameters
    part: slice  # their elements, as far as they are this worker's
    own: slice  # where the state of those is, if it has a number for each
    steps: int  # how many updates they have had, with this one
    lr: float
    weight_decay: float
    decayed: int  # so many elements at the beginning of `part` are decayed


class Optimizer:
    """What the optimizers share. A subclass says how its part of the flat arrays is updated, in `update_stretch`.

    In your own loop:   loss.backward();  clip_grad_norm(parameters, 1.0);  optimizer.step();  optimizer.zero_grad()

    A parameter that got no gradient stays as it is: no decay, no momentum, and its next step is counted as its next.

    parameters: model.parameters(), or what else train/parameters.py can take, such as groups with rates of their own.

    parts: the elements that each of `size` workers updates; part: those of this one, worker `rank`.
    state: name -> array: all that must be saved, beside `steps`, to go on as if nothing had happened; for `part` only.
    state_parts: where each worker's state lies in the state of all.
    missed: in how many of `steps` each parameter had no gradient.
    """

    def __init__(self, parameters: Parameters, lr: float, weight_decay: float = 0.0, rank: int = 0, size: int = 1):
        check_from_0(lr=lr, weight_decay=weight_decay)
        self.flat = parameters if isinstance(parameters, FlatParameters) else FlatParameters(parameters)
        self.lr, self.weight_decay, self.rank = lr, weight_decay, rank
        if not lr and any("lr" in group for group in self.flat.groups):
            raise ValueError("groups with rates of their own need a common lr above 0, which they are shares of")
        self.steps = 0  # updates done
        self.missed = [0] * len(self.flat.parameters)
        self.parts, self.state_parts = self._cut(size)
        self.part = self.parts[rank]
        self.state: dict = {}

    def __repr__(self) -> str:
        said = [f"{name}={value}" for name, value in vars(self).items() if isinstance(value, (int, float, tuple))]
        return f"{type(self).__name__}({', '.join(said)}; {self.flat.size:,} values)"

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
        lr = self.lr if lr is None else lr
        check_from_0(lr=lr)
        take_back(self.flat)
        arrived = self.flat.complete_gradients(self.flat.parameters, self.flat.gradient_places)
        self.steps += 1
        self.update(self.flat.grad, lr, arrived=arrived)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.flat.parameters:
            parameter.grad = None

    def update(self, grad, lr: float, grad_scale: float = 1.0, arrived: list[bool] | None = None) -> None:
        """Update this worker's part from `grad`, all gradients as one flat array, times grad_scale.

        arrived: which parameters got a gradient; all if None.   Masked weights (Parameter.mask) stay 0.
        """
        arrived = [True] * len(self.missed) if arrived is None else arrived
        self.missed = [missed + (not one) for missed, one in zip(self.missed, arrived)]
        for stretch in self._stretches(lr, arrived):
            self.update_stretch(stretch, grad, grad_scale)
        self.flat.apply_masks(self.part)

    def update_stretch(self, stretch: Stretch, grad, grad_scale: float) -> None:
        raise NotImplementedError

    def _stretches(self, lr: float, arrived: list[bool]) -> Iterator[Stretch]:
        """What of this worker's part moves, cut where parameters differ; mostly one stretch."""
        flat, part = self.flat, self.part
        alike = lambda number: (arrived[number], self.missed[number], flat.group_of[number])
        for (moves, missed, group), numbers in itertools.groupby(range(len(arrived)), alike):
            first, *others = numbers
            last = others[-1] if others else first
            low, high = max(flat.slices[first].start, part.start), min(flat.slices[last].stop, part.stop)
            if not moves or low >= high:
                continue
            group = flat.groups[group]
            rate = lr * (group["lr"] / self.lr) if "lr" in group else lr
            decayed = high - low if "weight_decay" in group else min(max(0, flat.decayed - low), high - low)
            own, decay = slice(low - part.start, high - part.start), group.get("weight_decay", self.weight_decay)
            yield Stretch(range(first, last + 1), slice(low, high), own, self.steps - missed, rate, decay, decayed)

    def whole_state(self, comm: Communicator) -> dict:
        """The state of all workers, who must all ask for it; only rank 0 gets it."""
        whole = {"missed": np.array(self.missed)} if any(self.missed) else {}
        if comm.size == 1:
            return self.state | whole
        for name, own in self.state.items():
            array = np.zeros(self.state_parts[-1].stop, own.dtype)
            array[self.state_parts[self.rank]] = backend.to_numpy(own)
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
        if "missed" in state and (found := state["missed"].shape) != (n := len(self.missed),):
            raise ValueError(f"the saved state is that of {found} parameters, not of {n}")

    def load_state(self, state: dict, steps: int) -> None:
        """Take this worker's part of the state of all."""
        self.check_state(state)
        for name, array in self.state.items():
            array[...] = backend.array_module(array).asarray(state[name][self.state_parts[self.rank]])
        self.steps = steps
        self.missed = state["missed"].tolist() if "missed" in state else [0] * len(self.missed)


class AdamW(Optimizer):
    """Adam with decoupled weight decay, which touches matrices only (not biases and gains).

    m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2,   m' = m / (1 - beta1^t),   v' = v / (1 - beta2^t)
    p = p - lr * weight_decay * p - lr * m' / (sqrt(v') + eps)
    """

    def __init__(self, parameters: Parameters, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0.01, rank: int = 0, size: int = 1):
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be shares in [0, 1), not {betas}")
        check_from_0(eps=eps)
        super().__init__(parameters, lr, weight_decay, rank, size)
        self.betas, self.eps = betas, eps
        self._make_state("m", "v")

    def update_stretch(self, stretch: Stretch, grad, grad_scale: float) -> None:
        part, own, (beta1, beta2) = stretch.part, stretch.own, self.betas
        backend.backend_of(grad).adamw(
            self.flat.data[part], grad[part], self.state["m"][own], self.state["v"][own], lr=stretch.lr, beta1=beta1,
            beta2=beta2, eps=self.eps, weight_decay=stretch.weight_decay, step=stretch.steps, grad_scale=grad_scale,
            decayed=stretch.decayed, copy=self.flat.rounded_part(part),
        )


def check_from_0(**values: float) -> None:
    """ValueError unless each of these is a number from 0 on."""
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a number from 0 on, not {value}")


def clip_grad_norm(parameters: Iterable[Parameter], max_norm: float) -> float:
    """Scale all gradients down so that their joint length is at most max_norm; returns the length before.

    Pascanu, Mikolov & Bengio 2013 (arXiv:1211.5063): the direction stays, only the length is cut.
    """
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
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
    a straight line, along a cosine (Loshchilov & Hutter 2017) or a power of it (polynomial), or like 1/sqrt(step)
    (Vaswani et al. 2017).
    lr: the highest rate.   min_lr: where cosine, linear and polynomial end, at `steps`.
    warmup: number of steps over which the rate rises to lr; step t < warmup has lr * (t + 1) / (warmup + 1).
    power: of what is left of the steps, in polynomial.   cycles: how often the rate falls, each time from lr again.
    """

    lr: float
    steps: int
    warmup: int = 0
    min_lr: float = 0.0
    shape: str = "cosine"
    power: float = 1.0
    cycles: int = 1

    def __post_init__(self):
        if self.shape not in SHAPES:
            raise ValueError(f"unknown schedule {self.shape!r}; choose from {', '.join(SHAPES)}")
        if not (0 <= self.lr < math.inf and 0 <= self.min_lr < math.inf):
            raise ValueError(f"learning rates must be numbers from 0 on: lr {self.lr}, min_lr {self.min_lr}")
        falls = self.shape in ("cosine", "linear", "polynomial")
        if falls and (low := self.min_lr) > self.lr:
            raise ValueError(f"min_lr {low:g} is above lr {self.lr:g}, and the rate would rise; lower --min-lr too")
        if not 0 < self.power < math.inf or (self.power != 1 and self.shape != "polynomial"):
            raise ValueError(f"power {self.power} must be above 0, and goes with --schedule polynomial")
        if self.cycles < 1 or (self.cycles > 1 and not falls):
            raise ValueError(f"cycles {self.cycles} must be at least 1, and {self.shape} does not fall to begin again")

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return self.lr * (step + 1) / (self.warmup + 1)
        if self.shape == "constant":
            return self.lr
        if self.shape == "inverse-sqrt":
            return self.lr * math.sqrt(max(self.warmup, 1) / max(step, self.warmup, 1))
        done = min(1.0, (step - self.warmup) / max(1, self.steps - self.warmup))
        done = done if done == 1 else done * self.cycles % 1
        share = 0.5 * (1 + math.cos(math.pi * done)) if self.shape == "cosine" else (1 - done) ** self.power
        return self.min_lr + share * (self.lr - self.min_lr)
