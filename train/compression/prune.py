"""Pruning and training: something is masked, and what is left learns to do its work. When does it go?

    one-shot    all at the beginning; then comes one training
    iterative   in rounds, each taking the same part of what is left and followed by a training of its own (Han et al.
                2015, arXiv:1506.02626); its learning rate begins anew (Renda et al. 2020, arXiv:2003.02389)
    cubic       while one training goes on: a little every few steps, most of it early (Zhu & Gupta 2017,
                arXiv:1710.01878)

Movement pruning (Sanh et al. 2020, arXiv:2005.07683) scores a weight not by where it is but by where it goes: training
that pushes it away from 0 wants it, training that pushes it towards 0 does not. Its score is -sum(dL/dW' * W) over the
steps, with W' the masked weight: the gradient of a masked weight is known too, so it may come back.
"""

from collections.abc import Callable, Sequence

import numpy as np

from nn.compression.prune import apply_masks, choose, cubic, groups, prune, scores
from tinytensor import backend

SCHEDULES = ("one-shot", "iterative", "cubic")


def gradually(amount: float, steps: int, recovery: float = 0.7) -> Callable[[int], float]:
    """The cubic schedule: step -> the share to have masked then. In the last part `recovery` nothing more goes."""
    if not 0 <= recovery < 1:
        raise ValueError(f"recovery is the share of the steps behind the last cut, from 0 to less than 1: {recovery}")
    last = int(steps * (1 - recovery))
    return lambda step: cubic(step, 0, last, amount)


class Pruning:
    """Masks more and more of a model while a Trainer trains it: trainer.between = Pruning(trainer, gradually(...))."""

    def __init__(
        self, trainer, amount_at: Callable[[int], float], what: str = "weights", by: str = "magnitude", *,
        whole: bool = False, batches: Sequence[dict] = (), every: int = 10,
    ):
        """amount_at: step -> the share to have masked then.   every: steps between looks at whether more should go. For
        the rest see nn.compression.prune.prune, which does what is due before the first step."""
        steps = trainer.config.steps
        if what in ("layers", "2:4") and amount_at(0) != amount_at(steps):
            raise ValueError(f"{what} cannot go little by little; use one-shot")
        self.movement = by == "movement"
        if self.movement and what not in ("weights", "neurons", "heads"):
            raise ValueError(f"movement chooses weights, neurons or heads, not {what}")
        self.model, self.flat, self.comm = trainer.model, trainer.flat, trainer.comm
        self.by, self.whole, self.batches = by, whole, list(batches)
        if amount_at(0) and not self.movement:
            with self.flat.full_precision():
                prune(self.model, amount_at(0), what, by, whole=whole, batches=batches)
        self.groups = [] if what == "layers" else groups(self.model, what)
        self._share_masks()
        if self.movement:
            self.scores = self._zeros()
            self.weights = self._zeros()  # as they are under the masks
            asarray = backend.array_module(self.weights).asarray
            self.scores[:] = asarray(trainer.extra.get("scores", 0))
            self.weights[:] = asarray(trainer.extra.get("weights", self.flat.data))
            trainer.extra = {"scores": self.scores, "weights": self.weights}  # a run that goes on needs them
        self.due, last = {}, amount_at(0)  # step -> the share to have masked after it
        for step in range(1, steps + 1):
            amount = amount_at(step)
            if (self.movement or amount != last) and (step % every == 0 or step == steps):
                self.due[step] = last = amount

    def _share_masks(self) -> None:
        """Workers that are processes must see what the leader masks: so all masks lie in one shared array."""
        self.kept = self._zeros(bool)
        self.kept[:] = True
        pruned = {id(parameter) for group in self.groups for parameter, _ in group.parts}
        for parameter, place in zip(self.flat.parameters, self.flat.slices):
            if id(parameter) in pruned:
                shared = self.kept[place].reshape(parameter.shape)
                if parameter.mask is not None:
                    shared[...] = parameter.mask
                parameter.mask = shared

    def _zeros(self, dtype=np.float32):
        """An array as long as all parameters, beside them, that all workers see."""
        if backend.device_of(self.flat.data) == "cpu":
            return self.comm.shared(self.flat.size, dtype)
        return backend.array_module(self.flat.data).zeros(self.flat.size, dtype)

    def __call__(self, loop, step: int) -> None:
        """Between two steps of training, in every worker."""
        if self.movement:
            self._move(loop)
        if step in self.due:
            for moved in (self.scores, self.weights) if self.movement else ():
                loop.comm.all_gather(moved, loop.optimizer.parts)
            loop.comm.barrier()
            if loop.comm.rank == 0:
                with self.flat.full_precision():
                    self._choose(self.due[step])
            for chosen in (self.kept, self.flat.data):
                loop.comm.broadcast(chosen)

    def _move(self, loop) -> None:
        """Follow the weights of this worker's part."""
        place = loop.optimizer.part
        self.scores[place] -= loop.grad[place] * self.weights[place]
        kept = self.kept[place]
        self.weights[place][kept] = self.flat.data[place][kept]

    def _choose(self, amount: float) -> None:
        """Mask what is worth least now. Movement chooses among all again; else what is masked stays so."""
        if not self.movement:
            values = scores(self.model, self.groups, self.by, self.batches)
        else:
            places = {id(p): place for p, place in zip(self.flat.parameters, self.flat.slices)}
            moved = lambda p: self.scores[places[id(p)]].reshape(p.shape)
            values = [group.sums(moved) for group in self.groups]
            self.kept[:] = True
        for group, kept in zip(self.groups, choose(values, self.groups, amount, self.whole)):
            group.keep_only(kept)
        if self.movement:
            self.flat.data[:] = self.weights
        apply_masks(self.model)
