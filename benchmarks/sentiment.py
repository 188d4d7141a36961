"""Which feeling does a passage of the stories leave? A pretrained GPT, the same one fresh, and a bag of words.

    python -m train gpt --out runs/stories                     about two minutes on two cores
    python -m benchmarks.sentiment runs/stories

All learn from the same examples and answer the same 500 others. The bag of words is logistic regression over the words
(and pairs of neighbouring words, if they help) of a passage, its L2 penalty chosen on a fifth of its examples.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

import tinytensor as tt
from benchmarks.finetune import fresh
from nn import Linear
from train import checkpoint, finetune
from train.data.stories import tasks
from train.finetune import TRAINING, FineTuneConfig
from train.optim import AdamW
from train.tasks import Classify

PENALTIES = (0.0, 1e-4, 1e-3, 1e-2)


def words_of(text: str, pairs: bool) -> list[str]:
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    return words + ([f"{a} {b}" for a, b in zip(words, words[1:])] if pairs else [])  # noqa: RUF007


def bag_accuracy(train: list[dict], held_out: list[dict], pairs: bool) -> float:
    """The share of held-out examples that logistic regression gets right."""
    labels = sorted({example["label"] for example in train})
    known = {word: n for n, word in enumerate(sorted({w for e in train for w in words_of(e["text"], pairs)}))}

    def bags(examples: list[dict]) -> np.ndarray:
        """log(1 + how often each word occurs)."""
        x = np.zeros((len(examples), len(known)), np.float32)
        for row, example in enumerate(examples):
            for word, count in Counter(words_of(example["text"], pairs)).items():
                if word in known:
                    x[row, known[word]] = np.log1p(count)
        return x

    def fit(x: np.ndarray, y: np.ndarray, penalty: float) -> Linear:
        layer = Linear(x.shape[1], len(labels), weight_init=np.zeros)
        optimizer = AdamW(layer.parameters(), lr=0.05, weight_decay=0.0)
        for step in range(300):
            loss = tt.ops.cross_entropy(layer(tt.Tensor(x)), y) + (layer.weight * layer.weight).sum() * penalty
            loss.backward()
            optimizer.step(0.05 * (1 - step / 300))
            optimizer.zero_grad()
        return layer

    def right(layer: Linear, x: np.ndarray, y: np.ndarray) -> float:
        return float((layer(tt.Tensor(x)).data.argmax(1) == y).mean())

    x, y = bags(train), np.array([labels.index(example["label"]) for example in train])
    fifth = len(x) // 5
    best = max(PENALTIES, key=lambda penalty: right(fit(x[fifth:], y[fifth:], penalty), x[:fifth], y[:fifth]))
    answers = [labels.index(example["label"]) for example in held_out]
    return right(fit(x, y, best), bags(held_out), np.array(answers))


def gpt_accuracy(run: Path, train: list[dict], held_out: list[dict], epochs: int, pretrained: bool, seed: int) -> float:
    """The same of a GPT after fine-tuning."""
    model, tokenizer = checkpoint.load_model(run)
    model = model if pretrained else fresh(model, seed)
    with tempfile.TemporaryDirectory() as folder:
        task = Classify.of(train, held_out)
        settings = TRAINING | dict(workers=1, seed=seed)
        config = FineTuneConfig(epochs=epochs)
        trainer = finetune.begin(Path(folder), (model, tokenizer), task, train, held_out, config, settings)
        trainer.report.evaluated = lambda step, loss: None  # one look at the end is enough
        trainer.report.start(0)
        trainer.train()
        trainer.report.close()
        answers = trainer.report.tuned.answers(held_out)
    return float(np.mean([answer == example["label"] for answer, example in zip(answers, held_out)]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a GPT pretrained on the stories")
    parser.add_argument("--examples", type=int, nargs="*", default=[50, 200, 1000], help="sizes of training sets")
    parser.add_argument("--seeds", type=int, default=1, help="repetitions, each with other examples [1]")
    args = parser.parse_args()
    held_out = tasks.examples("sentiment", 500, seed=1000)
    print("| examples | bag of words | bag of words and pairs | fresh GPT | pretrained GPT |\n|---|---|---|---|---|")
    for count in args.examples:
        epochs = max(3, 1000 // count)
        rows = []
        for seed in range(1, args.seeds + 1):
            train = tasks.examples("sentiment", count, seed=seed)
            bags = [bag_accuracy(train, held_out, pairs) for pairs in (False, True)]
            gpts = [gpt_accuracy(args.run, train, held_out, epochs, pretrained, seed) for pretrained in (False, True)]
            rows.append(bags + gpts)
        print(f"| {count} | " + " | ".join(f"{100 * value:.1f}%" for value in np.mean(rows, axis=0)) + " |", flush=True)


if __name__ == "__main__":
    main()
