"""All cores on one batch, in a loop of one's own: each takes a share of its rows, forward and backward.

    cores = DataParallel(gpt)
    cores.loss(batch).backward()
    optimizer.step()

One thread a core, each with a twin of the model: modules of its own around the same weights, so that the gradients of
two shares do not meet before they are added up. Threads share one Python interpreter, which costs small models more
than the processes of `train` (tinytensor/distributed.py), but they see what the loop does to its model at any time.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import ThreadpoolController

from nn.module import Module, Parameter
from tinytensor import Tensor, backend, no_grad, random
from tinytensor.distributed import core_count, share
from tinytensor.rows import Rows
from tinytensor.tensor import record, recording, retaining


class DataParallel:
    """loss(batch) is the model's, computed by `workers` threads (0: one per core), each on a share of the rows.

    Values and gradients are those of the model alone to rounding, with the same dropout from the same seed.
    """

    def __init__(self, model: Module, workers: int = 0):
        if workers < 0:
            raise ValueError(f"DataParallel takes a number of threads, not {workers}; 0 is one per core")
        if (device := model.parameters()[0].device) != "cpu":
            raise ValueError(f"DataParallel cuts a batch over the cores of a CPU, and this model is on {device!r}")
        backend.cpu.tune_malloc()
        self.model, self.workers = model, workers or core_count()
        self._threads = ThreadPoolExecutor(max(1, self.workers - 1))
        self._libraries = ThreadpoolController()

    def loss(self, batch: dict, counts: dict[str, int] | None = None) -> Tensor:
        """The model's loss of the batch, whose arrays all have a row for each of its sequences."""
        counts, count = counts or self.model.divisors(batch), len(batch["ids"])
        parts = [part for rank in range(self.workers) if (part := share(count, rank, self.workers)).start < part.stop]
        parameters, twins = self.model.parameters(), [twin(self.model, {}) for _ in parts]
        learned = [one.parameters() for one in twins]

        def forward(rank: int) -> Tensor:
            part = parts[rank]
            return twins[rank].loss({name: array[part] for name, array in batch.items()}, counts)

        losses = self._at_once(forward, parts, count)

        def backward(gradient) -> list:
            for rank, rest in enumerate(learned):  # the first share's gradients may lie where the model's own belong
                for own, other in zip(parameters, rest):
                    place = np.empty(own.shape, own.dtype) if rank and own.requires_grad else own.gradient_buffer()
                    other.grad, other.gradient_place = None, place
            retain = retaining()
            self._at_once(lambda rank: losses[rank].backward(gradient, retain), parts, count)
            self._at_once(lambda rank: add_up(learned, range(rank, len(parameters), len(parts))), parts, count)
            return [parameter.grad for parameter in learned[0]]

        total = sum((one.data for one in losses[1:]), losses[0].data)
        return record("data_parallel", total, parameters, backward)

    def _at_once(self, work: Callable[[int], object], parts: list[slice], count: int) -> list:
        """[work(rank) for each part], each in a thread of its own that draws what the whole batch would for its part.

        The first is this thread, so that its stream moves on as if it had done all.
        """
        state, recorded = copy.deepcopy(random.generator()), recording()

        def guarded(rank: int, stream):
            rows = Rows(stream, parts[rank].start, parts[rank].stop, count)
            with random.drawn_from(rows), contextlib.nullcontext() if recorded else no_grad():
                return work(rank)

        with self._libraries.limit(limits=1, user_api="blas"):
            others = [self._threads.submit(guarded, rank, copy.deepcopy(state)) for rank in range(1, len(parts))]
            try:
                first = guarded(0, random.generator())
            finally:
                rest = [other.exception() or other.result() for other in others]
        for one in rest:
            if isinstance(one, BaseException):
                raise one
        return [first, *rest]


def add_up(learned: list[list[Parameter]], numbers: range) -> None:
    """Leave the sum of all twins' gradients at the first twin, for the parameters of these numbers."""
    for number in numbers:
        first, *others = (parameters[number] for parameters in learned)
        for other in others:
            if other.grad is not None:
                first.accumulate(other.grad)


def twin(value, known: dict):
    """A module with modules and parameters of its own around the same arrays; anything else as it is.

    known: what was met already, by id, since parts may stand in several places.
    """
    if id(value) in known:
        return known[id(value)]
    if isinstance(value, Parameter):
        known[id(value)] = again = Parameter(value.data, value.requires_grad)
        again.mask = value.mask
        return again
    if isinstance(value, Module):
        known[id(value)] = again = copy.copy(value)
        vars(again).update({name: twin(part, known) for name, part in vars(value).items()})
        return again
    if isinstance(value, (list, dict)):  # and kinds of them, such as a stack's Blocks
        known[id(value)] = again = copy.copy(value)
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            again[name] = twin(part, known)
        return again
    if isinstance(value, tuple):
        parts = [twin(part, known) for part in value]
        return tuple(parts) if type(value) is tuple else type(value)(*parts)
    return value
