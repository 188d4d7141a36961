"""More to see of a run on demand: events for TensorBoard, and the norm of each layer's gradient."""

import argparse
import functools
import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import numpy as np

from tinytensor import backend


class Events:
    """metrics.jsonl, each line's numbers also given to TensorBoard: tensorboard --logdir runs."""

    def __init__(self, run: Path, file: TextIO):
        self.run, self.file, self.flush, self.writer = run, file, file.flush, None

    def write(self, line: str) -> None:
        self.file.write(line)
        values = json.loads(line)
        step = values["step"]
        if self.writer is None:  # only now, as it starts a thread, and worker processes are forked before
            from tensorboardX import SummaryWriter

            self.writer = SummaryWriter(str(self.run), purge_step=step)  # a killed run's later events are forgotten
        for name, value in values.items():
            if name != "step" and isinstance(value, (int, float)):
                self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        self.file.close()
        if self.writer:
            self.writer.close()


def log_gradient_norms(loop, step: int) -> None:
    """Between two steps, in every worker: a line with the gradient's norm in each layer, before clipping."""
    if step % loop.config.log_every and step != loop.config.steps:
        return
    names = {id(parameter): layer_of(name) for name, parameter in loop.model.named_parameters()}
    layers = list(dict.fromkeys(names[id(parameter)] for parameter in loop.parameters))
    squares, own = np.zeros(len(layers)), loop.optimizer.part
    for number, (parameter, place) in enumerate(zip(loop.parameters, loop.flat.slices)):
        part = loop.grad[max(place.start, own.start) : min(place.stop, own.stop)]
        if part.size and number not in loop.uncounted:
            squares[layers.index(names[id(parameter)])] += float(backend.backend_of(part).squared_norm(part))
    squares = loop.world.all_reduce(squares)
    if loop.report:
        norms = {f"grad_norm/{name}": math.sqrt(x) / loop.scale for name, x in zip(layers, squares.tolist())}
        loop.report.write(step=step, **norms)


def layer_of(name: str) -> str:
    """blocks.0 of blocks.0.attention.qkv.weight: up to the first number; token_embedding of token_embedding.weight."""
    parts = name.split(".")
    last = next((place for place, part in enumerate(parts) if part.isdigit()), len(parts) - 2)
    return ".".join(parts[: last + 1]) or name


def begin(make: Callable, args: argparse.Namespace, *more):
    """What make(args, ...) makes, a trainer or what has one, which will tell what was asked for."""
    if args.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise ValueError("--tensorboard needs tensorboardX; in the checkout: pip install -e '.[tensorboard]'")
    made = make(args, *more)
    trainer = vars(made).get("trainer", made)
    if args.tensorboard:
        trainer.report.through = functools.partial(Events, trainer.run)
    if args.grad_norms:
        trainer.between = log_gradient_norms
    return made
