"""Where the time of a training step goes, here and in PyTorch eager: products, attention, norms, GELU, loss, the rest.

    python -m benchmarks.profile_step                      small and baby
    python -m benchmarks.profile_step baby --rounds 20

One worker (and one thread in PyTorch) on its half of the batch, as each of two workers has it. Ours: every op and every
gradient function is timed from outside; what is left of the step after them is the engine. PyTorch: its own profiler's
time per kernel, and what is left of the wall time is its dispatcher and autograd.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections import defaultdict
from dataclasses import replace

import numpy as np

import tinytensor as tt
from benchmarks.train_step import SHAPES
from models import GPT, GPTConfig
from tinytensor import backend
from train import parallel
from train.optim import AdamW, clip_scale

PARTS = {
    "linear": "products",
    "self_attention": "attention",
    "layer_norm": "norms and residual sums",
    "add_layer_norm": "norms and residual sums",
    "gelu": "GELU",
    "linear_cross_entropy": "output table and loss",
    "embedding": "embeddings",
    "getitem": "embeddings",
    "add": "embeddings",
    "dropout": "dropout",
}
ROWS = (*dict.fromkeys(PARTS.values()), "clipping and AdamW", "engine")

# PyTorch's kernels, by the first of these words that their names contain.
TORCH_PARTS = {
    "attention": "attention",
    "layer_norm": "norms and residual sums",
    "gelu": "GELU",
    "log_softmax": "output table and loss",
    "nll_loss": "output table and loss",
    "embedding": "embeddings",
    "dropout": "dropout",
    "bernoulli": "dropout",
    "native_dropout": "dropout",
    "mm": "products",
}


class Stopwatch:
    """Times ops by replacing, in this process, the functions that layers call and the `record` that ops call."""

    def __init__(self):
        self.spent: dict[str, float] = defaultdict(float)
        for family in ("attention", "dropout", "elementwise", "embedding", "matmul", "norm", "shape", "softmax"):
            module = importlib.import_module(f"tinytensor.ops.{family}")
            for name in ("record", "record_many"):
                if hasattr(module, name):
                    setattr(module, name, self.with_timed_gradient(getattr(module, name)))
        for name in PARTS:
            setattr(tt.ops, name, self.timed(PARTS[name], getattr(tt.ops, name)))
        tt.Tensor.__add__ = self.timed("embeddings", tt.Tensor.__add__)
        tt.Tensor.__getitem__ = self.timed("embeddings", tt.Tensor.__getitem__)

    def timed(self, part: str, function):
        def run(*args, **kwargs):
            start = time.perf_counter()
            result = function(*args, **kwargs)
            self.spent[part] += time.perf_counter() - start
            return result

        return run

    def with_timed_gradient(self, record):
        def run(data, parents, backward):
            part = PARTS.get(backward.__qualname__.split(".")[0])
            return record(data, parents, self.timed(part, backward) if part else backward)

        return run


def profile_ours(config: GPTConfig, batch: int, rounds: int) -> dict[str, float]:
    """Milliseconds of a median step by part."""
    backend.cpu.tune_malloc()
    with tt.random.seeded(0):
        model = GPT(config)
    optimizer = AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=0.1)
    flat, watch = optimizer.flat, Stopwatch()
    draw, steps = np.random.default_rng(0), []
    for _ in range(rounds + 3):
        window = draw.integers(0, config.vocab_size, (batch, config.context + 1))
        watch.spent.clear()
        start = time.perf_counter()
        model.zero_grad()
        model.loss({"ids": window[:, :-1], "targets": window[:, 1:]}).backward()
        middle = time.perf_counter()
        flat.complete_gradients(flat.parameters)
        length = backend.cpu.squared_norm(flat.grad) ** 0.5
        optimizer.steps += 1
        optimizer.update(0, flat.size, flat.grad, 1e-3, clip_scale(length, 1.0))
        end = time.perf_counter()
        watch.spent["clipping and AdamW"] = end - middle
        watch.spent["engine"] = end - start - sum(watch.spent.values())
        steps.append(dict(watch.spent))
    return {part: 1e3 * statistics.median(step.get(part, 0.0) for step in steps[3:]) for part in ROWS}


def profile_torch(config: GPTConfig, batch: int, rounds: int) -> dict[str, float]:
    """Milliseconds of a mean step by part."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from benchmarks.peer import TorchTrainer

    peer = TorchTrainer(config, 1)
    draw = np.random.default_rng(0)
    windows = [draw.integers(0, config.vocab_size, (batch, config.context + 1)) for _ in range(rounds + 3)]
    for window in windows[:3]:
        peer.step({"ids": window[:, :-1].copy(), "targets": window[:, 1:].copy()})
    start = time.perf_counter()
    for window in windows[3:]:
        peer.step({"ids": window[:, :-1].copy(), "targets": window[:, 1:].copy()})
    wall = 1e3 * (time.perf_counter() - start) / rounds
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for window in windows[3:]:
            with torch.profiler.record_function("forward and backward"):
                peer.optimizer.zero_grad(set_to_none=True)
                ids, targets = (torch.from_numpy(a.copy()) for a in (window[:, :-1], window[:, 1:]))
                peer.model.loss({"ids": ids, "targets": targets}).backward()
            with torch.profiler.record_function("clipping and AdamW"):
                torch.nn.utils.clip_grad_norm_(peer.model.parameters(), 1.0)
                peer.optimizer.step()
    spent: dict[str, float] = defaultdict(float)
    for event in seen.key_averages():
        if event.key == "clipping and AdamW":
            spent["clipping and AdamW"] = event.cpu_time_total / 1e3 / rounds
    for event in seen.events():
        if _inside(event, "clipping and AdamW"):
            continue
        part = next((part for word, part in TORCH_PARTS.items() if word in event.name), None)
        if part and event.name.startswith("aten::"):
            spent[part] += event.self_cpu_time_total / 1e3 / rounds
    spent["engine"] = wall - sum(spent.values())
    return {part: spent.get(part, 0.0) for part in ROWS}


def _inside(event, name: str) -> bool:
    """Whether a profiled event happened within a named stretch."""
    while event is not None:
        if event.name == name:
            return True
        event = event.cpu_parent
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", default=["small", "baby"], help=f"which of: {'; '.join(SHAPES)}")
    parser.add_argument("--rounds", type=int, default=20, help="timed steps [20]")
    args = parser.parse_args()
    for name in args.shapes:
        config, batch = SHAPES[name]
        half = max(1, batch // 2)
        theirs = profile_torch(config, half, args.rounds)
        with parallel.blas_threads(1):
            ours = profile_ours(replace(config), half, args.rounds)
        print(f"\n{name}, half a batch ({half}), one core, ms:")
        print(f"{'':26} {'ours':>8} {'PyTorch':>8}")
        for part in ROWS:
            label = "the engine (rest)" if part == "engine" else part
            print(f"{label:26} {ours[part]:8.2f} {theirs[part]:8.2f}")
        print(f"{'in all':26} {sum(ours.values()):8.2f} {sum(theirs.values()):8.2f}")


if __name__ == "__main__":
    main()
