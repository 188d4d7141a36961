"""What pretraining is worth: one model fine-tuned on the stories' sets, and the same model never pretrained.

    python -m benchmarks.finetune runs/bert-1
    python -m benchmarks.finetune runs/bert-1 --sets roles questions --examples 500 --epochs 6

Both learn from the same examples in the same order for the same number of steps; the figures are the main metric of the
task on 500 held-out examples (half as many as there are to train on, if those are fewer). Chance is the best that can
be had without reading: the most frequent class, or no answer at all.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

from train import checkpoint, finetune
from train.commands.finetune import TRAINING, fresh
from train.data.stories import tasks
from train.tasks import TASKS

SETS = ("sentiment", "coherence", "roles", "questions", "next")


def score(pretrained, name: str, examples: int, epochs: int, settings: dict) -> tuple[str, float, float]:
    """(main metric, its value, the value without reading) of one model on one set."""
    kind, _ = tasks.SETS[name]
    first = 2 * settings["seed"]
    train = tasks.examples(name, examples, seed=first + 1)
    held_out = tasks.examples(name, max(20, min(500, examples // 2)), seed=first + 2)
    task = TASKS[kind].of(train, held_out)
    with tempfile.TemporaryDirectory() as folder:
        trainer = finetune.begin(Path(folder), pretrained, task, train, held_out, epochs=epochs, settings=settings)
        trainer.report.start(0)
        trainer.train()
        trainer.report.close()
    metric, value = next(iter(trainer.report.scores.items()))
    return metric, value, task.score(held_out, blind(kind, train, held_out))[metric]


def blind(kind: str, train: list[dict], held_out: list[dict]) -> list:
    """Answers that need no reading."""
    if kind == "tag":
        return [["O"] * len(example["words"]) for example in held_out]
    field = "answer" if kind == "answer" else "label"
    most_frequent = Counter(example[field] for example in train).most_common(1)[0][0]
    return [most_frequent] * len(held_out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the pretrained model")
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS, help="which sets [all]")
    parser.add_argument("--examples", type=int, default=1000, help="to train on [1000]")
    parser.add_argument("--epochs", type=int, default=5, help="[5]")
    parser.add_argument("--lr", type=float, default=TRAINING["lr"], help=f"of both [{TRAINING['lr']}]")
    parser.add_argument("--seed", type=int, default=0, help="of the examples, the first weights and the batches [0]")
    parser.add_argument("--workers", type=int, default=0, help="[one per core]")
    args = parser.parse_args()
    settings = TRAINING | dict(workers=args.workers, lr=args.lr, seed=args.seed)
    print("| set | metric | without reading | without pretraining | pretrained |\n|---|---|---|---|---|")
    for name in args.sets:
        row = []
        for forget in (True, False):
            model, tokenizer = checkpoint.load_model(args.run)
            family = checkpoint.family_of(model)
            model = fresh(model, seed=args.seed) if forget else model
            metric, value, chance = score((family, model, tokenizer), name, args.examples, args.epochs, settings)
            row.append(f"{value:.3f}")
        print(f"| {name} | {metric} | {chance:.3f} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
