"""What `train scale` reckons of this machine's own ranks, beside what a step of theirs takes.

    python -m benchmarks.paper --shape baby

Two forked processes are the GPUs of a box. What they are is measured first: how fast one of them trains two models of
other widths alone (from which flops and knee follow), how long a sum over both takes for a short and a long array
(latency and bandwidth), and how fast AdamW passes over memory. Then each cut's step is predicted, and timed in turns.
Nothing is fitted to the steps that are predicted. Run it on a machine that has nothing else to do.
"""

import argparse
import dataclasses
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.train_step import SHAPES, make_objective, random_tokens
from models import GPT, GPTConfig
from tinytensor.distributed import Communicator
from train.cut import CutLoop, CutTrainer
from train.optim import AdamW, FlatParameters
from train.tables import markdown
from train.tour import scale
from train.tour.scale import Bytes, Cut, Machine, Model
from train.trainer import Loop, TrainConfig, Trainer

FLOAT32 = Bytes(4, 4, 8, 4)


def trainer_of(config: GPTConfig, batch: int, workers: int, tensor: int = 1) -> tuple[Trainer, type[Loop]]:
    make, loop = (CutTrainer, CutLoop) if tensor > 1 else (Trainer, Loop)
    how = TrainConfig(batch=batch, workers=workers, tensor=tensor, worker_kind="processes")
    tokens, where = random_tokens(config), (Path(tempfile.gettempdir()), None)
    return make(GPT(config), make_objective(config, batch), tokens, tokens, how, *where), loop


def seconds(trainer: Trainer, loop: type[Loop], steps: int) -> float:
    """The median of a few steps, after one to warm up."""

    def work(comm: Communicator) -> float:
        mine, times = loop(trainer, comm), []
        mine.model.train()
        for step in range(steps + 1):
            comm.barrier()
            start = time.perf_counter()
            mine.step(step, 1e-3)
            times.append(time.perf_counter() - start)
        return statistics.median(times[1:])

    return trainer.comm.run(work)


def machine_of(ranks: int, config: GPTConfig, batch: int) -> Machine:
    """What a rank is, and what lies between two."""
    stream = stream_of()
    rates = []
    for width in (config.width // 2, 2 * config.width):
        other = dataclasses.replace(config, width=width, heads=width // 64, layers=2)
        took = seconds(*trainer_of(other, batch // ranks, 1), 3)
        model = Model(other, batch // ranks)
        took -= sum(scale.parameters(model, Cut())) * (4 + 4 + 2 * 8) / stream
        rates.append((width, model.flops(False) / took))
    (a, slow), (b, fast) = rates  # rate = flops * width / (width + knee)
    knee = (fast - slow) / (slow / a - fast / b)
    flops = slow * (a + knee) / a
    latency, bandwidth = between(ranks)
    return Machine(flops, knee, 1e12, bandwidth, bandwidth, latency, ranks, stream)


def stream_of(numbers: int = 8_000_000) -> float:
    """Bytes a second of AdamW, counted as `scale` does: weight and gradient once, its state read and written."""
    from nn.module import Parameter

    flat = FlatParameters([Parameter(np.zeros(numbers, np.float32))])
    optimizer, times = AdamW(flat.parameters), []
    flat.parameters[0].grad = np.ones(numbers, np.float32)
    for _ in range(5):
        start = time.perf_counter()
        optimizer.step()
        times.append(time.perf_counter() - start)
    return numbers * 24 / statistics.median(times)


def between(ranks: int) -> tuple[float, float]:
    """(seconds a hop, bytes a second) of an all-reduce, as a ring's, over processes that share memory."""
    from tinytensor.processes import Processes

    def work(comm: Communicator) -> list[float]:
        found = []
        for numbers in (16, 1 << 20):
            array, times = np.ones(numbers, np.float32), []
            for _ in range(30):
                comm.barrier()
                start = time.perf_counter()
                comm.all_reduce(array)
                times.append(time.perf_counter() - start)
            found.append(statistics.median(times))
        return found

    short, long = Processes(ranks).run(work)
    hops = 2 * (ranks - 1)
    return short / hops, 2 * 4 * (1 << 20) * (ranks - 1) / ranks / (long - short)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=[name for name in SHAPES if isinstance(SHAPES[name][0], GPTConfig)],
                        default="baby")  # fmt: skip
    parser.add_argument("--steps", type=int, default=10, help="timed steps of each cut [10]")
    args = parser.parse_args()
    config, batch = SHAPES[args.shape]
    machine = machine_of(2, config, batch)
    print(f"a rank: {machine.flops / 1e9:.0f} GFLOP/s at most, half of it at width {machine.knee:.0f}; "
          f"{machine.near / 1e9:.1f} GB/s and {1e6 * machine.latency:.0f} us between two; "
          f"AdamW {machine.stream / 1e9:.1f} GB/s\n")  # fmt: skip
    lines = [("data x tensor", "compute", "tensor", "gradients, weights", "optimizer", "reckoned", "measured", "apart")]
    for cut in (Cut(1, 1), Cut(2, 1), Cut(1, 2)):
        cut = dataclasses.replace(cut, micro=batch // cut.data, again=False)
        by = scale.step(Model(config, batch), cut, machine, FLOAT32)
        took = seconds(*trainer_of(config, batch, cut.gpus, cut.tensor), args.steps)
        ms = lambda *names, by=by: f"{1e3 * sum(by.get(name, 0) for name in names):.1f}"
        lines.append((f"{cut.data} x {cut.tensor}", ms("compute"), ms("tensor"), ms("gradients", "weights"),
                      ms("optimizer"), f"{1e3 * sum(by.values()):.0f} ms", f"{1e3 * took:.0f} ms",
                      f"{sum(by.values()) / took - 1:+.0%}"))  # fmt: skip
    print(markdown(lines))


if __name__ == "__main__":
    main()
