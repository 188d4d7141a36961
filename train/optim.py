"""Optimizers: how to change the parameters, given their gradients.

All parameters are packed into one long array, and all gradients into another; each Parameter keeps a view of its own
stretch of both. One update is then a few passes over long arrays instead of a dozen small calls per parameter, summing
the gradients of several workers is one addition, and a worker can update any stretch [start, stop) on its own.

AdamW: Loshchilov & Hutter 2019 (arXiv:1711.05101). Adafactor: Shazeer & Stern 2018 (arXiv:1804.04235).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from nn import Parameter
from tinytensor import backend


class FlatParameters:
    """The trainable parameters as one long array `data`, and their gradients as another, `grad`.

    Matrices (two or more axes) come first, so "decay only matrices" means: only the elements before `decayed`.
    Mixed precision (Micikevicius et al. 2018, arXiv:1710.03740): `data` and `grad` keep the precision the parameters
    came with, and the model computes with `rounded`, a copy of `data` in the narrower `dtype`. Updates are far smaller
    than the parameters they change; added to 16 bits they would vanish. Parameters that are not trained have rounded
    copies too, or they could not be multiplied with those that are.
    """

    def __init__(self, parameters: Iterable[Parameter], allocate: Callable | None = None, dtype=None):
        """allocate(n): a zeroed array of n elements; the trainer passes one that worker processes share."""
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
        self.allocate = allocate or (lambda n: xp.zeros(n, own))
        self.data = self.allocate(self.size)
        for parameter, place in zip(self.parameters, self.slices):
            self.data[place] = parameter.data.reshape(-1)
        self.rounded = None if dtype is None or dtype == self.data.dtype else self.data.astype(dtype)
        self.frozen = []  # (parameter that is not trained, its values, the same rounded)
        if self.rounded is not None:
            self._round_frozen([p for p in parameters if not p.requires_grad and p.dtype == own])
        self._place_parameters(self.data if self.rounded is None else self.rounded)
        self.grad = self.allocate(self.size)
        self.collect_gradients_in(self.grad, self.parameters)

    def _place_parameters(self, flat) -> None:
        for parameter, place in zip(self.parameters, self.slices):
            parameter.data = flat[place].reshape(parameter.shape)
        for parameter, whole, rounded in self.frozen:
            parameter.data = rounded if flat is self.rounded else whole

    def _round_frozen(self, parameters: Iterable[Parameter]) -> None:
        self.frozen = [(p, p.data, p.data.astype(self.rounded.dtype)) for p in parameters]

    @contextlib.contextmanager
    def full_precision(self) -> Iterator[None]:
        """Inside this block the parameters are the unrounded ones, to be saved or replaced."""
        if self.rounded is None:
            yield
            return
        self._place_parameters(self.data)
        try:
            yield
        finally:
            self.rounded[...] = self.data
            self._round_frozen([p for p, *_ in self.frozen])
            self._place_parameters(self.rounded)

    def keep_full_precision(self) -> None:
        """Training is over: from now on the parameters are the unrounded ones."""
        self._place_parameters(self.data)
        self.rounded = None

    def rounded_part(self, part: slice):
        """The stretch of the rounded copy that belongs to a stretch of `data`; None where there is no copy."""
        return None if self.rounded is None else self.rounded[part]

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

    def apply_masks(self, start: int, stop: int) -> None:
        """Set the masked weights among the elements [start, stop) back to 0, as pruning left them."""
        for parameter, place in zip(self.parameters, self.slices):
            low, high = max(start, place.start), min(stop, place.stop)
            if parameter.mask is not None and low < high:
                mask = parameter.mask.reshape(-1)[low - place.start : high - place.start]
                mask = parameter.xp.asarray(mask)
                self.data[low:high] *= mask
                if self.rounded is not None:
                    self.rounded[low:high] *= mask


class Optimizer:
    """What the optimizers share. A subclass says how a stretch of the flat arrays is updated, in `update`.

    In your own loop:   loss.backward();  clip_grad_norm(parameters, 1.0);  optimizer.step();  optimizer.zero_grad()
    """

    def __init__(self, parameters: Iterable[Parameter], lr: float, allocate: Callable | None = None, dtype=None):
        """dtype: what the model computes in, if narrower than its parameters; see FlatParameters."""
        if not 0 <= lr < math.inf:
            raise ValueError(f"lr must be a number from 0 on, not {lr}")
        self.flat = FlatParameters(parameters, allocate, dtype)
        self.lr = lr
        self.steps = 0  # updates done

    def step(self, lr: float | None = None) -> None:
        """Update all parameters from their gradients, at the rate `lr` (the one given at the start by default)."""
        self.flat.complete_gradients(self.flat.parameters)
        self.steps += 1
        self.update(0, self.flat.size, self.flat.grad, self.lr if lr is None else lr)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self.flat.parameters:
            parameter.grad = None

    def update(self, start: int, stop: int, grad, lr: float, grad_scale: float = 1.0) -> None:
        """Update the elements [start, stop) from `grad`, all gradients as one flat array, times grad_scale.

        Masked weights (Parameter.mask) stay 0.
        """
        raise NotImplementedError

    def state(self) -> dict:
        """Name -> array: all that must be saved, beside `steps`, to go on as if nothing had happened."""
        raise NotImplementedError

    def load_state(self, state: dict, steps: int) -> None:
        own = self.state()
        for name, array in own.items():
            if name not in state or state[name].shape != array.shape:
                found = state[name].shape if name in state else "missing"
                kind = type(self).__name__
                raise ValueError(f"the saved state is not {kind}'s: {name} is {found}, expected {array.shape}")
            array[...] = backend.array_module(array).asarray(state[name])
        self.steps = steps


class AdamW(Optimizer):
    """Adam with decoupled weight decay, which touches matrices only (not biases and gains).

    m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2,   m' = m / (1 - beta1^t),   v' = v / (1 - beta2^t)
    p = p - lr * weight_decay * p - lr * m' / (sqrt(v') + eps)
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        allocate: Callable | None = None,
        dtype=None,
    ):
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas must be shares in [0, 1), not {betas}")
        super().__init__(parameters, lr, allocate, dtype)
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay
        self.m = self.flat.allocate(self.flat.size)
        self.v = self.flat.allocate(self.flat.size)

    def update(self, start: int, stop: int, grad, lr: float, grad_scale: float = 1.0) -> None:
        flat, part = self.flat, slice(start, stop)
        backend.backend_of(grad).adamw(
            flat.data[part],
            grad[part],
            self.m[part],
            self.v[part],
            lr=lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            eps=self.eps,
            weight_decay=self.weight_decay,
            step=self.steps,
            grad_scale=grad_scale,
            decayed=max(0, flat.decayed - start),
            copy=flat.rounded_part(part),
        )
        flat.apply_masks(start, stop)

    def state(self) -> dict:
        return {"m": self.m, "v": self.v}


class SGD(Optimizer):
    """Gradient descent, with momentum if asked for, and decay of matrices added to the gradient.

    g = g + weight_decay * p,   u = momentum * u + g,   p = p - lr * u   (nesterov: p - lr * (g + momentum * u))
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 0.1,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        allocate: Callable | None = None,
        dtype=None,
    ):
        super().__init__(parameters, lr, allocate, dtype)
        self.momentum, self.nesterov, self.weight_decay = momentum, nesterov, weight_decay
        self.velocity = self.flat.allocate(self.flat.size) if momentum else None

    def update(self, start: int, stop: int, grad, lr: float, grad_scale: float = 1.0) -> None:
        flat, part = self.flat, slice(start, stop)
        backend.backend_of(grad).sgd(
            flat.data[part],
            grad[part],
            None if self.velocity is None else self.velocity[part],
            lr=lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            grad_scale=grad_scale,
            decayed=max(0, flat.decayed - start),
            copy=flat.rounded_part(part),
        )
        flat.apply_masks(start, stop)

    def state(self) -> dict:
        return {} if self.velocity is None else {"velocity": self.velocity}


class Adafactor(Optimizer):
    """Adam's adaptive step in little memory: of a matrix's squared gradients only row and column means are kept.

    For a matrix, with b = 1 - t^-0.8:   r = b r + (1 - b) mean(g^2 + 1e-30, over columns),   c likewise over rows,
        u = g / sqrt(r c / mean(r));   a vector keeps its full v instead:   u = g / sqrt(v)
    u = u / max(1, rms(u) / clip_threshold),   p = p - lr * weight_decay * p - lr * max(1e-3, rms(p)) * u
    Shazeer & Stern 2018, algorithm 4 and 5. relative=False leaves out the factor max(1e-3, rms(p)).
    """

    def __init__(
        self,
        parameters: Iterable[Parameter],
        lr: float = 1e-2,
        clip_threshold: float = 1.0,
        decay_exponent: float = 0.8,
        relative: bool = True,
        weight_decay: float = 0.0,
        allocate: Callable | None = None,
        dtype=None,
    ):
        super().__init__(parameters, lr, allocate, dtype)
        self.clip_threshold, self.decay_exponent = clip_threshold, decay_exponent
        self.relative, self.weight_decay = relative, weight_decay
        # The moments of all parameters in one array, each parameter's stretch cut into its row and column means.
        sizes = [sum(math.prod(shape) for shape in _moment_shapes(p.shape)) for p in self.flat.parameters]
        self.moments = self.flat.allocate(sum(sizes))
        self.moment_starts = [0, *np.cumsum(sizes).tolist()]

    def update(self, start: int, stop: int, grad, lr: float, grad_scale: float = 1.0) -> None:
        """A matrix's statistics need all of it, so here a stretch means the parameters that begin inside it."""
        for index, place in enumerate(self.flat.slices):
            if start <= place.start < stop:
                self._update_one(index, grad[place] * grad_scale, lr)
                self.flat.apply_masks(place.start, place.stop)

    def _update_one(self, index: int, g, lr: float) -> None:
        place, shape = self.flat.slices[index], self.flat.parameters[index].shape
        p, xp = self.flat.data[place].reshape(shape), self.flat.parameters[index].xp
        g = g.reshape(shape)
        keep = 1 - self.steps**-self.decay_exponent
        square = g * g + 1e-30
        moments = self._moments(index)
        if p.ndim >= 2:
            rows, columns = moments
            rows *= keep
            rows += (1 - keep) * square.mean(axis=-1)
            columns *= keep
            columns += (1 - keep) * square.mean(axis=-2)
            scale = rows / rows.mean(axis=-1, keepdims=True)
            u = g / xp.sqrt(scale[..., :, None] * columns[..., None, :])
        else:
            (v,) = moments
            v *= keep
            v += (1 - keep) * square
            u = g / xp.sqrt(v)
        u /= max(1.0, float(_rms(u, xp)) / self.clip_threshold)
        rate = lr * max(1e-3, float(_rms(p, xp))) if self.relative else lr
        if self.weight_decay and p.ndim >= 2:
            p *= 1 - lr * self.weight_decay
        p -= rate * u
        if self.flat.rounded is not None:
            self.flat.rounded[place] = p.reshape(-1)

    def _moments(self, index: int) -> list:
        """Views of one parameter's running means, in their own shapes."""
        views, start = [], self.moment_starts[index]
        for shape in _moment_shapes(self.flat.parameters[index].shape):
            views.append(self.moments[start : start + math.prod(shape)].reshape(shape))
            start += math.prod(shape)
        return views

    def state(self) -> dict:
        return {"moments": self.moments}


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


def _moment_shapes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Adafactor's running means for a parameter: rows and columns of a matrix, everything of a vector."""
    return [shape[:-1], shape[:-2] + shape[-1:]] if len(shape) >= 2 else [shape]


def _rms(x, xp):
    return xp.sqrt((x * x).mean())
