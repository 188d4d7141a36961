"""How fast smaller models are: the same batch, and writing one token at a time, by a GPT before and after.

    python -m benchmarks.compression                    GPT-2's shape of 124M weights, random ones
    python -m benchmarks.compression --preset baby      another shape
    python -m benchmarks.compression runs/gpt-1         a run of yours

One core. The models take turns, so that whatever else happens on the machine happens to all of them alike; a figure is
the median of its turns' CPU time, a ratio the median of the turns' ratios ± half the width of their middle 80%.

The second table tells why integers are as fast as they are: what each step costs for each weight of matrices that no
cache holds. What is not multiplied by BLAS must become float32 first.
"""

from __future__ import annotations

import argparse
import copy
from pathlib import Path

import numpy as np

import tinytensor as tt
from models import GPT, GPTConfig
from nn.compression.prune import prune, shrink
from nn.compression.quantize import quantize
from tinytensor import backend
from tinytensor.backend.cpu import pack_int4, weight_matmul
from tinytensor.distributed import blas_threads
from train import checkpoint
from train.compression.measure import half_spread, in_turns

READ, WRITTEN = 128, 16  # tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="the folder of a GPT's run [random weights]")
    parser.add_argument("--preset", default="gpt2", help=f"their shape, one of {', '.join(GPTConfig.presets)} [gpt2]")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each model, at least [9]")
    args = parser.parse_args()
    backend.cpu.tune_malloc()
    model = checkpoint.load_model(args.run)[0] if args.run else GPT(GPTConfig.preset(args.preset))
    with blas_threads(1), tt.no_grad():
        print(models_table(model, args.rounds), steps_table(args.rounds), sep="\n\n")


def smaller(model: GPT) -> dict[str, GPT]:
    halved = copy.deepcopy(model)
    for what in ("heads", "neurons"):
        prune(halved, 0.5, what)
    made = {
        "as it was": model,
        "half the heads and neurons": shrink(halved),
        "half the weights masked": prune(copy.deepcopy(model), 0.5),
        "8 bits": quantize(copy.deepcopy(model), activations="none"),
        "8 bits, inputs too": quantize(copy.deepcopy(model)),
        "4 bits": quantize(copy.deepcopy(model), 4, activations="none"),
        "4 bits, inputs too": quantize(copy.deepcopy(model), 4),
    }
    return {name: one.for_inference() for name, one in made.items()}


def models_table(model: GPT, rounds: int) -> str:
    models, config = smaller(model), model.config
    ids = np.random.default_rng(0).integers(0, config.vocab_size, (8, READ // 2 + 1))
    batch = {"ids": ids[:2, :-1], "targets": ids[:2, 1:]}
    works = {f"reading {READ} tokens": lambda m: m.loss(batch),
             "writing one text": Writing(ids[:1, :16]), "writing eight": Writing(ids[:, :16])}  # fmt: skip
    header = " | ".join(f"{what}: ms | times as fast" for what in works)
    lines, times = [f"| {model.parameter_count():,} weights | {header} |", f"|---|{'---:|---:|' * len(works)}"], {}
    for what, work in works.items():
        times[what] = in_turns({name: lambda m=m, work=work: work(m) for name, m in models.items()}, rounds=rounds)
    for name in models:
        cells = []
        for what, taken in times.items():
            ratios = taken["as it was"] / taken[name]
            each = 1e3 * np.median(taken[name]) / (1 if what.startswith("reading") else WRITTEN)
            cells.append(f"{each:.2f} | {np.median(ratios):.2f} ± {half_spread(ratios):.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


class Writing:
    """Reads prompts (B, T), then writes WRITTEN tokens behind each, one at a time."""

    def __init__(self, ids: np.ndarray):
        self.ids = ids

    def __call__(self, model: GPT) -> None:
        cache = model.new_cache(len(self.ids), self.ids.shape[1] + WRITTEN)
        scores = model.step(self.ids, cache)
        for _ in range(WRITTEN):
            scores = model.step(scores.argmax(axis=-1)[:, None], cache)


def steps_table(rounds: int, K: int = 768, M: int = 3072, layers: int = 12) -> str:
    """Nanoseconds a weight of one row times `layers` matrices (M, K), 113 MB as float32, and of the steps in it."""
    draw = np.random.default_rng(0)
    floats = [np.asfortranarray(draw.standard_normal((M, K), dtype=np.float32)) for _ in range(layers)]
    bytes = [np.asfortranarray(draw.integers(-127, 128, (M, K), dtype=np.int8)) for _ in range(layers)]
    halves = [w.astype(np.float16) for w in floats]
    packed = [np.asfortranarray(pack_int4(np.ascontiguousarray(w >> 4))) for w in bytes]
    x, rows = draw.standard_normal((1, K), dtype=np.float32), 40
    scale, scales = np.ones((M, 1), np.float32), np.ones((K // 32, M), np.float32).T
    place, nibbles = np.empty((rows, M), np.float32), np.empty((rows // 2, M), np.uint8)

    def become_floats(matrices: list) -> None:
        for w in matrices:
            for start in range(0, len(w.T), rows):
                block = w.T[start : start + rows]
                np.copyto(place[: len(block)], block)

    def take_apart(matrices: list) -> None:
        for w in matrices:
            for start in range(0, len(w.T), rows // 2):
                block = w.T[start : start + rows // 2]
                for shift in (0, 4):
                    np.right_shift(block, shift, out=nibbles[: len(block)])
                    np.bitwise_and(nibbles[: len(block)], 15, out=nibbles[: len(block)])

    works = {
        "float32: read, multiplied": lambda: [x @ w.T for w in floats],
        "8 bits: read, made floats in the cache, multiplied": lambda: [weight_matmul(x, w, scale) for w in bytes],
        "8 bits: read, made floats in the cache": lambda: become_floats(bytes),
        "4 bits, groups of 32: the whole": lambda: [weight_matmul(x, w, scales) for w in packed],
        "4 bits: read, taken apart": lambda: take_apart(packed),
        "float16: read, made floats in the cache": lambda: become_floats(halves),
    }
    taken = in_turns(works, rounds=rounds)
    lines = [f"- {name}: {1e9 * np.median(taken[name]) / (layers * K * M):.2f} ns a weight" for name in works]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
