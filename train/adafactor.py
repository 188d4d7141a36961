"""Adafactor: an optimizer for models so large that Adam's two numbers per parameter are too many (T5's own).

Shazeer & Stern 2018 (arXiv:1804.04235).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import pairwise

import numpy as np

from tinytensor.distributed import share
from train.optim import Optimizer, Parameters, Stretch, check_from_0


class Adafactor(Optimizer):
    """Adam's adaptive step in little memory: of a matrix's squared gradients only row and column means are kept.

    For a matrix, with b = 1 - t^-0.8:   r = b r + (1 - b) mean(g^2 + 1e-30, over columns),   c likewise over rows,
        u = g / sqrt(r c / mean(r));   a vector keeps its full v instead:   u = g / sqrt(v)
    u = u / max(1, rms(u) / clip_threshold),   p = p - lr * weight_decay * p - lr * max(1e-3, rms(p)) * u
    Shazeer & Stern 2018, algorithm 4 and 5. relative=False leaves out the factor max(1e-3, rms(p)).
    """

    def __init__(self, parameters: Parameters, lr: float = 1e-2, clip_threshold: float = 1.0, decay_exponent=0.8,
                 relative: bool = True, weight_decay: float = 0.0, rank: int = 0, size: int = 1):
        check_from_0(decay_exponent=decay_exponent)
        if not clip_threshold > 0:
            raise ValueError(f"clip_threshold must be above 0, not {clip_threshold}")
        super().__init__(parameters, lr, weight_decay, rank, size)
        self.clip_threshold, self.decay_exponent, self.relative = clip_threshold, decay_exponent, relative
        self._make_state("moments")  # of all its parameters, each one's stretch cut into its row and column means

    def _cut(self, size: int) -> tuple[list[slice], list[slice]]:
        """A matrix's statistics need all of it, so a worker has the parameters that begin inside its equal share."""
        begins = [place.start for place in self.flat.slices]
        moments = [sum(math.prod(shape) for shape in _moment_shapes(p.shape)) for p in self.flat.parameters]
        self.moment_starts = [0, *np.cumsum(moments).tolist()]
        cuts = [bisect_left(begins, share(self.flat.size, rank, size).start) for rank in range(size)] + [len(begins)]
        self.own = range(cuts[self.rank], cuts[self.rank + 1])  # the numbers of this worker's parameters
        between = lambda starts: [slice(starts[first], starts[last]) for first, last in pairwise(cuts)]
        return between([*begins, self.flat.size]), between(self.moment_starts)

    def update_stretch(self, stretch: Stretch, grad, grad_scale: float) -> None:
        for index in stretch.numbers:
            if index in self.own:
                self._update_one(index, grad[self.flat.slices[index]] * grad_scale, stretch)

    def _update_one(self, index: int, g, stretch: Stretch) -> None:
        place, parameter, lr = self.flat.slices[index], self.flat.parameters[index], stretch.lr
        p, g, xp = self.flat.data[place].reshape(parameter.shape), g.reshape(parameter.shape), parameter.xp
        keep, square, moments = 1 - stretch.steps**-self.decay_exponent, g * g + 1e-30, self._moments(index)
        for moment, new in zip(moments, [square.mean(axis=-1), square.mean(axis=-2)] if p.ndim >= 2 else [square]):
            moment *= keep
            moment += (1 - keep) * new
        if p.ndim >= 2:
            rows, columns = moments
            scale = rows / rows.mean(axis=-1, keepdims=True)
            u = g / xp.sqrt(scale[..., :, None] * columns[..., None, :])
        else:
            u = g / xp.sqrt(moments[0])
        u /= max(1.0, float(_rms(u, xp)) / self.clip_threshold)
        rate = lr * max(1e-3, float(_rms(p, xp))) if self.relative else lr
        if stretch.weight_decay and place.start < stretch.part.start + stretch.decayed:
            p *= 1 - lr * stretch.weight_decay
        p -= rate * u
        if self.flat.rounded is not None:
            self.flat.rounded.data[place] = p.reshape(-1)

    def _moments(self, index: int) -> list:
        """Views of one parameter's running means, in their own shapes."""
        views, start = [], self.moment_starts[index] - self.moment_starts[self.own.start]
        for shape in _moment_shapes(self.flat.parameters[index].shape):
            views.append(self.state["moments"][start : start + math.prod(shape)].reshape(shape))
            start += math.prod(shape)
        return views


def _moment_shapes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Adafactor's running means for a parameter: rows and columns of a matrix, everything of a vector."""
    return [shape[:-1], shape[:-2] + shape[-1:]] if len(shape) >= 2 else [shape]


def _rms(x, xp):
    return xp.sqrt((x * x).mean())
