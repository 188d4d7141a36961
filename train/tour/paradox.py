"""The paradox of over-parameterization: to get a small model, train a large one (Li et al. 2020, arXiv:2002.11794).

Models of growing width are trained on the same text for equally many seconds. Then each is made as small as each of the
narrower ones: heads and neurons go until its file, with weights of a few bits, has no more bytes; what is left trains
on for a share of the seconds, and the narrow model, from which nothing goes, does so too. So all that is compared has
had the same time and takes the same room. What masks have to do with it the lottery's controls tell
(train/compression/lottery.py).
"""

import bisect
import copy
import dataclasses
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy

import tinytensor as tt
from nn import Module
from nn.compression import storage
from nn.compression.prune import prune, shrink
from nn.compression.quantize import quantize
from nn.compression.surgery import stacks
from train.compression.compare import Source
from train.compression.lottery import Unheard
from train.plots import draw_side_by_side
from train.tables import Markdown, markdown
from train.trainer import TrainConfig, Trainer, evaluate

ENDLESS = 10**8  # steps: the clock ends the training
NOTCHES = 64  # of how much may go


class Timed:
    """Trains a Trainer's model for so many seconds, without those of evaluations; the learning rate follows the clock.

    The leader's clock counts.   points: (seconds, held-out loss) after 25, 50, 100, ... steps.
    """

    def __init__(self, trainer: Trainer, seconds: float, limit: int):
        self.trainer, self.seconds, self.points = trainer, seconds, []
        self.keys = trainer.objective.evaluation_batches(trainer.val_data, limit)
        self.rates = dataclasses.replace(trainer.schedule, steps=1000, warmup=50)
        self.spent, self.since, self.ended = 0.0, None, False
        trainer.schedule, trainer.between = self.rate, self.look

    def rate(self, step: int) -> float:
        if self.since is None:  # a step begins
            self.since = time.monotonic()
        return self.rates(int(1000 * self.spent / self.seconds))

    def look(self, loop, step: int) -> None:
        """Between two steps, in every worker."""
        took = 0.0
        if loop.comm.rank == 0:
            took, self.since = time.monotonic() - self.since, None
        self.spent, took = loop.comm.broadcast(np.array([self.spent + took, took])).tolist()
        self.ended |= self.spent + took >= self.seconds  # a stop is heard in the step that follows
        self.trainer.stop_asked |= self.ended
        if not self.ended and step >= 25 and math.log2(step / 25).is_integer():
            own = self.keys[loop.comm.rank :: loop.comm.size]
            sums = evaluate(loop.model, self.trainer.objective, self.trainer.val_data, own)
            nats, count = loop.comm.all_reduce(np.array(sums, float)).tolist()
            if loop.comm.rank == 0:
                self.points.append((self.spent, nats / count))


@dataclass(frozen=True)
class Result:
    """What became of one model."""

    width: int
    parameters: int
    steps: int
    points: list[tuple[float, float]]  # (seconds, held-out loss) before anything went
    small: dict[int, tuple[int, float]]  # a narrower width, or its own, whose room it had to fit -> (bytes, loss)


@dataclass
class Experiment:
    """recovery: the share of the seconds for which what is left trains on, at a third of the rate."""

    source: Source
    config: TrainConfig
    widths: list[int]
    seconds: float
    recovery: float = 0.25
    bits: int = 4
    limit: int = 100

    def __post_init__(self):
        if self.source.fine_tuned or not stacks(self.source.model):
            raise ValueError(f"{self.source.folder} was fine-tuned or has no transformer blocks; name a pretrained one")
        models = {width: self.fresh(width, 0) for width in sorted(set(self.widths))}
        rooms = {width: self.file_size(model, 0) for width, model in models.items()}
        self.gone = {  # width -> a narrower width, or itself -> the notches that must go to fit that one's room
            width: {narrow: self.notches(model, room) for narrow, room in rooms.items() if narrow <= width}
            for width, model in models.items()
        }
        self.best: tuple[float, Module] = (math.inf, models[min(models)])  # (loss, model) of the smallest room

    def fresh(self, width: int, seed: int) -> Module:
        """A new model of the run's kind; an inner width that its config names grows with it."""
        config = self.source.model.config
        with tt.random.seeded(seed):
            inner = vars(config)["hidden"] * width // config.width
            return type(self.source.model)(dataclasses.replace(config, width=width, hidden=inner))

    def without(self, model: Module, notches: int, by: str, batches: list = ()) -> Module:
        for what in ("heads", "neurons") if notches else ():
            prune(model, notches / NOTCHES, what, by, batches=batches)
        return shrink(model)

    def file_size(self, model: Module, notches: int) -> int:
        """Bytes of a model from which so much has gone, with weights of a few bits."""
        return bytes_of(quantize(self.without(copy.deepcopy(model), notches, "magnitude"), self.bits))

    def notches(self, model: Module, room: int) -> int | None:
        """The least that must go for a model to fit; None if it can't. The size depends on nothing else."""
        least = bisect.bisect_left(range(NOTCHES), True, key=lambda notches: self.file_size(model, notches) <= room)
        return least if least < NOTCHES else None

    def results(self, seed: int) -> Iterator[Result]:
        rate, batches = self.config.lr / 3, self.source.batches(4)
        gently = dataclasses.replace(self.config, lr=rate, min_lr=min(self.config.min_lr, rate))
        for width, rooms in self.gone.items():
            model, small = self.fresh(width, seed), {}
            steps, points = self.train(model, seed, self.seconds, self.config)
            points.append((self.seconds, self.source.loss(model, self.limit)))
            for narrow, gone in rooms.items():
                if gone is not None:
                    left = self.without(copy.deepcopy(model), gone, "gradient", batches)
                    self.train(left, seed, self.recovery * self.seconds, gently)
                    quantize(left, self.bits)
                    loss = self.source.loss(left, self.limit)
                    small[narrow] = bytes_of(left), loss
                    if narrow == min(self.gone) and loss < self.best[0]:
                        self.best = loss, left
            yield Result(width, model.parameter_count(), steps, points, small)

    def train(self, model: Module, seed: int, seconds: float, config: TrainConfig) -> tuple[int, list]:
        """(steps done, points) of so many seconds."""
        config = dataclasses.replace(config, seed=seed, steps=ENDLESS, eval_every=ENDLESS, save_every=ENDLESS)
        with tempfile.TemporaryDirectory() as folder:
            data = self.source.train_data, self.source.val_data
            trainer = Trainer(model, self.source.make_objective(config), *data, config, Path(folder), Unheard())
            timed = Timed(trainer, seconds, min(10, self.limit))
            steps = trainer.train().step
            trainer.flat.keep_full_precision()
        if not timed.ended:
            raise ValueError(f"stopped after {timed.spent:.0f} of {seconds:g} seconds; nothing was compared")
        model.eval()
        return steps, timed.points


def bytes_of(model: Module) -> int:
    return len(safetensors.numpy.save(storage.state(model)))


def mean(values) -> tuple[float, float]:
    """(mean, standard error, which is 0 of one value)"""
    values = list(values)
    error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(np.mean(values)), float(error)


def shown(values) -> str:
    """Mean and standard error; of one value only that."""
    values = list(values)
    return " ± ".join(f"{x:.4f}" for x in mean(values)[: len(values)])


def by_width(results: list[Result]) -> dict[int, list[Result]]:
    return {width: [one for one in results if one.width == width] for width in sorted({one.width for one in results})}


def table(results: list[Result]) -> Markdown:
    """A line per width; a column for each room, that of the width that fills it."""
    groups = by_width(results)
    rooms = [f"in {groups[narrow][0].small[narrow][0]:,} bytes" for narrow in groups]
    lines = [("width", "parameters", "steps", "trained", *rooms)]
    for width, some in groups.items():
        first, last, steps = some[0], shown(one.points[-1][1] for one in some), mean(one.steps for one in some)[0]
        cells = [shown(one.small[narrow][1] for one in some) if narrow in first.small else "-" for narrow in groups]
        lines.append((str(width), f"{first.parameters:,}", f"{steps:,.0f}", last, *cells))
    return markdown(lines)


def draw(path: Path, results: list[Result], title: str) -> bool:
    """Loss against seconds, and against bytes."""
    seconds, sizes = {}, {}
    curve = lambda rows: [(mean(x for x, _ in row)[0], *mean(loss for _, loss in row)) for row in rows]
    for width, some in by_width(results).items():
        seconds[f"width {width}"] = curve([*zip(*(one.points[:-1] for one in some)), [one.points[-1] for one in some]])
        sizes[f"width {width}"] = curve([[one.small[narrow] for one in some] for narrow in some[0].small])
    both = [(seconds, "seconds of training"), (sizes, "bytes, after pruning and quantizing")]
    return draw_side_by_side(path, both, "held-out loss (nats)", title)
