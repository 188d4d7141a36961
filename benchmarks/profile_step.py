"""Where the time of a training step goes, here and in PyTorch eager: products, attention, norms, loss, the rest.

    python -m benchmarks.profile_step                      small and baby
    python -m benchmarks.profile_step "BERT Mini, masked words" "T5 small, spans" --rounds 20

One worker (and one thread in PyTorch) on its half of the batch, as each of two workers has it. Ours: every op and every
gradient function is timed from outside; what is left of the step after them is the engine. PyTorch: its own profiler's
time per kernel, and what is left of the wall time is its dispatcher and autograd. What PyTorch spells out, attention
with dropout and the norms and attention of transformers' T5, stands under products and the rest.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections import defaultdict

import tinytensor as tt
from benchmarks.train_step import SHAPES, Config, make_objective, make_trainer, random_tokens
from nn.transformer import ACTIVATIONS
from tinytensor import backend
from tinytensor.distributed import blas_threads
from train.optim import clip_scale

PARTS = {
    "linear": "products",
    "self_attention": "attention",
    "attention": "attention",
    "toeplitz": "attention",
    "layer_norm": "norms and residual sums",
    "add_layer_norm": "norms and residual sums",
    "rms_norm": "norms and residual sums",
    "add_rms_norm": "norms and residual sums",
    "gelu": "activations",
    "relu": "activations",
    "linear_cross_entropy": "output table and loss",
    "cross_entropy": "output table and loss",
    "embedding": "embeddings",
    "getitem": "embeddings",
    "add": "embeddings",
    "dropout": "dropout",
}
ROWS = (*dict.fromkeys(PARTS.values()), "clipping and AdamW", "the rest")

# PyTorch's kernels, by the first of these words that their names contain.
TORCH_PARTS = {
    "attention": "attention",
    "layer_norm": "norms and residual sums",
    "gelu": "activations",
    "relu": "activations",
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
        for family in ("attention", "basic", "layers", "maths", "matmul", "shape", "softmax"):
            module = importlib.import_module(f"tinytensor.ops.{family}")
            for name in ("record", "record_many"):
                if hasattr(module, name):
                    setattr(module, name, self.with_timed_gradient(getattr(module, name)))
        for name in PARTS:
            setattr(tt.ops, name, self.timed(PARTS[name], getattr(tt.ops, name)))
        for name in ("gelu", "relu"):  # models take these from here
            ACTIVATIONS[name] = getattr(tt.ops, name)
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
        def run(name, data, parents, backward):
            part = PARTS.get(name)
            return record(name, data, parents, self.timed(part, backward) if part else backward)

        return run


def profile_ours(config: Config, batch: int, rounds: int, watch: Stopwatch) -> dict[str, float]:
    """Milliseconds of a median step by part."""
    trainer = make_trainer(config, batch, 1, "threads")
    model, flat = trainer.model.train(), trainer.flat
    optimizer = trainer.config.make_optimizer(flat)
    steps = []
    for number in range(rounds + 3):
        data = trainer.objective.training_batch(trainer.train_data, number)
        watch.spent.clear()
        start = time.perf_counter()
        model.zero_grad()
        model.loss(data).backward()
        middle = time.perf_counter()
        flat.complete_gradients(flat.parameters)
        length = backend.cpu.squared_norm(flat.grad) ** 0.5
        optimizer.steps += 1
        optimizer.update(flat.grad, 1e-3, clip_scale(length, 1.0))
        end = time.perf_counter()
        watch.spent["clipping and AdamW"] = end - middle
        watch.spent["the rest"] = end - start - sum(watch.spent.values())
        steps.append(dict(watch.spent))
    return {part: 1e3 * statistics.median(step.get(part, 0.0) for step in steps[3:]) for part in ROWS}


def profile_torch(config: Config, batch: int, rounds: int) -> dict[str, float]:
    """Milliseconds of a mean step by part."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    from benchmarks.peer import TorchTrainer

    peer = TorchTrainer(config, 1)
    objective, tokens = make_objective(config, batch), random_tokens(config)
    batches = [objective.training_batch(tokens, number) for number in range(rounds + 3)]
    for data in batches[:3]:
        peer.step(data)
    start = time.perf_counter()
    for data in batches[3:]:
        peer.step(data)
    wall = 1e3 * (time.perf_counter() - start) / rounds
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for data in batches[3:]:
            with torch.profiler.record_function("forward and backward"):
                peer.optimizer.zero_grad(set_to_none=True)
                peer.model.loss({name: torch.from_numpy(array) for name, array in data.items()}).backward()
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
    spent["the rest"] = wall - sum(spent.values())
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
    watch = Stopwatch()
    for name in args.shapes:
        config, batch = SHAPES[name]
        half = max(1, batch // 2)
        theirs = profile_torch(config, half, args.rounds)
        with blas_threads(1):
            ours = profile_ours(config, half, args.rounds, watch)
        print(f"\n{name}, half a batch ({half}), one core, ms:")
        print(f"{'':26} {'ours':>8} {'PyTorch':>8}")
        for part in ROWS:
            print(f"{part:26} {ours[part]:8.2f} {theirs[part]:8.2f}")
        print(f"{'in all':26} {sum(ours.values()):8.2f} {sum(theirs.values()):8.2f}")


if __name__ == "__main__":
    main()
