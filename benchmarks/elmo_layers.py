"""What do ELMo's layers know? A linear tagger on each of them, on the stories' roles (Peters et al. 2018, section 5).

    python -m train elmo --out runs/elmo                   first
    python -m benchmarks.elmo_layers runs/elmo

The ELMo is frozen, so its vectors are computed once; a linear layer learns from them which words name the doer, the
other one, the thing, the place. Compared: the character encoder alone, which knows nothing of the sentence; the top
layer's forward and backward halves; both side by side; and the scalar mix of all layers, learned with the tagger.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import tinytensor as tt
from models.families import FAMILIES
from nn import Linear, ScalarMix
from tinytensor import Tensor, ops
from train import checkpoint
from train.data.stories import tasks
from train.optim import AdamW
from train.tasks import Tag


def layers_of(body, inputs, task: Tag, examples: list[dict]) -> tuple[list[np.ndarray], np.ndarray]:
    """(each layer's vectors for all tagged words, (N, 2 * width) each; the numbers of their tags)."""
    found, tags = [], []
    with tt.no_grad():
        for example in examples:
            (row,) = task.rows(example, inputs)
            layers, _ = body.marked_layers(row.arrays["ids"][None])
            found.append(np.stack([layer.data[0, row.notes] for layer in layers]))
            tags.append(row.arrays["tags"][row.notes])
    return list(np.concatenate(found, axis=1)), np.concatenate(tags)


def learn(views: list[np.ndarray], tags: np.ndarray, kinds: int, steps: int):
    """A linear tagger of the mix of some views (one of them: as it is); returns a function from views to tags."""
    tt.manual_seed(0)
    mix, out = ScalarMix(len(views)), Linear(views[0].shape[1], kinds)
    optimizer = AdamW([*mix.parameters(), *out.parameters()], lr=1e-2, weight_decay=0.01)
    draw = np.random.default_rng(0)
    scores = lambda views: out(mix([Tensor(view[None]) for view in views]))[0]
    for step in range(steps):
        rows = draw.integers(0, len(tags), 256)
        ops.cross_entropy(scores([view[rows] for view in views]), tags[rows]).backward()
        optimizer.step(1e-2 * (1 - step / steps))
        optimizer.zero_grad()

    def answer(views: list[np.ndarray]) -> np.ndarray:
        with tt.no_grad():
            return scores(views).data.argmax(axis=-1)

    return answer, mix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of an ELMo's run")
    parser.add_argument("--examples", type=int, default=1000, help="passages to learn from, beside 500 held out [1000]")
    parser.add_argument("--steps", type=int, default=2000, help="updates of each tagger [2000]")
    args = parser.parse_args()
    model, tokenizer = checkpoint.load_model(args.run)
    body, inputs = FAMILIES["elmo"].reader(model, tokenizer)
    body.eval()
    examples, held_out = tasks.examples("roles", args.examples, seed=1), tasks.examples("roles", 500, seed=2)
    task = Tag.of(examples, held_out)
    train, tags = layers_of(body, inputs, task, examples)
    test, truth = layers_of(body, inputs, task, held_out)
    P = model.config.width
    views = {
        "characters alone": lambda layers: [layers[0][:, :P]],
        "forward": lambda layers: [layers[-1][:, :P]],
        "backward": lambda layers: [layers[-1][:, P:]],
        "forward and backward": lambda layers: [layers[-1]],
        "mix of all layers": lambda layers: layers,
    }
    print(f"{len(tags)} words to learn from, {len(truth)} held out; {len(task.tags)} tags")
    print(f"{'':24} {'accuracy':>9} {'span F1':>9}")
    for name, view in views.items():
        answer, mix = learn(view(train), tags, len(task.tags), args.steps)
        said, ends = answer(view(test)), np.cumsum([len(example["tags"]) for example in held_out])
        answers = [[task.tags[i] for i in part] for part in np.split(said, ends[:-1])]
        scores = task.score(held_out, answers)
        weights = ""
        if len(mix.weights) > 1:
            weights = "   weights " + " ".join(f"{w:.2f}" for w in mix.weights.softmax().data)
        print(f"{name:24} {scores['accuracy']:9.3f} {scores['f1']:9.3f}{weights}", flush=True)


if __name__ == "__main__":
    main()
