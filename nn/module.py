"""Module: a part of a model, with parameters of its own or of its parts; and Parameter: a Tensor that trains.

A module's parts are found by looking at its attributes: whatever is a Parameter, a Module, or a list or dict of them
belongs to it. There is nothing to register, so a model reads as ordinary Python.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar

import numpy as np

from tinytensor import Tensor, backend, ops

_shapes_only = ContextVar("shapes_only", default=None)  # what counts the parameters; each thread has its own
_entering, _evaluated = threading.Lock(), {}  # part -> (how often `evaluating` it is going on, its mode before)


@contextlib.contextmanager
def shapes_only(most: int | None = None) -> Iterator[None]:
    """Models built inside this block have shapes but no memory (every parameter is one zero, repeated by strides).

    So the parameters of a 175-billion parameter model can be counted on a laptop.
    most: how many arrays of weights there are; a model with more parameters is refused as soon as it has them.
    """
    before = _shapes_only.set(itertools.count() if most is None else iter(range(most)))
    try:
        yield
    finally:
        _shapes_only.reset(before)


class Parameter(Tensor):
    """A Tensor that is trained.

    An optimizer may give it a place in a long flat array for its data and one for its gradient (see train/optim.py);
    `gradient_place` is that second view. `grad` is None until a gradient has arrived, flat or not.
    mask: None, or booleans of the parameter's shape, on its device, False where pruning took a weight away
    (nn/compression); optimizers leave a 0 there.
    """

    __slots__ = ("gradient_place", "mask")

    def __init__(self, data, requires_grad: bool = True):
        super().__init__(data, requires_grad)
        self.gradient_place = self.mask = None

    @classmethod
    def make(cls, shape: int | tuple[int, ...], fill: Callable[[tuple[int, ...]], np.ndarray]) -> Parameter:
        """A float32 parameter filled by an initializer (nn/init.py), which is not even called under shapes_only()."""
        if (places := _shapes_only.get()) is not None:
            if next(places, None) is None:
                raise ValueError("this model has more parameters than there are weights")
            return cls(np.broadcast_to(np.float32(0), shape))
        return cls(fill(shape).astype(np.float32, copy=False))

    def gradient_buffer(self):
        return self.gradient_place if self.grad is None else None

    def accumulate(self, gradient) -> None:
        if self.grad is not None:
            self.grad += gradient.astype(self.grad.dtype, copy=False)
        elif self.gradient_place is None:
            super().accumulate(gradient)
        else:
            if gradient is not self.gradient_place:  # the op may have written it there already
                self.gradient_place[...] = gradient
            self.grad = self.gradient_place


class Module:
    """The base of every layer and model. Write the parts as attributes in __init__ and the computation in __call__."""

    training = True

    def __call__(self, *args, **kwargs):
        raise NotImplementedError(f"{type(self).__name__} does not say what it computes; define __call__")

    def activated(self, x: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        """activation(self(x)); layers that can do both in one pass over memory do so (Linear)."""
        return activation(self(x))

    def compared(self, x: Tensor) -> Tensor:
        """Scores (..., V) of vectors x (..., C) by the rows of `weight` (V, C), for layers that have one."""
        return ops.linear(x, self.weight)

    def cross_entropy(self, x: Tensor, targets, bias: Tensor | None = None, reduction="sum", smoothing=0.0) -> Tensor:
        """That of such scores and a bias."""
        return ops.linear_cross_entropy(x, self.weight, targets, bias, reduction=reduction, label_smoothing=smoothing)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(attribute name, module) of each direct part, in order of definition; list and dict items as "name.key"."""
        return ((name, value) for name, value in _members(vars(self)) if isinstance(value, Module))

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all below it, with dotted names."""
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(f"{prefix}.{name}" if prefix else name)

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(dotted name, parameter); a parameter shared by several places comes once, under its first name."""
        seen = set()
        for prefix, module in self.named_modules():
            for name, value in _members(vars(module)):
                if isinstance(value, Parameter) and id(value) not in seen:
                    seen.add(id(value))
                    yield f"{prefix}.{name}" if prefix else name, value

    def parameters(self) -> list[Parameter]:
        return [parameter for _, parameter in self.named_parameters()]

    def parameter_count(self) -> int:
        """How many numbers are trained, shared ones counted once."""
        return sum(parameter.size for parameter in self.parameters())

    def state_dict(self) -> dict[str, np.ndarray]:
        """Name -> the parameter's own array (not a copy)."""
        return {name: parameter.data for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: dict[str, np.ndarray], assign: bool = False) -> None:
        """Copy arrays into the parameters. Names and shapes must match exactly; nothing is changed unless all do.

        assign: put the arrays, or copies if they cannot be written, in the place of the parameters' own, which may
        then have been built under shapes_only(), so that no time goes into first weights that nobody wants.
        """
        own = dict(self.named_parameters())
        shapes = {name: (tuple(state[name].shape), own[name].shape) for name in own.keys() & state.keys()}
        wrong = [f"{name} is {got}, expected {shape}" for name, (got, shape) in shapes.items() if got != shape]
        problems = {"missing": own.keys() - state.keys(), "unexpected": state.keys() - own.keys()}
        problems["of the wrong shape"] = wrong
        if told := "; ".join(f"{problem}: {_some(names)}" for problem, names in problems.items() if names):
            raise ValueError(f"these weights do not fit {type(self).__name__}; {told}")
        if assign:
            for name, parameter in own.items():
                array = np.require(state[name], parameter.dtype, ["A", "W"])
                parameter.data = array if array.flags.forc else np.ascontiguousarray(array)
            return
        if any(0 in parameter.data.strides for parameter in own.values()):
            raise ValueError(f"this {type(self).__name__} was built under shapes_only() and has no memory for weights")
        for name, parameter in own.items():
            parameter.data[...] = backend.to_device(state[name], parameter.device)

    def train(self, mode: bool = True) -> Module:
        """Switch to training (dropout works)."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> Module:
        """Switch to evaluation (dropout does nothing)."""
        return self.train(False)

    def for_inference(self) -> Module:
        """Evaluation mode, with every matrix laid out column by column, for reading one token at a time.

        The product of one row with such a matrix goes through memory in order and is 1.6 times as fast on a CPU. Only
        the layout changes; do it after training, whose optimizer keeps the parameters in places of its own.
        """
        for parameter in self.parameters():
            if parameter.ndim == 2 and backend.device_of(parameter.data) == "cpu":
                parameter.data = np.asfortranarray(parameter.data)
        return self.eval()

    def requires_grad_(self, wanted: bool = True) -> Module:
        """Freeze (False) or unfreeze all parameters; those that are integers (of smaller models) have no gradient."""
        for parameter in self.parameters():
            parameter.requires_grad = wanted and backend.is_float(parameter.dtype)
        return self

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self.parameters():
            parameter.grad = None

    def to(self, device: str) -> Module:
        """Move all parameters, their masks and gradients to "cpu" or "cuda", in place."""
        for parameter in self.parameters():
            if backend.device_of(parameter.data) != device:  # row by row, as a GPU's kernels read; see for_inference
                parameter.data = backend.to_device(parameter.xp.ascontiguousarray(parameter.data), device)
                parameter.gradient_place = None
            if parameter.mask is not None:
                parameter.mask = backend.to_device(parameter.mask, device)
            if parameter.grad is not None:
                parameter.grad = backend.to_device(parameter.grad, device)
        return self

    def __repr__(self) -> str:
        return "\n".join(self._lines(""))

    def _lines(self, name: str) -> list[str]:
        """The tree of parts: one line each, with the parameters' shapes and the number of values at and below it."""
        own = ", ".join(f"{n} {v.shape}" for n, v in _members(vars(self)) if isinstance(v, Parameter))
        label, each = f"{name}: " if name else "", " each" if " .. " in name else ""
        lines = [f"{label}{type(self).__name__}({own})  [{self.parameter_count():,}{each}]"]
        looks = lambda part: (part[0].rpartition(".")[0] or part[0], repr(part[1]))
        for _, stack in itertools.groupby(self.named_children(), looks):  # a stack of equal layers is shown once
            (first, child), *others = stack
            lines += ["  " + line for line in child._lines(f"{first} .. {others[-1][0]}" if others else first)]
        return lines


@contextlib.contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Inside this block the model is in evaluation mode (no dropout); afterwards every part of it is as it was.

    Several threads may be inside, and leave in any order: the last to leave a part puts it back.
    """
    parts = list(model.modules())
    with _entering:
        for part in parts:
            inside, before = _evaluated.get(part, (0, part.training))
            _evaluated[part], part.training = (inside + 1, before), False
    try:
        yield
    finally:
        with _entering:
            for part in parts:
                inside, before = _evaluated.pop(part)
                if inside > 1:
                    _evaluated[part] = inside - 1, before
                else:
                    part.training = before


def check_finite(model: Module, source: object) -> None:
    """ValueError, naming a parameter, if one of them holds NaN or infinities. source: where the weights come from."""
    for name, parameter in model.named_parameters():
        x, xp = parameter.data, parameter.xp
        if backend.is_float(x.dtype):
            with np.errstate(all="ignore"):  # the sum of squares is one pass at the speed of memory; it may overflow
                sound = math.isfinite(backend.backend_of(x).squared_norm(x.ravel(order="K")))
            if not sound and not bool(xp.isfinite(x).all()):
                why = f"{name} holds NaN or infinities, and whatever is computed from it is noise"
                raise ValueError(f"{source}: {why}; copy the file again, or train anew with a lower --lr")


def _members(found: dict | list | tuple, prefix: str = "") -> Iterator[tuple[str, object]]:
    """The parameters and modules among a module's attributes; inside lists, tuples and dicts, with dotted names."""
    for name, value in found.items() if isinstance(found, dict) else enumerate(found):
        if isinstance(value, (Parameter, Module)):
            yield f"{prefix}{name}", value
        elif isinstance(value, (list, tuple, dict)):
            yield from _members(value, f"{prefix}{name}.")


def _some(names) -> str:
    """The first few of many names."""
    names = sorted(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
