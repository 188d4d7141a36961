"""Training a model that is cut over ranks (nn/parallel.py): the usual loop, with a part of the model at each worker.

`--workers 4 --tensor 2` makes a grid: 2 models, each cut over 2 workers. Neighbours share a model and read the same
rows of a batch; workers with the same part of it share the batch, and split the optimizer's state among them, as ever:

    worker        0              1              2              3
    part of it    0              1              0              1
    rows          first half     first half     second half    second half

A worker holds 1 / tensor of the parameters and gradients that are cut, and 1 / workers of their optimizer's state. The
whole model is the leader's: a checkpoint is written from it and looks like any other, whatever the cut.

With `--experts-over N` the experts of one model are shared out among N groups of such neighbours. These read different
rows, so what they have alike gets its gradient from all of them. The numbers of a worker count the neighbours first,
then those groups, then the models. In an evaluation all that share a model read the same, as they have to keep step.
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
    """ValueError for a model, or a way of training, that does not go with --tensor and --experts-over."""
    flag = "--tensor" if config.tensor > 1 else "--experts-over"
    if config.device != "cpu":
        raise ValueError(f"{flag} cuts a model over workers of a CPU, not {config.device}; leave out one of the two")
    if config.optimizer.startswith("adafactor"):
        raise ValueError(f"--optimizer {config.optimizer} needs whole matrices, which {flag} cuts; take adamw or sgd")
    plan(model, config.tensor, config.experts_over)


class CutTrainer(Trainer):
    """A Trainer whose workers have parts of its model."""

    cuts = True

    def __init__(self, model: Module, objective, train_data, val_data, config: TrainConfig, *where):
        check(model, config)
        most = min(core_count(), config.batch * config.tensor) // config.cuts
        config = dataclasses.replace(config, workers=config.workers or max(1, most) * config.cuts)
        super().__init__(model, objective, train_data, val_data, config, *where)
        if self.workers % config.cuts:  # MPI's ranks are as many as were started
            raise ValueError(f"{self.workers} ranks cannot be shared out to models cut over {config.cuts}")
        if config.experts_over > 1 and config.batch < self.workers // config.tensor:
            what = f"batch {config.batch} has no rows for some of {self.workers} workers"
            raise ValueError(f"{what}, who must keep step with the others; turn up --batch")

    def work(self, comm: Communicator) -> None:
        CutLoop(self, comm).train()


class CutLoop(Loop):
    """What one worker does with its part of the model."""

    def __init__(self, trainer: Trainer, world: Communicator):
        n, experts, rank = trainer.config.tensor, trainer.config.experts_over, world.rank
        self.saved = trainer.optimizer_state  # before the first worker to be ready lets go of it
        self.groups = {"tensor": world.split(rank // n), "experts": world.split(rank // (n * experts) * n + rank % n)}
        super().__init__(trainer, world.split(rank % (n * experts)))
        self.world, self.reader, self.readers = world, rank // n, world.size // n
        self.flat.grad, self.flat.gradient_places = self.grad, [p.gradient_place for p in self.parameters]  # no second
        self.report = None if rank else trainer.report
        others = {name for name, group in self.groups.items() if group.rank}  # where another one comes first
        self.uncounted = {i for i, one in enumerate(self.cuts) if others - {one and one.group}}

    def own_share(self) -> tuple[FlatParameters, Module, list, dict]:
        trainer = self.trainer
        cuts = plan(trainer.model, *(group.size for group in self.groups.values()))
        self.cuts = [cuts.get(id(parameter)) for parameter in trainer.flat.parameters]
        model = cut(trainer.model, cuts, {name: group for name, group in self.groups.items() if group.size > 1})
        flat = FlatParameters(model.parameters())
        state = {name: array if name == "missed" else self._own(array) for name, array in self.saved.items()}
        return flat, model, flat.parameters, state

    def gradient(self, step: int, rank: int) -> tuple[float, int, dict]:
        loss, tokens, state = super().gradient(step, rank)
        experts = self.groups["experts"]
        for place, one in zip(self.flat.slices, self.cuts):
            if experts.size > 1 and (one is None or one.group != "experts"):
                experts.all_reduce(self.grad[place])
        return loss / self.groups["tensor"].size, tokens, state  # as many workers have the same one

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
            parts.append(array if one is None else array.take(one.parts[self.groups[one.group].rank], one.axis))
        return np.concatenate([part.reshape(-1) for part in parts])

    def _join(self, own, whole) -> None:
        """The opposite: fill in `whole`, at the leader. One parameter after the other, so that no rank needs room."""
        if self.comm.rank:
            return  # others have the same
        flat = self.trainer.flat
        for parameter, place, mine, one in zip(flat.parameters, flat.slices, self.flat.slices, self.cuts):
            if one is None:
                if self.world.rank == 0:
                    whole[place] = own[mine]
                continue
            group = self.groups[one.group]
            row = parameter.size // parameter.shape[one.axis]
            ends = np.cumsum([len(places) * row for places in one.parts]).tolist()
            parts = [slice(end - len(places) * row, end) for end, places in zip(ends, one.parts)]
            joined = np.empty(parameter.size, own.dtype)
            joined[parts[group.rank]] = own[mine]
            group.all_gather(joined, parts)
            for part, places in zip(parts, one.parts) if self.world.rank == 0 else ():
                array = whole[place].reshape(parameter.shape).swapaxes(0, one.axis)
                shape = list(parameter.shape)
                shape[one.axis] = len(places)
                array[places] = joined[part].reshape(shape).swapaxes(0, one.axis)
