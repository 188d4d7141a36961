"""A training step here and in PyTorch eager: forward, backward, clipping and AdamW, on the same cores.

    python -m benchmarks.train_step                        all shapes
    python -m benchmarks.train_step small baby --rounds 50
    python -m benchmarks.train_step small baby --own       a loop of one's own: the README's lines, without the trainer
    python -m benchmarks.train_step small --compiled       against torch.compile
    OPENBLAS_NUM_THREADS=1 taskset -c 0 python -m benchmarks.train_step --workers 1     CPU time on one core

The two take turns in one process, so that a machine that slows down slows both; the figures are medians. On one core
they are CPU time of half a batch, which other programs on the machine disturb less. Peak memory is measured in a
process of its own for each side, as the growth over what the imports took. malloc is tuned the same way for both (see
tune_malloc in backend/cpu/arrays.py).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tinytensor as tt
from models import GPT, T5, BERTConfig, BERTForPreTraining, ELMo, ELMoConfig, GPTConfig, T5Config
from models.tokenizers import ElmoCharacters
from nn import DataParallel
from tinytensor.distributed import Communicator, core_count
from tinytensor.workers import KINDS, choose_kind
from train.objectives.bidirectional import Bidirectional
from train.objectives.sequences import SpanCorruption
from train.objectives.windows import Causal
from train.optim import AdamW, clip_grad_norm
from train.trainer import Loop, TrainConfig, Trainer

# name: (config, batch). small is nanoGPT's documented CPU run, baby its character-level GPU run.
SHAPES = {
    "small": (GPTConfig.preset("toy"), 12),
    "baby": (GPTConfig.preset("baby", dropout=0.0), 8),
    "baby, dropout 0.2": (GPTConfig.preset("baby"), 8),
    "wide, vocabulary 50257": (GPTConfig(context=256, layers=4, heads=12, width=768, bias=False), 2),
    "BERT Mini, masked words": (BERTConfig.preset("mini", context=128), 16),
    "T5 small, spans": (T5Config.preset("t5-small"), 4),
    "ELMo, as train elmo has it": (ELMoConfig.preset("toy", vocab_size=720, cell_clip=0.0, proj_clip=0.0), 16),
}


@dataclass(frozen=True)
class Blanked:
    """Random texts of which 15% of the tokens are to be predicted, and random pairs, as BERT is trained on."""

    config: BERTConfig
    batch: int

    def check(self, tokens, what: str) -> None:
        pass

    def training_batch(self, tokens, number: int) -> dict[str, np.ndarray]:
        draw, shape = np.random.default_rng(number), (self.batch, self.config.context)
        chosen = np.argsort(draw.random(shape), axis=1) < round(0.15 * shape[1])
        return {
            "ids": draw.integers(0, self.config.vocab_size, shape),
            "token_types": np.broadcast_to(np.arange(shape[1]) >= shape[1] // 2, shape).astype(int),
            "mask": np.ones(shape, bool),
            "targets": np.where(chosen, draw.integers(0, self.config.vocab_size, shape), -100),
            "next": draw.integers(0, 2, self.batch),
        }


Config = GPTConfig | BERTConfig | T5Config | ELMoConfig


def make_objective(config: Config, batch: int):
    """What each family is trained on."""
    if isinstance(config, BERTConfig):
        return Blanked(config, batch)
    if isinstance(config, T5Config):
        return SpanCorruption(128, batch, sentinels=tuple(range(32099, 31999, -1)))
    if isinstance(config, ELMoConfig):
        draw, V = np.random.default_rng(1), config.vocab_size
        words = ["".join(draw.choice([*"etaoinshrdlu"], draw.integers(2, 9))) for _ in range(V)]
        return Bidirectional(20, batch, ElmoCharacters(config.characters).encode_words(words).astype(np.int16), V)
    return Causal(config.context, batch)


def random_tokens(config: Config) -> np.ndarray:
    return np.random.default_rng(0).integers(0, config.vocab_size, 100_000).astype(np.uint16)


def make_trainer(config: Config, batch: int, workers: int, kind: str) -> Trainer:
    """A trainer on random tokens that reports to nobody."""
    tokens = random_tokens(config)
    train_config = TrainConfig(batch=batch, workers=workers, worker_kind=kind)
    with tt.random.seeded(0):
        model = {GPTConfig: GPT, BERTConfig: BERTForPreTraining, T5Config: T5, ELMoConfig: ELMo}[type(config)](config)
    folder = Path(tempfile.gettempdir())
    return Trainer(model, make_objective(config, batch), tokens, tokens, train_config, folder, None)


def clock_for(workers: int):
    """CPU time where one core works, the clock on the wall where several do."""
    return time.process_time if workers == 1 else time.perf_counter


def race(config: Config, batch: int, workers: int, kind: str, rounds: int, compiled=False) -> tuple[float, float]:
    """(our median, PyTorch's median) in milliseconds."""
    from benchmarks.peer import TorchTrainer

    trainer = make_trainer(config, batch, workers, kind)
    peer, clock = TorchTrainer(config, workers, compiled), clock_for(workers)
    ours, theirs = [], []

    def work(comm: Communicator) -> None:
        loop = Loop(trainer, comm)
        loop.model.train()
        for step in range(rounds + 3):
            comm.barrier()  # the other workers sleep here while PyTorch has its turn
            start = clock()
            loop.step(step, 1e-3)
            if comm.rank:
                continue
            middle = clock()
            batch = trainer.objective.training_batch(trainer.train_data, step)
            peer.step(batch)
            ours.append(middle - start)
            theirs.append(clock() - middle)

    trainer.comm.run(work)
    return tuple(1e3 * statistics.median(times[3:]) for times in (ours, theirs))


def race_own(config: Config, batch: int, workers: int, rounds: int, compiled=False) -> tuple[float, float]:
    """(our median, PyTorch's median) in milliseconds of a loop as in the README, a thread for each core."""
    from benchmarks.peer import TorchTrainer

    trainer = make_trainer(config, batch, 1, "threads")  # for its model and batches only
    model, objective = trainer.model.train(), trainer.objective
    cores, optimizer = DataParallel(model, workers), AdamW(model.parameters(), lr=1e-3)
    peer, clock = TorchTrainer(config, workers, compiled), clock_for(workers)
    ours, theirs = [], []
    for step in range(rounds + 3):
        data = objective.training_batch(trainer.train_data, step)
        start = clock()
        cores.loss(data).backward()
        clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        middle = clock()
        peer.step(data)
        ours.append(middle - start)
        theirs.append(clock() - middle)
    return tuple(1e3 * statistics.median(times[3:]) for times in (ours, theirs))


def peak_megabytes(side: str, shape: str, workers: int) -> float:
    """The peak memory of three steps of one side, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", side, shape, "--workers", str(workers)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", help=f"which of: {'; '.join(SHAPES)} [all]")
    parser.add_argument("--rounds", type=int, default=20, help="timed steps of each [20]")
    parser.add_argument("--workers", type=int, default=core_count(), help="threads of each [all cores]")
    parser.add_argument("--worker-kind", default="auto", choices=KINDS, help="our workers [auto]")
    parser.add_argument("--own", action="store_true", help="a loop of one's own instead of the trainer's")
    parser.add_argument("--compiled", action="store_true", help="against torch.compile instead of eager mode")
    args = parser.parse_args()
    kind = "threads" if args.own else choose_kind(args.worker_kind, args.workers)
    import torch

    print(f"{args.workers} {kind} here, {args.workers} threads in PyTorch {torch.__version__}; NumPy {np.__version__}")
    memory = args.workers > 1 and not args.own and not args.compiled
    print(f"{'':24} {'ours':>9} {'PyTorch':>9} {'ratio':>6}" + f"   {'peak':>8} {'PyTorch':>8} {'ratio':>6}" * memory)
    for name in args.shapes or SHAPES:
        config, batch = SHAPES[name]
        batch = batch // 2 if args.workers == 1 else batch  # as each of two workers has it
        if args.own:
            ours, theirs = race_own(config, batch, args.workers, args.rounds, args.compiled)
        else:
            ours, theirs = race(config, batch, args.workers, kind, args.rounds, args.compiled)
        line = f"{name:24} {ours:6.1f} ms {theirs:6.1f} ms {ours / theirs:6.2f}"
        if memory:
            a, b = (peak_megabytes(side, name, args.workers) for side in ("ours", "torch"))
            line += f"   {a:5.0f} MB {b:5.0f} MB {a / b:6.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
