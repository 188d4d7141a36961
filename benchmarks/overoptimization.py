"""What is lost by pressing a learned reward too hard: gold and proxy against the distance from where one began.

    python -m train ppo runs/finetune-1 --reward runs/reward-1 --kl 0
    python -m benchmarks.overoptimization runs/finetune-1 runs/reward-1 runs/ppo-2 --out docs/overoptimization.png

Gao, Schulman & Hilton 2022 (arXiv:2210.10760) fit the gold reward at a distance d = sqrt(KL), counted from its start:

    the best of n       d (a - b d)          reinforcement       d (a - b ln d)

The PPO runs' phases are read from their metrics.jsonl. The best of n is reckoned for all n at once from N replies to
each request: the reply of rank i by the proxy, from below, is the best of n with probability C(i - 1, n - 1) / C(N, n).
Its KL is ln n - (n - 1) / n where no two rewards are equal, else less.
"""

import argparse
import json
from math import comb
from pathlib import Path

import numpy as np

from benchmarks.assistants import SEED, from_talker
from tinytensor.distributed import blas_threads
from train.data.stories import dialogues
from train.plots import draw_panels
from train.preference import start
from train.preference.estimators import best_of_n_kl
from train.preference.replies import text_of
from train.preference.rewarder import Rewarder


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
    """(a, b) of d (a - b bend(d)), by least squares.   points: (d, gold from where d is 0)."""
    d, gold = np.array([point for point in points if point[0] > 0]).T
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
    golds, proxies = {}, {}
    curves = {f"best of 1 to {args.samples}": ([(d, *values) for d, values in best.items()], lambda d: d, "d")}
    curves |= {run.name: (phases(run), np.log, "ln d") for run in args.ppo}
    for name, (points, bend, letter) in curves.items():
        golds[name], proxies[name] = [point[:2] for point in points], [(point[0], point[2]) for point in points]
        zero = golds[name][0][1]
        a, b = fitted([(d, value - zero) for d, value in golds[name]], bend)
        line = np.linspace(0.02, max(point[0] for point in points), 60)
        golds[f"{zero:.2f} + d ({a:.2f} - {b:.2f} {letter})"] = list(zip(line, zero + line * (a - b * bend(line))))
        top, end = max(golds[name], key=lambda point: point[1]), golds[name][-1]
        print(f"{name}: gold {zero:.2f} at first, {top[1]:.2f} at d = {top[0]:.2f}, {end[1]:.2f} at d = {end[0]:.2f}; "
              f"proxy {points[0][2]:.2f}, {points[-1][2]:.2f}; gold fits {zero:.2f} + d ({a:.2f} - {b:.2f} {letter})")
    drawn = draw_panels(args.out, [(golds, "gold, of 4"), (proxies, "proxy")], "d = sqrt(KL from the talker)", "")
    print(f"drawn: {args.out}" if drawn else "no matplotlib, so nothing is drawn")


if __name__ == "__main__":
    main()
