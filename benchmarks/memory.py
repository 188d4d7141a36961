"""Peak memory: of a training step, here and in PyTorch eager, and of attention that keeps its probabilities or not.

    python -m benchmarks.memory                            everything
    python -m benchmarks.memory ours baby                  one side of one shape
    python -m benchmarks.memory recomputed 2048            one attention over a context of 2048

A step is measured as how far three of them raise the peak above the imports, with threads as workers, so that one
process holds everything. The probabilities of attention that is kept for backward grow with the square of the context;
with recompute=True only its inputs, output and two numbers a row remain, as they do in any case from 2,897 positions on
(benchmarks/long.py measures those).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

import tinytensor as tt
from benchmarks.train_step import SHAPES, make_objective, make_trainer, random_tokens
from tinytensor import backend
from tinytensor.distributed import Communicator, core_count
from train.trainer import Loop

CONTEXTS = (512, 1024, 2048)


def peak() -> float:
    """The largest resident size of this process so far, in MB. (getrusage's figure starts from the parent's size.)"""
    return _status("VmHWM")


def resident() -> float:
    """The resident size of this process now, in MB."""
    return _status("VmRSS")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def measure_ours(shape: str, workers: int) -> float:
    before = resident()
    trainer = make_trainer(*SHAPES[shape], workers, "threads")

    def work(comm: Communicator) -> None:
        loop = Loop(trainer, comm)
        loop.model.train()
        for step in range(3):
            loop.step(step, 1e-3)

    trainer.comm.run(work)
    return peak() - before


def measure_torch(shape: str, workers: int) -> float:
    from benchmarks.peer import TorchTrainer

    config, batch = SHAPES[shape]
    backend.cpu.tune_malloc()  # as for ours
    before = resident()
    peer = TorchTrainer(config, workers)
    objective, tokens = make_objective(config, batch), random_tokens(config)
    for step in range(3):
        peer.step(objective.training_batch(tokens, step))
    return peak() - before


def measure_attention(context: int, recompute: bool) -> float:
    """One causal attention of 4 heads of width 32, forward and backward, without what its inputs and gradients take."""
    backend.cpu.tune_malloc()
    draw = np.random.default_rng(0)
    q, k, v = (tt.Tensor(draw.standard_normal((1, 4, context, 32), np.float32), requires_grad=True) for _ in range(3))
    before = resident()
    tt.ops.attention(q, k, v, causal=True, recompute=recompute).sum().backward()
    return peak() - before - 3 * q.data.nbytes / 2**20


def in_a_process_of_its_own(*arguments) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", *map(str, arguments)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", nargs="?", choices=("ours", "torch", "kept", "recomputed"), help="print only this")
    parser.add_argument("size", nargs="?", help=f"of which shape ({'; '.join(SHAPES)}) or of an attention's context")
    parser.add_argument("--workers", type=int, default=core_count(), help="[all cores]")
    args = parser.parse_args()
    if args.side in ("kept", "recomputed"):
        print(measure_attention(int(args.size), args.side == "recomputed"))
        return
    if args.side:
        measure = measure_ours if args.side == "ours" else measure_torch
        print(measure(args.size, args.workers))
        return
    print(f"{'a training step':24} {'ours':>9} {'PyTorch':>9} {'ratio':>6}")
    for shape in SHAPES:
        ours, theirs = (in_a_process_of_its_own(s, shape, "--workers", args.workers) for s in ("ours", "torch"))
        print(f"{shape:24} {ours:6.0f} MB {theirs:6.0f} MB {ours / theirs:6.2f}")
    print(f"\n{'attention by context':24} {'kept':>9} {'recomputed':>11}")
    for context in CONTEXTS:
        kept, recomputed = (in_a_process_of_its_own(side, context) for side in ("kept", "recomputed"))
        print(f"{context:<24} {kept:6.1f} MB {recomputed:8.1f} MB")


if __name__ == "__main__":
    main()
