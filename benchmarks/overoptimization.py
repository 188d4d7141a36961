"""What is lost by pressing a learned reward too hard: gold and proxy against the distance from where one began.

    python -m train ppo runs/finetune-1 --reward runs/reward-1 --kl 0 --lr 1e-3
    python -m benchmarks.overoptimization runs/finetune-1 runs/reward-1 runs/ppo-2 --out docs/overoptimization.png

Gao, Schulman & Hilton 2022 (arXiv:2210.10760) fit the gold reward at a distance d = sqrt(KL), counted from its start:

    the best of n       d (a - b d)          reinforcement       d (a - b ln d)

Here it is fitted up to where gold has fallen back to where it began: beyond that replies fall apart. The PPO runs'
phases are read from their metrics.jsonl. The best of n is reckoned for all n at once from N replies to each request:
the reply of rank i by the proxy, from below, is the best of n with probability C(i - 1, n - 1) / C(N, n). Its KL is
ln n - (n - 1) / n where no two rewards are equal, else less.
"""

import argparse
import json
from math import comb
from pathlib import Path

import numpy as np

from benchmarks.assistants import SEED, from_talker
from tinytensor.distributed import blas_threads
from train.data.stories import dialogues
from train.preference import start
from train.preference.estimators import best_of_n_kl
from train.preference.replies import text_of
from train.preference.rewarder import Rewarder
from train.report import picture


def best_of_all(gold: np.ndarray, proxy: np.ndarray) -> dict[int, tuple[float, float]]:
    """n -> (gold, proxy) of the best of n by the proxy, on average over all choices of n of the N replies.

    gold, proxy: (requests, N).
    """
    N, order = gold.shape[1], np.argsort(proxy, axis=1, kind="stable")
    ranked = [np.take_along_axis(values, order, axis=1).mean(axis=0) for values in (gold, proxy)]
    found = {}
    for n in (2**k for k in range(int(np.log2(N)) + 1)):
        chance = np.array([comb(i, n - 1) for i in range(N)], float) / comb(N, n)
        found[n] = tuple(float(values @ chance) for values in ranked)
    return found


def fitted(points: list[tuple[float, float]], bend) -> tuple[float, float]:
    """(a, b) of d (a - b bend(d)), by least squares.   points: (d > 0, gold above that of d = 0)."""
    d, gold = np.array(points).T
    a, b = np.linalg.lstsq(np.stack([d, -d * bend(d)], axis=1), gold, rcond=None)[0]
    return float(a), float(b)


def phases(run: Path) -> list[tuple[float, float, float]]:
    """(sqrt of KL, gold, proxy) of each phase of a run of ppo."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(max(0.0, line["kl"]) ** 0.5, line["gold"], line["reward"]) for line in lines if "kl" in line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("talker", type=Path)
    parser.add_argument("reward", type=Path)
    parser.add_argument("ppo", type=Path, nargs="+")
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--samples", type=int, default=64, help="N")
    parser.add_argument("--out", type=Path, default=Path("overoptimization.png"))
    args = parser.parse_args()
    with blas_threads(1):
        talker = start.talker(args.talker)
        requests = start.as_demonstrations(dialogues.preferences(args.requests, SEED))
        rewarder = Rewarder.of(args.reward, dialogues.preferences(300, 2))
        texts = [[text_of(talker, ids) for ids in some] for some in from_talker(talker, requests, args.samples)[1]]
        gold = np.array([[dialogues.gold(e["case"], text) for text in some] for e, some in zip(requests, texts)])
        asked = [e["messages"][:-1] for e in requests for _ in range(args.samples)]
        proxy = rewarder(asked, [text for some in texts for text in some]).reshape(gold.shape)
    best = {best_of_n_kl(n) ** 0.5: values for n, values in best_of_all(gold, proxy).items()}
    curves = {f"best of 1 to {args.samples}": ([(d, *values) for d, values in best.items()], lambda d: d, "d")}
    curves |= {run.name: (phases(run), np.log, "ln d") for run in args.ppo}
    drawn = draw(args.out, [told(name, *curve) for name, curve in curves.items()])
    print(f"drawn: {args.out}" if drawn else "no matplotlib, so nothing is drawn")


def told(name: str, points: list[tuple], bend, letter: str) -> tuple[str, list[tuple], str, np.ndarray, np.ndarray]:
    """(name, points (d, gold, proxy), the fitted curve in words, its d, its gold)"""
    first, *rest = points
    zero = first[1]
    fell = next((i for i, (_, gold, _) in enumerate(rest) if i > 2 and gold < zero), len(rest))
    a, b = fitted([(d, gold - zero) for d, gold, _ in rest[:fell] if d > 0], bend)
    curve = f"{zero:.2f} + d ({a:.2f} - {b:.2f} {letter})"
    top, end = max(points, key=lambda point: point[1]), points[-1]
    path = ", ".join(f"{gold:.2f} and {proxy:.2f} at d = {d:.2f}" for d, gold, proxy in (first, top, end))
    print(f"{name}: gold and proxy {path}; gold fits {curve}")
    d = np.linspace(0.02, max(point[0] for point in rest[:fell]), 60)
    return name, points, curve, d, zero + d * (a - b * bend(d))


def draw(path: Path, curves: list[tuple]) -> bool:
    """Gold with the fitted curves, and beside it the proxy."""

    def panels(axes) -> None:
        places = axes.figure.add_gridspec(1, 2)
        axes.set_subplotspec(places[0])
        other = axes.figure.add_subplot(places[1], xlabel="d = sqrt(KL from the talker)", ylabel="proxy")
        for number, (name, points, curve, d, gold) in enumerate(curves):
            style = dict(color=f"C{number}", marker="o", markersize=4)
            xs, golds, proxies = zip(*points)
            axes.plot(xs, golds, linewidth=0, label=name, **style)
            axes.plot(d, gold, color=f"C{number}", label=curve)
            other.plot(xs, proxies, linewidth=0, label=name, **style)
        for panel in (axes, other):
            panel.grid(alpha=0.3)
            panel.legend()

    return picture(path, panels, "d = sqrt(KL from the talker)", "gold, of 4", "", (11, 4.5))


if __name__ == "__main__":
    main()
