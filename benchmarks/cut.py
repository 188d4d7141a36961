"""What a model takes at each rank of a cut: counted on paper, in its arrays, and in the memory of the process.

    python -m benchmarks.cut              every cut of 4 processes and fewer, a GPT of 29 million parameters
    python -m benchmarks.cut published    the parameters of published models at a rank of their published cuts

A rank of d x t (d models, each cut over t ranks) has a = alike + cut / t parameters and as many gradients. Adam keeps
two numbers for each parameter; they are split among the d ranks that have the same part (ZeRO stage 1): 2 a / d.
Without a cut, processes of one machine share one array of parameters, so no process has it to itself.
"""

import argparse
import ctypes
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.train_step import make_objective
from models import GPT, GPTConfig
from nn import shapes_only
from nn.parallel import cut, plan
from tinytensor.distributed import Communicator
from train.cut import CutLoop, CutTrainer
from train.trainer import Loop, TrainConfig, Trainer

GPT29M = GPTConfig(vocab_size=8192, context=16, layers=8, heads=8, width=512)
CUTS = ((1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (1, 4))  # (models, ranks of each)
PUBLISHED = {  # the table of tokens filled up to a multiple of 128 x ranks
    "Megatron-LM 8.3B": (8, dict(layers=72, heads=32, width=3072, vocab_size=51200)),
    "T-NLG 17B": (4, dict(layers=78, heads=28, width=4256, vocab_size=50688)),
}
MB = 2**20


def own_bytes() -> int:
    """What this process has to itself, without what it has freed."""
    ctypes.CDLL(None).malloc_trim(0)
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024


def measure(models: int, ranks: int) -> np.ndarray:
    """(processes, 4): bytes of the parameters, the gradient and the optimizer's state at each, and what it took."""
    start = own_bytes()
    model = GPT(GPT29M)
    workers, tokens = models * ranks, np.zeros(10_000, np.uint16)
    config = TrainConfig(batch=models, workers=workers, tensor=ranks, worker_kind="processes")
    make, loop_of = (CutTrainer, CutLoop) if ranks > 1 else (Trainer, Loop)
    trainer = make(model, make_objective(GPT29M, models), tokens, tokens, config, Path(tempfile.gettempdir()), None)
    found = [trainer.comm.shared(4, np.int64) for _ in range(workers)]

    def work(comm: Communicator) -> None:
        before = start if workers == 1 else own_bytes()  # with what it has from its parent, and does not touch
        loop = loop_of(trainer, comm)
        loop.model.train()
        for step in range(2):
            loop.step(step, 1e-3)
        state = sum(array.nbytes for array in loop.optimizer.state.values())
        for parameter in loop.parameters:
            parameter.grad = None
        shared = loop.grad.nbytes if loop.comm.size > 1 else 0  # it lies in the memory that all see
        found[comm.rank][:] = loop.flat.data.nbytes, loop.grad.nbytes, state, own_bytes() - before + shared

    trainer.comm.run(work)
    return np.array(found)


def reckoned(models: int, ranks: int) -> tuple[float, float, float]:
    """The same on paper, in numbers: of parameters, of gradients, of the optimizer's state."""
    c = GPT29M
    whole = 12 * c.layers * c.width**2 + 7 * c.layers * c.width + c.vocab_size * c.width  # matrices, their biases
    alike = c.context * c.width + 6 * c.layers * c.width + 2 * c.width  # positions, norms, biases of second products
    own = alike + whole / ranks
    return own, own, 2 * own / models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=("published",), help="count published models instead")
    if parser.parse_args().what:
        for name, (ranks, shape) in PUBLISHED.items():
            with shapes_only():
                model = GPT(GPTConfig(context=1024, **shape))
                own = cut(model, plan(model, ranks), {"tensor": Communicator(ranks)})
            print(f"{name}: {model.parameter_count():,} parameters, {own.parameter_count():,} at each of {ranks} ranks")
        return
    print("models  ranks of each    MB of parameters        gradient         state     sum, in the process")
    for models, ranks in CUTS:
        paper, found = np.array(reckoned(models, ranks)) * 4 / MB, measure(models, ranks).max(axis=0) / MB
        each = "   ".join(f"{a:6.1f} {b:6.1f}" for a, b in zip(paper, found))
        print(f"{models:6} {ranks:14}    {each}   {paper.sum():7.1f} {found[3]:7.1f}")


if __name__ == "__main__":
    main()
