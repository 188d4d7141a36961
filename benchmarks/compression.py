"""How fast smaller models are: the same batch, and writing one token at a time, by a GPT before and after.

    python -m benchmarks.compression runs/gpt-1

One core. The models take turns, so that whatever else happens on the machine happens to all of them alike; a figure is
the median of its turns' CPU time.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from pathlib import Path

import numpy as np

import tinytensor as tt
from nn.compression.prune import prune, shrink
from nn.compression.quantize import quantize
from tinytensor import backend
from tinytensor.distributed import blas_threads
from train import checkpoint

ROWS, WRITTEN = 8, 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a GPT's run")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each model [15]")
    args = parser.parse_args()
    backend.cpu.tune_malloc()
    model, _ = checkpoint.load_model(args.run)
    halved = copy.deepcopy(model)
    for what in ("heads", "neurons"):
        prune(halved, 0.5, what)
    models = {
        "as it was": model,
        "half the heads and neurons": shrink(halved),
        "8 bits": quantize(copy.deepcopy(model)),
        "8 bits, float arithmetic": quantize(copy.deepcopy(model), activations="none"),
        "4 bits": quantize(copy.deepcopy(model), 4),
    }
    context = model.config.context
    ids = np.random.default_rng(0).integers(0, model.config.vocab_size, (ROWS, context + 1))
    batch = {"ids": ids[:, :-1], "targets": ids[:, 1:]}
    reading = {name: lambda m=m: m.loss(batch) for name, m in models.items()}
    writing = {name: lambda m=m: write(m, ids[:1, : context - WRITTEN]) for name, m in models.items()}
    with blas_threads(1), tt.no_grad():
        read, written = turns(reading, args.rounds), turns(writing, args.rounds)
    reads, writes = f"ms for {ROWS} x {context} tokens", f"ms for each of {WRITTEN} tokens written"
    print(f"| model | {reads} | times as fast | {writes} | times as fast |")
    print("|---|---:|---:|---:|---:|")
    first = "as it was"
    for name in models:
        cells = read[name], read[first] / read[name], written[name] / WRITTEN, written[first] / written[name]
        print(f"| {name} | {1e3 * cells[0]:.1f} | {cells[1]:.2f} | {1e3 * cells[2]:.2f} | {cells[3]:.2f} |")


def write(model, ids: np.ndarray) -> None:
    """Read a prompt, then WRITTEN tokens one at a time."""
    cache = model.new_cache(1)
    scores = model.step(ids, cache)
    for _ in range(WRITTEN):
        scores = model.step(scores.argmax(axis=-1)[:, None], cache)


def turns(works: dict, rounds: int) -> dict[str, float]:
    """The median CPU time of each work, all taking turns; the first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            start = time.process_time()
            work()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


if __name__ == "__main__":
    main()
