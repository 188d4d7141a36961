"""Step time against size, here and in PyTorch eager: over the width, the context and the batch, on logarithmic axes.

    python -m benchmarks.scaling                           draws benchmarks/results/scaling.png

The other two sizes stay at nanoGPT small's: 4 layers, width 128 (heads of 32), context 64, batch 12.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.train_step import race
from models import GPTConfig
from tinytensor.distributed import core_count

SIZES = {
    "width": (64, 128, 256, 512, 768),
    "context": (32, 64, 128, 256, 512, 1024),
    "batch": (2, 4, 8, 16, 32, 64),
}


def shape(size: str, value: int) -> tuple[GPTConfig, int]:
    """(config, batch) with one size changed."""
    sizes = dict(width=128, context=64, batch=12) | {size: value}
    width = sizes["width"]
    config = GPTConfig(
        vocab_size=65, context=sizes["context"], layers=4, heads=width // 32, width=width, bias=False
    )
    return config, sizes["batch"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="timed steps of each [7]")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/scaling.png"))
    args = parser.parse_args()
    from matplotlib.figure import Figure

    workers = core_count()
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for axes, (size, values) in zip(figure.subplots(1, 3, sharey=True), SIZES.items()):
        times = []
        for value in values:
            ours, theirs = race(*shape(size, value), workers, "auto", args.rounds)
            times.append((ours, theirs))
            print(f"{size:8} {value:5}   ours {ours:8.1f} ms   PyTorch {theirs:8.1f} ms   ratio {ours / theirs:.2f}")
        for side, label, color in ((1, "PyTorch eager", "#d94801"), (0, "tinytensor", "#08519c")):
            axes.loglog(values, [pair[side] for pair in times], marker="o", color=color, label=label)
        axes.set_xticks(values, [str(value) for value in values])
        axes.minorticks_off()
        axes.set_xlabel(size)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("training step (ms)")
    figure.axes[0].legend()
    figure.savefig(args.out, dpi=120)
    print(f"drawn: {args.out}")


if __name__ == "__main__":
    main()
