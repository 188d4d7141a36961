"""The peak memory of a training step, here or in PyTorch eager: how far three steps raise it above the imports.

    python -m benchmarks.memory                            both sides, all shapes
    python -m benchmarks.memory ours baby                  one side of one shape

Ours is measured with threads as workers, so that one process holds everything.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.train_step import SHAPES, make_trainer
from tinytensor import backend
from train import parallel
from train.trainer import Loop


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

    def work(team: parallel.Team) -> None:
        loop = Loop(trainer, team)
        loop.model.train()
        for step in range(3):
            loop.step(step, 1e-3)

    parallel.run("threads", trainer.workers, trainer.gradients, work)
    return peak() - before


def measure_torch(shape: str, workers: int) -> float:
    from benchmarks.peer import TorchTrainer

    config, batch = SHAPES[shape]
    backend.cpu.tune_malloc()  # as for ours
    before = resident()
    peer = TorchTrainer(config, workers)
    draw = np.random.default_rng(0)
    for _ in range(3):
        ids = draw.integers(0, config.vocab_size, (batch, config.context + 1))
        peer.step(ids[:, :-1].copy(), ids[:, 1:].copy())
    return peak() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("side", nargs="?", choices=("ours", "torch"), help="print only this side's MB")
    parser.add_argument("shape", nargs="?", choices=SHAPES)
    parser.add_argument("--workers", type=int, default=parallel.core_count(), help="[all cores]")
    args = parser.parse_args()
    if args.side:
        measure = measure_ours if args.side == "ours" else measure_torch
        print(measure(args.shape, args.workers))
        return
    print(f"{'peak memory of a step':24} {'ours':>9} {'PyTorch':>9} {'ratio':>6}")
    for shape in SHAPES:
        sides = []
        for side in ("ours", "torch"):
            command = [sys.executable, "-m", "benchmarks.memory", side, shape, "--workers", str(args.workers)]
            sides.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        print(f"{shape:24} {sides[0]:6.0f} MB {sides[1]:6.0f} MB {sides[0] / sides[1]:6.2f}")


if __name__ == "__main__":
    main()
