"""What pretraining is worth: one model fine-tuned on the stories' sets, and the same model never pretrained.

    python -m benchmarks.finetune runs/bert-1
    python -m benchmarks.finetune runs/bert-1 --sets roles questions --examples 500 --epochs 6 --lr 5e-4 --seeds 0
    python -m benchmarks.finetune runs/xlnet-1 --pretrained-only                    half of the work

Both learn from the same examples in the same order for the same number of steps; the figures are the main metric of the
task on the held-out examples, mean and standard error over the seeds, each with examples, first weights and batches of
its own. Where several rates are given, either model takes the one that suits it best on a fifth of the training
examples of the first seed, after training on the rest: the held-out ones have no say. Chance is the best that can be
had without reading: the most frequent class, or no answer.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

import tinytensor as tt
from train import checkpoint, finetune
from train.data.stories import tasks
from train.finetune import TRAINING, FineTuneConfig
from train.tasks import TASKS

SETS = ("sentiment", "coherence", "roles", "questions", "next")


def fresh(model, seed: int):
    """The same pretrained model as it was before it learned anything."""
    with tt.random.seeded(seed):
        return type(model)(model.config)


def learn(start: Callable, task, train: list[dict], held_out: list[dict], epochs: int, settings: dict):
    """Fine-tune the model that start() gives; (its main metric, the value on the held-out examples)."""
    with tempfile.TemporaryDirectory() as folder:
        config = FineTuneConfig(epochs=epochs)
        trainer = finetune.begin(Path(folder), start(), task, train, held_out, config, settings)
        trainer.report.start(0)
        trainer.train()
        trainer.report.close()
    return next(iter(trainer.report.scores.items()))


def best_rate(start: Callable, task, examples: list[dict], epochs: int, rates: list[float], settings: dict) -> float:
    """The rate that does best on a fifth of the examples, after training on the others."""
    if len(rates) == 1:
        return rates[0]
    parts = [e for i, e in enumerate(examples) if i % 5], examples[::5]
    scores = [learn(start, task, *parts, epochs, settings | {"lr": rate})[1] for rate in rates]
    return rates[int(np.argmax(scores))]


def blind(kind: str, train: list[dict], held_out: list[dict]) -> list:
    """Answers that need no reading."""
    if kind == "tag":
        return [["O"] * len(example["words"]) for example in held_out]
    field = "answer" if kind == "answer" else "label"
    most_frequent = Counter(example[field] for example in train).most_common(1)[0][0]
    return [most_frequent] * len(held_out)


def mean_and_error(values: list[float]) -> str:
    error = f" ± {np.std(values, ddof=1) / np.sqrt(len(values)):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the pretrained model")
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS, help="which sets [all]")
    parser.add_argument("--examples", type=int, default=1000, help="to train on [1000]")
    parser.add_argument("--held-out", type=int, default=500, help="to measure on [500]")
    parser.add_argument("--epochs", type=int, default=5, help="[5]")
    parser.add_argument("--lr", type=float, nargs="+", default=[5e-4, 1e-3, 2e-3], help="rates to choose from")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="[0 1 2]")
    parser.add_argument("--pretrained-only", action="store_true", help="leave out the same model never pretrained")
    parser.add_argument("--workers", type=int, default=0, help="[one per core]")
    args = parser.parse_args()

    def start(seed: int, forget: bool) -> tuple:
        model, tokenizer = checkpoint.load_model(args.run)
        return fresh(model, seed) if forget else model, tokenizer

    sides = (False,) if args.pretrained_only else (True, False)
    heads = [f"{'without pretraining' if forget else 'pretrained'} | rate" for forget in sides]
    print(f"| set | metric | without reading | {' | '.join(heads)} |\n" + "|---" * (3 + 2 * len(sides)) + "|")
    for name in args.sets:
        kind, _ = tasks.SETS[name]
        rates: dict[bool, float] = {}
        scores: dict[object, list[float]] = {"chance": [], True: [], False: []}
        for seed in args.seeds:
            train = tasks.examples(name, args.examples, seed=2 * seed + 1)
            held_out = tasks.examples(name, args.held_out, seed=2 * seed + 2)
            task = TASKS[kind].of(train, held_out)
            settings = TRAINING | dict(workers=args.workers, seed=seed)
            scores["chance"].append(next(iter(task.score(held_out, blind(kind, train, held_out)).values())))
            for forget in sides:
                begin = lambda seed=seed, forget=forget: start(seed, forget)
                if forget not in rates:
                    rates[forget] = best_rate(begin, task, train, args.epochs, args.lr, settings)
                rate = {"lr": rates[forget]}
                metric, value = learn(begin, task, train, held_out, args.epochs, settings | rate)
                scores[forget].append(value)
        cells = [mean_and_error(scores["chance"])]
        for forget in sides:
            cells += [mean_and_error(scores[forget]), f"{rates[forget]:g}"]
        print(f"| {name} | {metric} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
