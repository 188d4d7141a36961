"""Training a model that is cut over ranks (nn/parallel.py): the usual loop, with a part of the model at each worker.

`--workers 4 --tensor 2` makes a grid: 2 models, each cut over 2 workers. Neighbours share a model and read the same
rows of a batch; workers with the same part of it share the batch, and split the optimizer's state among them, as ever:

    worker        0              1              2              3
    part of it    0              1              0              1
    rows          first half     first half     second half    second half

A worker holds 1 / tensor of the parameters and gradients that are cut, and 1 / workers of their optimizer's state. The
whole model is the leader's: a checkpoint is written from it and looks like any other, whatever the cut.
"""

import dataclasses

import numpy as np

from nn import Module
from nn.parallel import cut, plan
from tinytensor import backend
from tinytensor.distributed import Communicator, core_count
from train.optim import FlatParameters
from train.trainer import Loop, TrainConfig, Trainer


def check(model: Module, config: TrainConfig) -> None:
    """ValueError for a model, or a way of training, that does not go with --tensor."""
    if config.device != "cpu":
        raise ValueError(f"--tensor cuts a model over workers of a CPU, not {config.device}; leave out one of the two")
    if config.optimizer.startswith("adafactor"):
        raise ValueError(f"--optimizer {config.optimizer} needs whole matrices, which --tensor cuts; take adamw or sgd")
    plan(model, config.tensor)


class CutTrainer(Trainer):
    """A Trainer whose workers have parts of its model."""

    cuts = True

    def __init__(self, model: Module, objective, train_data, val_data, config: TrainConfig, *where):
        check(model, config)
        most = min(core_count(), config.batch * config.tensor) // config.tensor
        config = dataclasses.replace(config, workers=config.workers or max(1, most) * config.tensor)
        super().__init__(model, objective, train_data, val_data, config, *where)
        if self.workers % config.tensor:  # of MPI's ranks
            raise ValueError(f"{self.workers} ranks must be a multiple of tensor {config.tensor}, which share a model")

    def work(self, comm: Communicator) -> None:
        CutLoop(self, comm).train()


class CutLoop(Loop):
    """What one worker does with its part of the model."""

    def __init__(self, trainer: Trainer, world: Communicator):
        n = trainer.config.tensor
        self.saved = trainer.optimizer_state  # before the first worker to be ready lets go of it
        self.tensor, data = world.split(world.rank // n), world.split(world.rank % n)
        super().__init__(trainer, data)
        alike = {number for number, one in enumerate(self.cuts) if one is None}
        self.world, self.uncounted = world, alike if self.tensor.rank else set()
        self.report = None if world.rank else trainer.report

    def own_share(self) -> tuple[FlatParameters, Module, list, dict]:
        trainer = self.trainer
        cuts = plan(trainer.model, self.tensor.size)
        self.cuts = [cuts.get(id(parameter)) for parameter in trainer.flat.parameters]
        model = cut(trainer.model, cuts, self.tensor)
        flat = FlatParameters(model.parameters())
        state = {name: array if name == "missed" else self._own(array) for name, array in self.saved.items()}
        return flat, model, flat.parameters, state

    def gradient(self, step: int, rank: int) -> tuple[float, int, dict]:
        loss, tokens, state = super().gradient(step, rank)
        return loss / self.tensor.size, tokens, state  # as many workers have the same one

    def squared(self, own) -> float:
        """What all ranks have alike counts once."""
        part, squared = self.optimizer.part, 0.0
        for number, place in enumerate(self.flat.slices):
            mine = self.grad[max(place.start, part.start) : min(place.stop, part.stop)]
            if mine.size and number not in self.uncounted:
                squared += float(backend.backend_of(mine).squared_norm(mine))
        return squared

    def _evaluate(self, step: int) -> None:
        self._join(self.flat.data, self.trainer.flat.data)
        super()._evaluate(step)

    def save(self) -> None:
        self._join(self.flat.data, self.trainer.flat.data)
        whole = self.optimizer.whole_state(self.comm)
        for name in self.optimizer.state if self.comm.rank == 0 else ():
            state = np.zeros(self.trainer.flat.size if self.world.rank == 0 else 0, whole[name].dtype)
            self._join(whole[name], state)
            whole[name] = state
        if self.world.rank == 0:
            self.trainer.save(whole)

    def _own(self, whole) -> np.ndarray:
        """This rank's part of a number for each of the whole model's parameters, laid out like flat.data."""
        parts = []
        for parameter, place, one in zip(self.trainer.flat.parameters, self.trainer.flat.slices, self.cuts):
            array = whole[place].reshape(parameter.shape)
            parts.append(array if one is None else array.take(one.parts[self.tensor.rank], one.axis))
        return np.concatenate([part.reshape(-1) for part in parts])

    def _join(self, own, whole) -> None:
        """The opposite: fill in `whole`, at the leader. One parameter after the other, so that no rank needs room."""
        if self.comm.rank:
            return  # others have the same
        group, flat = self.tensor, self.trainer.flat
        for parameter, place, mine, one in zip(flat.parameters, flat.slices, self.flat.slices, self.cuts):
            if one is None:
                if group.rank == 0:
                    whole[place] = own[mine]
                continue
            row = parameter.size // parameter.shape[one.axis]
            ends = np.cumsum([len(places) * row for places in one.parts]).tolist()
            parts = [slice(end - len(places) * row, end) for end, places in zip(ends, one.parts)]
            joined = np.empty(parameter.size, own.dtype)
            joined[parts[group.rank]] = own[mine]
            group.all_gather(joined, parts)
            for part, places in zip(parts, one.parts) if group.rank == 0 else ():
                array = whole[place].reshape(parameter.shape).swapaxes(0, one.axis)
                shape = list(parameter.shape)
                shape[one.axis] = len(places)
                array[places] = joined[part].reshape(shape).swapaxes(0, one.axis)
