"""The training loop: batch, loss, gradient, update, over and over; now and then evaluate, and save.

Every worker, a thread or a forked process, runs `Loop` on its share of each batch and meets the others in collectives
(tinytensor/distributed.py); the leader, rank 0, also reports and saves. All chance in a step comes from a stream seeded
by (seed, step, worker), and the batch from (seed, step), so the state of a run is its parameters, its optimizer's state
and the number of steps done (and what a model like ELMo carries along from batch to batch, row by row): a resumed run
repeats, bit for bit, what it would have done without the interruption.
"""

import copy
import math
import os
import signal
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

import tinytensor as tt
from models.config import option
from models.schema import Count, Few, NotNegative, Positive, Range, Share, Size, Whole, check_fields
from nn import Module, evaluating
from tinytensor import backend
from tinytensor.distributed import Communicator, core_count, share
from tinytensor.processes import WorkerDied
from tinytensor.workers import KINDS, STARTED, choose_kind, of_a_training
from train import ahead, anomaly, checkpoint, precision
from train.adafactor import Adafactor
from train.optim import SHAPES, AdamW, FlatParameters, Optimizer, Schedule, clip_scale
from train.report import bar
from train.sgd import SGD

OPTIMIZERS = ("adamw", "sgd", "adafactor", "adafactor-relative")
DTYPES = ("float32", "bfloat16", "float16")
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, a system that shuts down, a terminal that is closed


@dataclass(frozen=True)
class TrainConfig:
    """How to train."""

    steps: Count = option(2000, "updates to make in all")
    batch: Count = option(12, "sequences in a batch")
    accumulate: Few = option(1, "batches whose gradients are added up for one update")
    optimizer: Literal[*OPTIMIZERS] = option("adamw", f"how to update: {', '.join(OPTIMIZERS)} "
                            "(T5's: lr is then a share of each parameter's own size)")  # fmt: skip
    lr: NotNegative = option(1e-3, "the highest learning rate")
    min_lr: NotNegative = option(1e-4, "the learning rate at the end (cosine, linear and polynomial schedules)")
    warmup: Whole = option(100, "updates over which the learning rate rises")
    schedule: Literal[*SHAPES] = option("cosine", f"how it falls after that: {', '.join(SHAPES)}")
    power: NotNegative = option(1.0, "of the polynomial schedule: 1 is a straight line, 2 falls fast at first")
    cycles: Few = option(1, "how often the schedule falls, each time from the highest rate again")
    beta1: Share = option(0.9, "AdamW's memory for gradients")
    beta2: Share = option(0.99, "AdamW's memory for squared gradients")
    eps: NotNegative = option(1e-8, "AdamW's guard against division by zero")
    momentum: Share = option(0.9, "SGD's memory for gradients")
    weight_decay: NotNegative = option(0.1, "how strongly matrices are pulled towards zero")
    clip: NotNegative = option(1.0, "longest gradient; longer ones are scaled down (0: never)")
    eval_every: Count = option(250, "updates between evaluations on the held-out part")
    eval_batches: Count = option(40, "batches in each of those (the last one takes the whole held-out part)")
    save_every: Count = option(250, "updates between checkpoints")
    log_every: Count = option(10, "updates between lines in metrics.jsonl")
    seed: Size = option(0, "of the first weights, the batches and dropout")
    workers: Annotated[int, Range(0, 1024)] = option(0, "threads or processes that share each batch (0: one per core)")
    worker_kind: Literal[*KINDS] = option("auto", f"what they are: {', '.join(KINDS)} (auto takes the faster)")
    tensor: Few = option(1, "workers that one model is cut over, each with its part of every large matrix")
    experts_over: Few = option(1, "workers that the experts of a model live on, each with an equal share of them")
    device: Literal[*backend.DEVICES] = option("cpu", f"where the model computes: {', '.join(backend.DEVICES)}")
    dtype: Literal[*DTYPES] = option("float32", f"in what precision: {', '.join(DTYPES)} (the narrow ones on a GPU)")
    graph: bool = option(False, "on a GPU: record a step once and repeat it as a whole, which helps small models")

    def __post_init__(self):
        check_fields(self)
        if self.worker_kind != "auto":
            choose_kind(self.worker_kind, self.workers)
        if self.workers % self.cuts:
            raise ValueError(f"workers {self.workers} must be a multiple of the {self.cuts} that share a model's parts")
        if self.device == "cpu" and (narrow := self.dtype) != "float32":
            raise ValueError(f"dtype {narrow} is slower than float32 on a CPU; leave out --dtype, or add --device cuda")
        if self.device == "cuda" and self.workers > 1:
            raise ValueError(f"one worker drives the GPU, not {self.workers}; leave it out, or take --ranks")
        if self.graph and self.device != "cuda":
            raise ValueError("--graph records what a GPU does; add --device cuda, or leave it out")
        if self.graph and self.accumulate > 1:
            raise ValueError(f"--graph records one batch, not {self.accumulate} to an update; leave out --accumulate")
        self.learning_rates()

    @property
    def cuts(self) -> int:
        """How many workers share the parts of one model (train/cut.py)."""
        return self.tensor * self.experts_over

    def learning_rates(self) -> Schedule:
        return Schedule(self.lr, self.steps, self.warmup, self.min_lr, self.schedule, self.power, self.cycles)

    def make_optimizer(self, flat: FlatParameters, rank: int = 0, size: int = 1) -> Optimizer:
        """That of one worker, which updates its part of the parameters."""
        common = dict(weight_decay=self.weight_decay, rank=rank, size=size)
        if self.optimizer == "sgd":
            return SGD(flat, self.lr, momentum=self.momentum, **common)
        if self.optimizer.startswith("adafactor"):
            return Adafactor(flat, self.lr, relative=self.optimizer == "adafactor-relative", **common)
        return AdamW(flat, self.lr, (self.beta1, self.beta2), self.eps, **common)


@dataclass
class Progress:
    """How far a run is; saved with each checkpoint."""

    step: Whole = 0
    best_loss: Annotated[float, Range(high=math.inf)] = math.inf
    best_step: Whole = 0
    seconds: NotNegative = 0.0  # spent training, over all resumptions
    loss_scale: Positive = 2.0**15  # for float16, see train/precision.py


class Trainer:
    """Trains one model on one corpus and keeps its run folder up to date."""

    cuts = False  # whether its workers may have parts of the model, see train/cut.py

    def __init__(self, model: Module, objective, train_data, val_data, config: TrainConfig, run: Path, report):
        """objective: what is learned from the data; see train/objectives for what the loop asks of it and of the model.
        report: see train/report.py; told of every logged step and evaluation.
        `between`, if set, is called by every worker after each update as between(loop, updates done).
        `whole`: set it to False where the last evaluation shall take no more batches than the others.
        `folder`: that of the run, where others must be kept out of it.   `usable`: whether the weights of the last and
        the best checkpoint are to be had as a model.   `extra`: arrays of `between` that checkpoints hold as well.

        The model's parameters move into shared memory if the workers are processes.
        """
        if config.graph and not (model.repeatable and objective.one_shape):
            what = f"the steps of this {type(model).__name__} differ from batch to batch"
            raise ValueError(f"{what}, and --graph repeats a recorded one; leave it out")
        if config.cuts > 1 and not self.cuts:
            raise ValueError("--tensor and --experts-over are for pretraining and finetune; leave them out")
        objective.check(train_data, "training")
        objective.check(val_data, "held-out")
        backend.cpu.tune_malloc()
        self.model, self.objective, self.train_data, self.val_data = model, objective, train_data, val_data
        self.config, self.run, self.report, self.schedule = config, run, report, config.learning_rates()
        workers = config.workers or (1 if config.device == "cuda" else min(core_count(), config.batch))
        alone = workers == 1 and STARTED not in os.environ
        self.comm = comm = Communicator() if alone else of_a_training(config.worker_kind, workers, config.device)
        self.workers, self.kind = comm.size, comm.kind
        allocate, dtype, self.loss_scale = (comm.shared if self.workers > 1 else None), None, None
        if config.device == "cuda":
            dtype = precision.to_gpu(model, config.dtype)
            self.loss_scale = precision.LossScale() if config.dtype == "float16" else None
        self.flat = FlatParameters(model.parameters(), dtype, allocate)
        self.carried = model.new_state(config.batch)  # from batch to batch, a row for each of a batch's
        if self.workers > 1:
            self.carried = {name: comm.shared(a.size, a.dtype).reshape(a.shape) for name, a in self.carried.items()}
        self.optimizer_state: dict = {}  # of a checkpoint, until the workers have taken their parts
        self.progress, self.stop_asked = Progress(), False
        self.between, self.whole, self.usable, self.folder, self.extra = None, True, True, None, {}

    def __getstate__(self) -> dict:  # what ranks elsewhere get: only the leader reports and writes
        return vars(self) | {"report": None, "folder": None}

    def save_best(self) -> None:
        """Keep the weights as they are now, those of the lowest loss."""
        if self.usable:
            if self.folder:
                self.folder.check()
            with self.flat.full_precision():
                checkpoint.save_weights(self.run, self.model, "best")

    def save(self, optimizer_state: dict) -> None:
        """Write a checkpoint."""
        if self.loss_scale:
            self.progress.loss_scale = self.loss_scale.value
        parts = {"optimizer": optimizer_state, "carried": self.carried, "extra": self.extra}
        if self.folder:
            self.folder.check()
        with self.flat.full_precision():
            checkpoint.save(self.run, self.model, parts, asdict(self.progress), self.usable)
        if self.folder:
            self.run = self.folder.appear()
            self.report.path = self.run / self.report.path.name

    def train(self) -> Progress:
        """Train up to config.steps, or until a signal of STOPS; either way the last step is saved."""
        self.model.train()  # now, not while worker threads copy the model: a new attribute would upset the copying
        caught = STOPS if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.signal(number, self._ask_to_stop) for number in caught}
        if before.get(signal.SIGHUP) is signal.SIG_IGN:  # nohup
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            self.comm.run(self.work)
        except WorkerDied as error:
            saved = (self.run / checkpoint.TRAINER).exists()
            then = f"go on from the last checkpoint with --resume {self.run}" if saved else "nothing was saved yet"
            raise WorkerDied(f"{error}; {then}") from None
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return self.progress

    def work(self, comm: Communicator) -> None:
        """What each worker does."""
        Loop(self, comm).train()

    def _ask_to_stop(self, number, frame) -> None:
        """The first signal asks for a stop after the current step; a second one interrupts at once."""
        if self.stop_asked:
            raise KeyboardInterrupt
        self.stop_asked = True


class Loop:
    """What one worker does.

    After a step grad[optimizer.part] is the gradient summed over all workers, times `scale`; `between` may read it.
    comm: the workers that have the same parameters, world: all.   uncounted: numbers of those that others count.
    reader, readers: which of how many shares of a batch this worker has.   read: makes a number of a loss.
    """

    read = float

    def __init__(self, trainer: Trainer, comm: Communicator):
        self.trainer, self.comm, self.world, self.config, self.uncounted = trainer, comm, comm, trainer.config, set()
        self.reader, self.readers = comm.rank, comm.size
        self.flat, self.model, self.parameters, optimizer_state = self.own_share()
        self.grad = self.flat.grad if comm.size == 1 else comm.zeros(self.flat.size, self.flat.grad.dtype)
        self.flat.collect_gradients_in(self.grad, self.parameters)
        self.optimizer = self.config.make_optimizer(self.flat, comm.rank, comm.size)
        if optimizer_state:
            self.optimizer.load_state(optimizer_state, trainer.progress.step)
        comm.broadcast(self.flat.data)  # all begin with the same parameters
        trainer.optimizer_state = {}
        self.report = trainer.report if comm.rank == 0 else None
        self.losses, self.tokens, self.since = [], 0, time.monotonic()  # since the last line in metrics.jsonl
        step = (self._add_gradient, self.flat, self.parameters)
        self.recorded = precision.RecordedGradient(*step) if self.config.graph else None

    def own_share(self) -> tuple[FlatParameters, Module, list, dict]:
        """(parameters, model, its parameters, the optimizer's saved state) that this worker computes with."""
        flat, model = self.trainer.flat, self.trainer.model
        own = replica(model, flat.parameters) if self.comm.rank else (model, flat.parameters)
        return flat, *own, self.trainer.optimizer_state

    def train(self) -> None:
        """Step after step, with evaluations and checkpoints in between."""
        trainer, config, progress = self.trainer, self.config, self.trainer.progress
        step, stop, started = progress.step, False, time.monotonic() - progress.seconds
        make_step = ahead.step_of(self) if config.device == "cuda" else self.step
        self.model.train()
        np.seterr(over="ignore", invalid="ignore", divide="ignore")  # a loss or gradient that is not finite is caught
        while step < config.steps and not stop:
            lr = trainer.schedule(step)
            loss, norm, tokens, stop = make_step(step, lr)
            step += 1
            if trainer.between:
                trainer.between(self, step)
            if self.report:
                progress.step, progress.seconds = step, time.monotonic() - started
                self._log(step, loss, lr, norm, tokens)
            if step % config.eval_every == 0 or step == config.steps:
                self._evaluate(step)
            if step % config.save_every == 0 or step == config.steps or stop:
                self.save()

    def step(self, step: int, lr: float) -> tuple[float, float, int, bool]:
        """One update. Returns (loss, gradient norm before clipping, tokens seen, whether to stop after it)."""
        trainer, comm, optimizer, self.scale = self.trainer, self.comm, self.optimizer, self._loss_scale()
        # Batch, loss, backward: the gradient of this worker's share of the rows is in self.grad.
        loss, tokens, state = self.gradient(step, self.reader)
        arrived = [parameter.grad is not None for parameter in self.parameters]
        # Reduce: `own`, this worker's part of self.grad, becomes the sum over all workers.
        own = comm.reduce_scatter(self.grad, optimizer.parts)
        told = np.array([loss, self.squared(own), trainer.stop_asked, *arrived], float)
        loss, squared, stop, *arrived = self.world.all_reduce(told).tolist()  # a parameter moves if any had a gradient
        # Clip, update this worker's part of the parameters.
        norm = math.sqrt(squared) / self.scale
        optimizer.steps = step + 1
        if math.isfinite(loss) and math.isfinite(norm):
            optimizer.update(self.grad, lr, clip_scale(norm, self.config.clip) / self.scale, [n > 0 for n in arrived])
            if trainer.loss_scale:
                trainer.loss_scale.succeeded()
        elif not (math.isfinite(loss) and trainer.loss_scale and trainer.loss_scale.overflowed()):
            anomaly.give_up(self, step, lr, loss, norm)
        else:
            optimizer.update(self.grad, lr, arrived=[False] * len(arrived))  # a step that nothing takes part in
        for name, array in state.items():  # only now: a step that was given up has carried nothing on
            trainer.carried[name][share(self.config.batch, self.reader, self.readers)] = array
        # Gather: all workers get all parts.
        comm.all_gather(self.flat.data, optimizer.parts)
        if self.flat.rounded and comm.size > 1:
            self.flat.rounded.data[...] = self.flat.data
        return loss, norm, tokens, stop > 0

    def squared(self, own) -> float:
        """The squared norm of this worker's part of the gradient."""
        return float(backend.backend_of(own).squared_norm(own))

    def gradient(self, step: int, rank: int) -> tuple[float, int, dict]:
        """Leave the gradient of a worker's share of the step's batches in self.grad, times the loss scale.

        Returns (its part of the loss, all tokens read, the state to carry on in its rows).
        """
        config, objective, loss, tokens = self.config, self.trainer.objective, 0.0, 0
        part = share(config.batch, rank, self.readers)
        state = {name: array[part].copy() for name, array in self.trainer.carried.items()}
        for parameter in self.parameters:
            parameter.grad = None
        numbers = range(step * config.accumulate, (step + 1) * config.accumulate)
        batches = [objective.training_batch(self.trainer.train_data, number) for number in numbers]
        counts, scale = self.model.divisors(*batches), np.asarray(self._loss_scale(), np.float32)
        for number, batch in zip(numbers, batches):
            rows, T = batch["ids"].shape[:2]
            tokens += rows * T
            own = share(rows, rank, self.readers)
            if own.start < own.stop:
                mine = {name: array[own] for name, array in batch.items()}
                with tt.random.seeded(config.seed, number, rank + 1):
                    loss += self.read((self.recorded or self._add_gradient)(mine, state, counts, scale))
        self.flat.complete_gradients(self.parameters)
        return loss, tokens, state

    def _add_gradient(self, batch: dict, state: dict, counts: dict, scale: np.ndarray):
        """Add the gradient of a batch's loss, times `scale`, to what there is; returns the loss, an array.

        state: what the model finds beside the batch, and overwrites with what it carries on.
        """
        batch.update(state)
        value = self.model.loss(batch, counts)
        value.backward(scale)
        return value.data

    def _loss_scale(self) -> float:
        return self.trainer.loss_scale.value if self.trainer.loss_scale else 1.0

    def _log(self, step: int, loss: float, lr: float, norm: float, tokens: int) -> None:
        """Tell the report of a step."""
        self.losses.append(loss)
        self.tokens += tokens
        self.report.advanced(step, loss)
        if step % self.config.log_every == 0 or step == self.config.steps:
            on_gpu, recorded = self.config.device == "cuda", self.recorded and self.recorded.recorded
            peak = precision.peak_bytes(recorded) if on_gpu else None
            rate = self.tokens / max(1e-9, time.monotonic() - self.since)
            self.report.logged(step, sum(map(float, self.losses)) / len(self.losses), lr, norm, rate, peak)
            self.losses, self.tokens, self.since = [], 0, time.monotonic()

    def _evaluate(self, step: int) -> None:
        """The mean loss per token over the held-out part, each worker taking every size-th batch; the best is kept."""
        trainer, progress, pause = self.trainer, self.trainer.progress, time.monotonic()
        limit = None if trainer.whole and step == self.config.steps else self.config.eval_batches
        keys = trainer.objective.evaluation_batches(trainer.val_data, limit)
        keys = bar(keys[self.comm.rank :: self.comm.size], "evaluating", hidden=self.report is None)
        own = evaluate(self.model, trainer.objective, trainer.val_data, keys)
        nats, count = self.world.all_reduce(np.array(own, float)).tolist()
        if not count:
            raise ValueError("the held-out part has nothing to predict; give more of it")
        if self.report:
            self.report.evaluated(step, nats / count)
            if nats / count < progress.best_loss:
                progress.best_loss, progress.best_step = nats / count, step
                trainer.save_best()
        self.since += time.monotonic() - pause

    def save(self) -> None:
        """The leader writes a checkpoint of what all workers have."""
        state = self.optimizer.whole_state(self.comm)
        for array in self.trainer.carried.values():
            self.comm.all_gather(array)
        if self.comm.rank == 0:
            self.trainer.save(state)


def replica(model: Module, parameters: list) -> tuple[Module, list]:
    """Copies for another worker: with the same values, in the same memory, but gradients of their own."""
    arrays = [p.data for p in model.parameters()] + [p.gradient_place for p in parameters]
    same = {id(array): array for array in arrays}
    return copy.deepcopy((model, parameters), same)


def evaluate(model: Module, objective, data, keys: list) -> tuple[float, int]:
    """(sum of the losses in nats, number of predictions) over some batches, without dropout and without a graph.

    Where a loss has several parts, a batch counts by the predictions of its main part.
    """
    nats, count = 0.0, 0
    with evaluating(model), tt.no_grad():
        for key in keys:
            batch = objective.evaluation_batch(data, key)
            n = next(iter(model.counts(batch).values()))
            nats += model.loss(batch).item() * n
            count += n
    return nats, count
