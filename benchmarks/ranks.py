"""What MPI's ranks cost beside forked processes: steps of one training, in turns, by both kinds of worker.

    mpiexec -n 2 python -m mpi4py -m benchmarks.ranks --shape baby

Both share memory and compute the same bits; MPI's ranks get the work as a copy, and wait in the same way. A turn is a
few steps after one to warm up. Its time is given by the clock, and by what it took of all cores: the clock misleads on
a busy machine, where the kernel may deal out cores by session, and mpiexec gives each rank one of its own.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np

from benchmarks.train_step import SHAPES, make_trainer
from tinytensor import mpi
from tinytensor.workers import STARTED
from train.trainer import Loop, Trainer


def turn(trainer: Trainer, steps: int) -> tuple[float, float]:
    """(seconds a step by the clock, of all cores)"""

    def work(comm) -> tuple[float, float]:
        loop = Loop(trainer, comm)
        loop.model.train()
        loop.step(0, 1e-3)
        comm.barrier()
        start, spent = time.perf_counter(), time.process_time()
        for step in range(steps):
            loop.step(1 + step, 1e-3)
        comm.barrier()
        took = time.perf_counter() - start
        return took / steps, comm.all_reduce(np.array([time.process_time() - spent])).item() / steps

    return trainer.comm.run(work)


def lead(args: argparse.Namespace) -> None:
    config, batch = SHAPES[args.shape]
    processes = make_trainer(config, batch, mpi.world().size, "processes")
    os.environ[STARTED] = str(mpi.world().size)
    ranks = make_trainer(config, batch, 0, "auto")
    times: dict[str, list[tuple[float, float]]] = {"processes": [], "MPI's ranks": []}
    for _ in range(args.turns):
        for name, trainer in zip(times, (processes, ranks)):
            times[name].append(turn(trainer, args.steps))
        show(times, lambda seconds: seconds[-1], "this")
    show(times, statistics.median, "median")
    show(times, min, "smallest")


def show(times: dict[str, list[tuple[float, float]]], of: Callable, what: str) -> None:
    for place, by in enumerate(("by the clock", "of all cores")):
        figures = [of([turn[place] for turn in turns]) for turns in times.values()]
        said = ", ".join(f"{name} {1e3 * figure:.1f} ms" for name, figure in zip(times, figures))
        print(f"{what}, a step {by}: {said}: {figures[1] / figures[0]:.3f} times", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="baby")
    parser.add_argument("--steps", type=int, default=5, help="in a turn [5]")
    parser.add_argument("--turns", type=int, default=10, help="of each [10]")
    if mpi.world().rank:
        return mpi.follow()
    lead(parser.parse_args())
    mpi.dismiss(0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
