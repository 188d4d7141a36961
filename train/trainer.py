"""The training loop: batch, loss, gradient, update, over and over; now and then evaluate, and save.

Every worker runs `Loop` on its share of each batch (train/parallel.py); the leader, rank 0, also reports and saves.
All chance in a step comes from a stream seeded by (seed, step, worker), and the batch from (seed, step), so the state
of a run is its parameters, its optimizer's state and the number of steps done (and what a model like ELMo carries along
from batch to batch, row by row): a resumed run repeats, bit for bit, what it would have done without the interruption.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import tinytensor as tt
from models.config import check_choice, check_not_negative, check_positive, check_shares, option
from models.contract import StaticBatch
from nn import Module, evaluating
from tinytensor import backend
from train import checkpoint, parallel, precision
from train.optim import SGD, Adafactor, AdamW, Optimizer, clip_scale
from train.schedule import SHAPES, Schedule

COUNT = "count of "  # begins the names of counts among a recorded step's inputs
OPTIMIZERS = ("adamw", "sgd", "adafactor", "adafactor-relative")


@dataclass(frozen=True)
class TrainConfig:
    """How to train."""

    steps: int = option(2000, "updates to make in all")
    batch: int = option(12, "sequences in a batch")
    accumulate: int = option(1, "batches whose gradients are added up for one update")
    optimizer: str = option(
        "adamw", f"how to update: {', '.join(OPTIMIZERS)} (T5's: lr is then a share of each parameter's own size)"
    )
    lr: float = option(1e-3, "the highest learning rate")
    min_lr: float = option(1e-4, "the learning rate at the end (cosine and linear schedules)")
    warmup: int = option(100, "updates over which the learning rate rises")
    schedule: str = option("cosine", f"how it falls after that: {', '.join(SHAPES)}")
    beta1: float = option(0.9, "AdamW's memory for gradients")
    beta2: float = option(0.99, "AdamW's memory for squared gradients")
    eps: float = option(1e-8, "AdamW's guard against division by zero")
    momentum: float = option(0.9, "SGD's memory for gradients")
    weight_decay: float = option(0.1, "how strongly matrices are pulled towards zero")
    clip: float = option(1.0, "longest gradient; longer ones are scaled down (0: never)")
    eval_every: int = option(250, "updates between evaluations on the held-out part")
    eval_batches: int = option(40, "batches in each of those (the last one takes the whole held-out part)")
    save_every: int = option(250, "updates between checkpoints")
    log_every: int = option(10, "updates between lines in metrics.jsonl")
    seed: int = option(0, "of the first weights, the batches and dropout")
    workers: int = option(0, "threads or processes that share each batch (0: one per core)")
    worker_kind: str = option("auto", f"what they are: {', '.join(parallel.KINDS)} (auto takes the faster)")
    device: str = option("cpu", f"where the model computes: {', '.join(backend.DEVICES)}")
    dtype: str = option("float32", f"in what precision: {', '.join(precision.DTYPES)} (the narrow ones on a GPU)")
    graph: bool = option(False, "on a GPU: record a step once and repeat it as a whole, which helps small models")

    def __post_init__(self):
        check_positive(self, "steps", "batch", "accumulate", "eval_every", "eval_batches", "save_every", "log_every")
        check_not_negative(self, "workers", "seed", "warmup", "eps", "weight_decay", "clip")
        check_shares(self, "beta1", "beta2", "momentum")
        check_choice(self, "optimizer", OPTIMIZERS)
        parallel.choose_kind(self.worker_kind, self.workers)
        precision.check_device(self.device, self.dtype, self.workers)
        if self.graph and self.device != "cuda":
            raise ValueError("--graph records what a GPU does; add --device cuda, or leave it out")
        if self.graph and self.accumulate > 1:
            raise ValueError(f"--graph records one batch, not {self.accumulate} to an update; leave out --accumulate")
        self.learning_rates()

    def learning_rates(self) -> Schedule:
        return Schedule(self.lr, self.steps, self.warmup, self.min_lr, self.schedule)

    def make_optimizer(self, model: Module, allocate) -> Optimizer:
        parameters = model.parameters()
        common = dict(
            weight_decay=self.weight_decay, allocate=allocate, dtype=precision.compute_dtype(self.dtype)
        )
        if self.optimizer == "sgd":
            return SGD(parameters, self.lr, momentum=self.momentum, **common)
        if self.optimizer.startswith("adafactor"):
            return Adafactor(parameters, self.lr, relative=self.optimizer == "adafactor-relative", **common)
        return AdamW(parameters, self.lr, (self.beta1, self.beta2), self.eps, **common)


@dataclass
class Progress:
    """How far a run is; saved with each checkpoint."""

    step: int = 0
    best_loss: float = math.inf
    best_step: int = 0
    seconds: float = 0.0  # spent training, over all resumptions
    loss_scale: float = 2.0**15  # for float16, see train/precision.py


class Trainer:
    """Trains one model on one corpus and keeps its run folder up to date."""

    def __init__(self, model: Module, objective, train_data, val_data, config: TrainConfig, run: Path, report):
        """objective: what is learned from the data; see train/objectives for what the loop asks of it and of the model.
        report: see train/report.py; told of every logged step and evaluation.
        `between`, if set, is called by every worker after each update as between(loop, updates done).

        The model's parameters move into shared memory if the workers are processes.
        """
        if config.graph and not (getattr(model, "repeatable", False) and getattr(objective, "one_shape", False)):
            what = f"the steps of this {type(model).__name__} differ from batch to batch"
            raise ValueError(f"{what}, and --graph repeats a recorded one; leave it out")
        objective.check(train_data, "training")
        objective.check(val_data, "held-out")
        backend.cpu.tune_malloc()
        self.model, self.objective = model, objective
        self.train_data, self.val_data = train_data, val_data
        self.config, self.run, self.report = config, run, report
        self.schedule = config.learning_rates()
        if config.device == "cuda":
            model.to("cuda")
        self.workers = config.workers or (1 if config.device == "cuda" else min(parallel.core_count(), config.batch))
        self.kind = parallel.choose_kind(config.worker_kind, self.workers)
        allocate = parallel.shared_zeros if self.kind == "processes" else None
        self.optimizer = config.make_optimizer(model, allocate)
        flat = self.optimizer.flat
        self.gradients = [flat.grad, *(flat.allocate(flat.size) for _ in range(self.workers - 1))]
        self.carried = self._new_carried_state()
        self.progress = Progress()
        self.loss_scale = precision.LossScale(config.dtype)
        self.between: Callable[[Loop, int], None] | None = None
        self.stop_asked = False

    def _new_carried_state(self) -> dict:
        """What the model carries along from batch to batch, a row for each of a batch's: nothing, for most models."""
        state = self.model.new_state(self.config.batch) if hasattr(self.model, "new_state") else {}
        if self.kind == "processes":
            state = {name: parallel.shared_zeros(a.size, a.dtype).reshape(a.shape) for name, a in state.items()}
        return state

    def restore(self) -> None:
        """Go back to the run's last checkpoint."""
        parts, progress = checkpoint.load_trainer(self.run)
        self.progress = checkpoint.made_from(Progress, progress, self.run / checkpoint.TRAINER)
        with self.optimizer.flat.full_precision():
            checkpoint.load_weights(self.model, parts["model"], self.run / checkpoint.TRAINER)
        self.optimizer.load_state(parts["optimizer"], self.progress.step)
        for name, array in self.carried.items():
            saved = parts["carried"].get(name)
            if saved is None or saved.shape != array.shape:
                rows = "none" if saved is None else len(saved)
                raise ValueError(
                    f"the checkpoint carries the state of {rows} rows; go on with that --batch, not {len(array)}"
                )
            array[...] = backend.array_module(array).asarray(saved)
        self.loss_scale = precision.LossScale(self.config.dtype, self.progress.loss_scale)

    def save(self) -> None:
        """Write a checkpoint."""
        self.progress.loss_scale = self.loss_scale.value
        parts = {"optimizer": self.optimizer.state(), "carried": self.carried}
        with self.optimizer.flat.full_precision():
            checkpoint.save_trainer(self.run, self.model, parts, asdict(self.progress))
            checkpoint.save_weights(self.run, self.model)

    def train(self) -> Progress:
        """Train up to config.steps, or until SIGINT (Ctrl-C) or SIGTERM; either way the last step is saved."""
        self.model.train()  # now, not while worker threads copy the model: a new attribute would upset the copying
        with self._stopping_on_signals(), precision.explaining_lack_of_memory():
            try:
                parallel.run(self.kind, self.workers, self.gradients, lambda team: Loop(self, team).run())
            except parallel.WorkerDied as error:
                saved = (self.run / checkpoint.TRAINER).exists()
                then = f"go on from the last checkpoint with --resume {self.run}" if saved else "nothing was saved yet"
                raise parallel.WorkerDied(f"{error}; {then}") from None
        return self.progress

    @contextmanager
    def _stopping_on_signals(self):
        """The first signal asks for a stop after the current step; a second one interrupts at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number, frame):
            if self.stop_asked:
                raise KeyboardInterrupt
            self.stop_asked = True

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class Loop:
    """What one worker does."""

    def __init__(self, trainer: Trainer, team: parallel.Team):
        self.trainer, self.team, self.config = trainer, team, trainer.config
        self.flat = trainer.optimizer.flat
        self.model, self.parameters = team.replica(trainer.model, self.flat.parameters)
        self.grad = team.gradients[team.rank]
        self.flat.collect_gradients_in(self.grad, self.parameters)
        self.report = trainer.report if team.rank == 0 else None
        self.state: dict = {}
        self.recorded = None  # the step from a batch to its gradient, as a CUDA graph
        if self.config.graph:
            from tinytensor.backend.gpu.graph import Recorded

            self.recorded = Recorded(self._whole_gradient)

    def run(self) -> None:
        trainer, config, progress = self.trainer, self.config, self.trainer.progress
        started, losses, tokens, since = time.monotonic(), [], 0, time.monotonic()
        before = progress.seconds
        saved = step = progress.step
        self.model.train()
        np.seterr(over="ignore", invalid="ignore", divide="ignore")  # a loss or gradient that is not finite is caught
        while step < config.steps:
            lr = trainer.schedule(step)
            loss, norm, seen, stop = self.step(step, lr)
            step += 1
            if trainer.between:
                trainer.between(self, step)
            if self.report:
                progress.step, progress.seconds = step, before + time.monotonic() - started
                losses.append(loss)
                tokens += seen
                self.report.advanced(step, loss)
                if step % config.log_every == 0 or step == config.steps:
                    rate = tokens / max(1e-9, time.monotonic() - since)
                    peak = precision.peak_bytes(config.device, self.recorded)
                    self.report.logged(step, sum(losses) / len(losses), lr, norm, rate, peak)
                    losses, tokens, since = [], 0, time.monotonic()
            if step % config.eval_every == 0 or step == config.steps:
                pause = time.monotonic()
                whole = step == config.steps
                val_loss = self._evaluate(None if whole else config.eval_batches)
                if self.report:
                    self.report.evaluated(step, val_loss)
                    if val_loss < progress.best_loss:
                        progress.best_loss, progress.best_step = val_loss, step
                        with self.flat.full_precision():
                            checkpoint.save_weights(trainer.run, trainer.model, "best")
                since += time.monotonic() - pause
            if stop:
                break
            if self.report and step % config.save_every == 0:
                trainer.save()
                saved = step
        if self.report and step > saved:
            trainer.save()

    def step(self, step: int, lr: float) -> tuple[float, float, int, bool]:
        """One update. Returns (loss, gradient norm before clipping, tokens seen, whether to stop after it)."""
        trainer, team, config, optimizer = self.trainer, self.team, self.config, self.trainer.optimizer
        loss, seen, rows, state = self._gradients(step, team.rank)
        loss, stop = team.sum(loss, float(trainer.stop_asked))
        place = team.stretch(self.flat.size)
        squared = parallel.sum_gradients(team.gradients, self.grad, place)
        scale = trainer.loss_scale.value
        norm = math.sqrt(team.sum(squared)[0]) / scale
        optimizer.steps = step + 1
        if math.isfinite(loss) and math.isfinite(norm):
            optimizer.update(place.start, place.stop, self.grad, lr, clip_scale(norm, config.clip) / scale)
            trainer.loss_scale.succeeded()
        elif not math.isfinite(loss) or not trainer.loss_scale.overflowed():
            self._give_up(step, lr, loss, norm)
        for name, array in state.items():  # only now: a step that was given up has carried nothing on
            trainer.carried[name][rows] = array
        team.barrier()
        return loss, norm, seen, stop > 0

    def _gradients(self, step: int, rank: int) -> tuple[float, int, slice, dict]:
        """Leave the gradients of a worker's share in self.grad.

        Returns (its part of the loss, all tokens read, its rows, the state to carry on for them). The model finds that
        state beside the batch, and overwrites it.
        """
        config, objective = self.config, self.trainer.objective
        loss, seen = 0.0, 0
        own = parallel.share(config.batch, rank, self.team.size)
        state = self._state_of(own)
        self._forget_gradients()
        for number in range(step * config.accumulate, (step + 1) * config.accumulate):
            batch = objective.training_batch(self.trainer.train_data, number)
            rows, T = batch["ids"].shape[:2]
            seen += rows * T
            place = parallel.share(rows, rank, self.team.size)
            if place.start == place.stop:
                continue
            mine = {name: array[place] for name, array in batch.items()}
            scale = np.asarray(self.trainer.loss_scale.value / config.accumulate, np.float32)
            with tt.random.seeded(config.seed, number, rank + 1) as rng:
                if self.recorded:  # what changes from step to step goes in as one dict of arrays
                    counts = {COUNT + part: np.asarray(n, np.float32) for part, n in self.model.counts(batch).items()}
                    inputs = mine | {"loss_scale": scale} | counts
                    return float(self.recorded(inputs, rng)), seen, own, state
                loss += float(self._add_gradient(mine | state, self.model.counts(batch), scale)) / config.accumulate
        self.flat.complete_gradients(self.parameters)
        return loss, seen, own, state

    def _state_of(self, rows: slice) -> dict:
        """A copy of what is carried along for these rows; for a CUDA graph always in the same place."""
        carried = {name: array[rows] for name, array in self.trainer.carried.items()}
        if not (self.recorded and self.state):
            self.state = {name: array.copy() for name, array in carried.items()}
            return self.state
        for name, array in carried.items():
            self.state[name][...] = array
        return self.state

    def _forget_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    def _add_gradient(self, batch: dict, counts: dict, scale: np.ndarray):
        """Add the gradient of a batch's loss, times `scale`, to what there is; returns the loss, an array."""
        value = self.model.loss(batch, counts)
        value.backward(scale)
        return value.data

    def _whole_gradient(self, inputs: dict):
        """The same from the beginning to the end of a step: what a CUDA graph repeats."""
        counts = {name.removeprefix(COUNT): n for name, n in inputs.items() if name.startswith(COUNT)}
        scale = inputs["loss_scale"]
        batch = {name: array for name, array in inputs.items() if name != "loss_scale" and not name.startswith(COUNT)}
        batch = StaticBatch({name: backend.to_device(array, "cuda") for name, array in batch.items()} | self.state)
        self._forget_gradients()
        loss = self._add_gradient(batch, counts, scale)
        self.flat.complete_gradients(self.parameters)
        return loss

    def _give_up(self, step: int, lr: float, loss: float, norm: float) -> None:
        """Save what was learned before this step, find the op that went wrong, and end the run."""
        if not self.report:
            self.team.barrier()  # wait for the leader, whose error ends the others
        if step:
            self.trainer.save()
        self.recorded = None
        what = f"the loss became {loss}" if not math.isfinite(loss) else f"the gradient's norm became {norm}"
        try:  # the parameters are still those before the step: go through it again, looking at every op
            with tt.detect_anomaly():
                for rank in range(self.team.size):
                    self._gradients(step, rank)
        except FloatingPointError as error:
            what += f" ({error})"
        raise ValueError(
            f"{what} at step {step + 1}, learning rate {lr:.3g}; the weights before that step are saved in "
            f"{self.trainer.run}; try a lower --lr or a longer --warmup"
        )

    def _evaluate(self, limit: int | None) -> float:
        """The mean loss per token over the held-out part, each worker taking every size-th batch."""
        objective, data = self.trainer.objective, self.trainer.val_data
        keys = objective.evaluation_batches(data, limit)
        nats, count = evaluate(self.model, objective, data, keys[self.team.rank :: self.team.size])
        nats, count = self.team.sum(nats, count)
        if not count:
            raise ValueError("the held-out part has nothing to predict; give more of it")
        return nats / count


def evaluate(model: Module, objective, data, keys: list) -> tuple[float, int]:
    """(sum of the losses in nats, number of predictions) over some batches, without dropout and without a graph.

    Where a loss has several parts, a batch counts by the predictions of its main part.
    """
    nats, count = 0.0, 0
    with evaluating(model), tt.no_grad():
        for key in keys:
            batch = objective.evaluation_batch(data, key)
            counts = model.counts(batch)
            n = next(iter(counts.values()))
            nats += model.loss(batch, counts).item() * n
            count += n
    return nats, count


def evaluate_on_all_cores(
    model: Module, objective, data, keys: list, workers: int = 0, of=evaluate
) -> tuple[float, int]:
    """evaluate, or another function `of` its kind, by `workers` that share the batches (0: one a core)."""
    work = lambda team: team.sum(*of(model, objective, data, keys[team.rank :: team.size]))
    workers = min(workers or parallel.core_count(), len(keys)) if model.parameters()[0].device == "cpu" else 1
    return parallel.run(parallel.choose_kind("auto", workers), workers, [], work)
