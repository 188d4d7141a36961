"""What MPI's ranks cost beside forked processes: steps of one training, in turns, by both kinds of worker.

    mpiexec -n 2 python -m mpi4py -m benchmarks.ranks --shape baby

Both share memory and compute the same bits; MPI's ranks get the work as a copy, and wait in the same way. A turn is a
few steps after one to warm up, timed at rank 0. Where other programs run, the fastest turns say most.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

from benchmarks.train_step import SHAPES, make_trainer
from tinytensor import mpi
from tinytensor.workers import STARTED
from train.trainer import Loop, Trainer


def turn(trainer: Trainer, steps: int) -> float:
    """Seconds a step."""

    def work(comm) -> float:
        loop = Loop(trainer, comm)
        loop.model.train()
        loop.step(0, 1e-3)
        comm.barrier()
        start = time.perf_counter()
        for step in range(steps):
            loop.step(1 + step, 1e-3)
        comm.barrier()
        return (time.perf_counter() - start) / steps

    return trainer.comm.run(work)


def lead(args: argparse.Namespace) -> None:
    config, batch = SHAPES[args.shape]
    processes = make_trainer(config, batch, mpi.world().size, "processes")
    os.environ[STARTED] = str(mpi.world().size)
    ranks = make_trainer(config, batch, 0, "auto")
    times: dict[str, list[float]] = {"processes": [], "MPI's ranks": []}
    for _ in range(args.turns):
        for name, trainer in zip(times, (processes, ranks)):
            times[name].append(turn(trainer, args.steps))
        show(times, lambda seconds: seconds[-1], "this")
    show(times, statistics.median, "median")
    show(times, min, "fastest")


def show(times: dict[str, list[float]], of: Callable, what: str) -> None:
    figures = [of(seconds) for seconds in times.values()]
    said = ", ".join(f"{name} {1e3 * figure:.1f} ms" for name, figure in zip(times, figures))
    print(f"{what} turn, a step: {said}: {figures[1] / figures[0]:.3f} times", flush=True)


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
