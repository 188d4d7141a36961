"""What one small op costs in Python, here and in PyTorch eager: x + y and x @ w on 4 x 4 arrays, in microseconds.

    python -m benchmarks.dispatch

At this size the arithmetic takes no time; what is left is finding the kernel, allocating the result and recording the
graph. Medians of many rounds that take turns.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np

import tinytensor as tt


def microseconds(function, calls: int = 2000) -> float:
    """The time of one call, from `calls` in a row."""
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return 1e6 * (time.perf_counter() - start) / calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25, help="rounds of 2000 calls each [25]")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    a = np.random.default_rng(0).standard_normal((4, 4), dtype=np.float32)
    x, w = tt.Tensor(a, requires_grad=True), tt.Tensor(a.copy(), requires_grad=True)
    p, q = (torch.from_numpy(a.copy()).requires_grad_() for _ in range(2))
    print(f"{'':24} {'ours':>8} {'PyTorch':>8} {'NumPy':>8}   microseconds")
    for name, ours, theirs, bare in (
        ("x + y", lambda: x + w, lambda: p + q, lambda: a + a),
        ("x @ w", lambda: x @ w, lambda: p @ q, lambda: a @ a),
        ("(x @ w).sum().backward()", lambda: (x @ w).sum().backward(), lambda: (p @ q).sum().backward(), None),
    ):
        sides = [side for side in (ours, theirs, bare) if side]
        rounds = [[microseconds(side) for side in sides] for _ in range(args.rounds)]
        medians = [statistics.median(column) for column in zip(*rounds)]
        print(f"{name:24} " + " ".join(f"{median:8.2f}" for median in medians))


if __name__ == "__main__":
    main()
