"""The LSTM against torch.nn.LSTM, and how its cost grows with the length of the text, beside a transformer's.

    OPENBLAS_NUM_THREADS=1 python -m benchmarks.lstm                       the race, on one core and on all
    OPENBLAS_NUM_THREADS=1 python -m benchmarks.lstm --plot lstm.png       and the plot

The race: forward and backward of two layers, batch 16, 64 steps, 128 -> 256, taking turns in one process, malloc tuned
for both; medians, on one core of CPU time. On all cores our workers take a share of the batch each, as in training.
The plot: forward and backward of two LSTM layers, and of two transformer blocks of the same width, CPU time per token.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import tinytensor as tt
from nn import LSTM, Attention, Block, FeedForward, LayerNorm, Stream
from tinytensor import Tensor
from tinytensor.backend import cpu
from tinytensor.distributed import Communicator, core_count, share
from tinytensor.workers import communicator

BATCH, STEPS, INPUTS, HIDDEN, LAYERS = 16, 64, 128, 256, 2
WIDTH, ROWS, LENGTHS = 256, 4, (64, 128, 256, 512, 1024, 2048)


def train_lstm(net: LSTM, x: np.ndarray) -> None:
    """Forward and backward, the input's gradient included."""
    net.zero_grad()
    y, _ = net(Tensor(x, requires_grad=True))
    y.backward(np.ones_like(y.data))


def torch_lstm():
    """The same work in PyTorch, as a call."""
    import torch

    net = torch.nn.LSTM(INPUTS, HIDDEN, LAYERS, batch_first=True)
    x = torch.randn(BATCH, STEPS, INPUTS, requires_grad=True)
    ones = torch.ones(BATCH, STEPS, HIDDEN)

    def run():
        net.zero_grad()
        x.grad = None
        net(x)[0].backward(ones)

    return run


def race(workers: int, rounds: int) -> tuple[float, float]:
    """(our median, PyTorch's) in milliseconds, on `workers` cores each."""
    import torch

    torch.set_num_threads(workers)
    theirs, times = torch_lstm(), ([], [])
    clock = time.process_time if workers == 1 else time.perf_counter
    x = np.random.default_rng(0).standard_normal((BATCH, STEPS, INPUTS), np.float32)

    def work(comm: Communicator) -> None:
        net, mine = LSTM(INPUTS, HIDDEN, LAYERS), x[share(BATCH, comm.rank, comm.size)]
        for _ in range(rounds + 3):
            comm.barrier()
            start = clock()
            train_lstm(net, mine)
            comm.barrier()
            middle = clock()
            if comm.rank == 0:
                theirs()
                times[0].append(middle - start)
                times[1].append(clock() - middle)

    communicator("auto", workers).run(work)
    return tuple(1e3 * statistics.median(taken[3:]) for taken in times)


def microseconds_per_token(length: int, rounds: int = 3) -> tuple[float, float]:
    """(two LSTM layers, two causal transformer blocks): forward and backward of ROWS texts of this length,
    the least CPU time of a few turns."""
    x = np.random.default_rng(0).standard_normal((ROWS, length, WIDTH), np.float32)
    make = lambda: (Attention(WIDTH, 4, causal=True), FeedForward(WIDTH, 4 * WIDTH), lambda: LayerNorm(WIDTH))
    net, blocks = LSTM(WIDTH, WIDTH, 2), [Block(*make()) for _ in range(2)]

    def transformer() -> None:
        y = Stream(Tensor(x, requires_grad=True))
        for block in blocks:
            block.zero_grad()
            y = block(y)
        y.full.backward(np.ones_like(x))

    answers = []
    for run in (lambda: train_lstm(net, x), transformer):
        taken = []
        for _ in range(rounds + 1):
            start = time.process_time()
            run()
            taken.append(time.process_time() - start)
        answers.append(1e6 * min(taken[1:]) / (ROWS * length))
    return tuple(answers)


def plot(path: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    lines = list(zip(*(microseconds_per_token(length) for length in LENGTHS)))
    print(f"{'length':>8} {'LSTM':>10} {'transformer':>12}   microseconds per token")
    for length, *both in zip(LENGTHS, *lines):
        print(f"{length:8} {both[0]:10.1f} {both[1]:12.1f}")
    for name, color, line in zip(("two LSTM layers", "two transformer blocks"), ("#08519c", "#d94801"), lines):
        axes.plot(LENGTHS, line, marker="o", color=color, label=name)
    axes.set_xscale("log", base=2)
    axes.set_xticks(LENGTHS, LENGTHS)
    axes.set_ylim(0)
    axes.set_xlabel("length of the text in tokens")
    axes.set_ylabel("microseconds of CPU time per token")
    axes.set_title(f"forward + backward at width {WIDTH}, {ROWS} texts at a time, one core")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="timed turns of each [30]")
    parser.add_argument("--plot", metavar="FILE", help="also draw cost against length into this PNG")
    args = parser.parse_args()
    cpu.tune_malloc()
    tt.manual_seed(0)
    print(f"{LAYERS} layers, batch {BATCH}, {STEPS} steps, {INPUTS} -> {HIDDEN}: forward + backward")
    for workers in sorted({1, core_count()}):
        ours, theirs = race(workers, args.rounds)
        print(f"on {workers} core(s): ours {ours:.1f} ms, PyTorch {theirs:.1f} ms, ratio {ours / theirs:.2f}")
    if args.plot:
        plot(args.plot)


if __name__ == "__main__":
    main()
