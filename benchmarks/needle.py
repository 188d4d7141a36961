"""A needle in a haystack: "Tom has the kite.", told once in up to 32,768 tokens of stories; who has the kite?

    python -m train gpt --stories 16000000 --rotary 10000 --layers 4 --context 512 --steps 3000 --out runs/stories
    python -m benchmarks.needle runs/stories --numbers needle.json

A GPT that has learned the stories learns to find needles: two in 54 tokens, then more in more, up to eight in 2,048. It
is asked in longer texts, with positions stretched and nothing learned anew; then it learns from texts of 4,096 to
32,768 tokens, with positions that reach so far, and is asked again. Accuracy against depth and length is drawn as
docs/needle.png.

The eight needles of a text stand one in each eighth, each of another thing, which nothing else in the text mentions. At
its end they are asked for: "Who has the kite", and the next token must be the name, of 20 names and a thousand tokens.
To learn, needles are asked for with replacement: were each asked for once, the model would learn which are left.
"""

import argparse
import copy
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

import tinytensor as tt
from models import GPT
from models.opening import load
from models.stretch import recomputing, stretched
from models.tokenizers import Tokenizer
from tinytensor import backend
from tinytensor.ops.softmax import IGNORED
from train.data import stories
from train.data.stories.facts import NAMES, THINGS
from train.optim import AdamW, clip_grad_norm

NEEDLES, QUESTIONS = 8, 6
# (tokens of a text, needles in it, texts in a step, steps, rate) of what is learned: in short texts, then in long ones.
# At rates of 1e-3 and more it learned to name one of the names that were told, and no more.
SHORT = ((54, 2, 32, 700, 5e-4), (96, 4, 24, 400, 5e-4), (256, 8, 12, 400, 5e-4), (512, 8, 8, 150, 5e-4),
         (1024, 8, 4, 100, 4e-4), (2048, 8, 2, 150, 3e-4))  # fmt: skip
LONG = ((4096, 8, 1, 80, 3e-4), (8192, 8, 1, 40, 3e-4), (16384, 8, 1, 12, 3e-4), (32768, 8, 1, 3, 3e-4))
LENGTHS = {2048: 24, 4096: 24, 8192: 16, 16384: 10, 32768: 6}  # texts that are asked about
STRETCHED, TRAINED = "learned from 2,048 tokens, stretched", "learned from up to 32,768 tokens"


class Texts:
    """Texts with needles, any number from a seed."""

    def __init__(self, tokenizer: Tokenizer, seed: int, characters: int = 4_000_000):
        self.tokenizer, self.draw = tokenizer, random.Random(f"needles {seed}")
        told = [story.text + stories.SEPARATOR for story in stories.enough(characters, seed)]
        self.stories = [tokenizer.encode(text) for text in told]
        self.mentions = [{thing for thing in THINGS if f" {thing}" in text} for text in told]
        (self.stop,) = tokenizer.encode(".")

    def text(self, length: int, needles: int, questions: int = 0) -> tuple[list[int], list[tuple[int, int, list[int]]]]:
        """Its tokens, and (part, place, answer) of each question: in which part of the text its needle stands, where
        its answer does, and the tokens of that.   questions: how many; 0 asks for each needle once."""
        encode, draw = self.tokenizer.encode, self.draw
        told = [(part, thing, draw.choice(NAMES)) for part, thing in enumerate(draw.sample(THINGS, needles))]
        tokens = [encode(f" {name} has the {thing}.") for _, thing, name in told]
        asked = draw.choices(told, k=questions) if questions else draw.sample(told, needles)
        end, answers = [], []
        for part, thing, name in asked:
            end += encode(f"\nWho has the {thing}")
            answer = encode(f" {name}")
            answers.append((part, len(end), answer))
            end += answer
        hay = self._hay(length - len(end) - sum(map(len, tokens)), {thing for _, thing, _ in told})
        stops = [0] + [place + 1 for place, token in enumerate(hay) if token == self.stop]
        for part in reversed(range(needles)):  # from behind, so that places before stay as they are
            wanted = (part + draw.random()) / needles * len(hay)
            place = min(stops, key=lambda stop: abs(stop - wanted))
            stops = [stop for stop in stops if stop <= place]
            hay[place:place] = tokens[part]
        return hay + end, [(part, len(hay) + place, answer) for part, place, answer in answers]

    def _hay(self, length: int, things: set[str]) -> list[int]:
        hay: list[int] = []
        while len(hay) < length:
            number = self.draw.randrange(len(self.stories))
            if not self.mentions[number] & things:
                hay += self.stories[number]
        return hay[:length]

    def batch(self, length: int, needles: int, size: int) -> dict:
        """What a GPT learns from: only the answers are targets."""
        ids, targets = np.zeros((size, length), int), np.full((size, length), IGNORED)
        for row in range(size):
            ids[row], answers = self.text(length, needles, QUESTIONS)
            for _, place, answer in answers:
                targets[row, place - 1 : place - 1 + len(answer)] = answer
        return {"ids": ids, "targets": targets}


def learn(gpt: GPT, texts: Texts, stages: Sequence[tuple]) -> None:
    """Go through stages such as SHORT."""
    parameters = [*gpt.parameters()]
    optimizer, begun = AdamW(parameters, lr=1e-3, weight_decay=0.01), time.process_time()
    gpt.train()
    for length, needles, size, steps, rate in stages:
        recomputing(gpt, length > 1024)
        losses = []
        for step in range(steps):
            loss = gpt.loss(texts.batch(length, needles, size))
            loss.backward()
            clip_grad_norm(parameters, 1.0)
            optimizer.step(rate * min(1.0, (optimizer.steps + 1) / 20))
            optimizer.zero_grad()
            losses.append(float(loss.data))
            if step + 1 in (steps, *range(0, steps, 50)):
                print(f"{needles} in {length:5,} tokens, step {step + 1:4} of {steps}: {np.mean(losses[-50:]):.3f} "
                      f"nats an answer, {time.process_time() - begun:.0f} s", flush=True)  # fmt: skip
    gpt.eval()


def ask(gpt: GPT, texts: Texts, length: int, count: int) -> list[float]:
    """The share that is right of the needles of each eighth."""
    recomputing(gpt, True)
    right = np.zeros(NEEDLES)
    for _ in range(count):
        ids, answers = texts.text(length, NEEDLES)
        with tt.no_grad():
            said = backend.to_numpy(gpt(np.array([ids])).data)[0].argmax(axis=1)
        for part, place, answer in answers:
            right[part] += said[place - 1 : place - 1 + len(answer)].tolist() == answer
    return (right / count).tolist()


def measure(run: Path) -> dict[str, dict[str, list[float]]]:
    """What each of the two models finds: by length, the share of each eighth."""
    gpt, tokenizer = load(run)
    if not gpt.rotary:
        raise ValueError(f"{run} has learned positions; stretching wants rotary ones: train gpt --rotary 10000")
    found: dict[str, dict[str, list[float]]] = {}
    short = max(length for length, *_ in SHORT)
    for name, stages, reach in ((STRETCHED, SHORT, short), (TRAINED, LONG, max(LENGTHS))):
        gpt = stretched(gpt, reach)
        learn(gpt, Texts(tokenizer, reach), stages)
        found[name] = {}
        for length, count in LENGTHS.items():
            one = stretched(copy.deepcopy(gpt), max(length, reach))
            shares = found[name][str(length)] = ask(one, Texts(tokenizer, 9), length, count)
            print(f"{name}; in {length:6,} tokens {np.mean(shares):.0%}: {np.round(shares, 2).tolist()}", flush=True)
    return found


def draw(found: dict[str, dict[str, list[float]]], out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.6), layout="constrained")
    for axes, (name, shares) in zip(figure.subplots(1, len(found)), found.items()):
        table = 100 * np.array([*shares.values()]).T  # (eighths, lengths)
        shown = axes.imshow(table, vmin=0, vmax=100, cmap="RdYlGn", aspect="auto")
        for (row, column), value in np.ndenumerate(table):
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=8)
        axes.set_xticks(range(len(shares)), [f"{int(length):,}" for length in shares])
        axes.set_yticks([-0.5, NEEDLES / 2 - 0.5, NEEDLES - 0.5], ["beginning", "middle", "end"])
        axes.set_xlabel("tokens of a text")
        axes.set_title(name, fontsize=10)
    figure.axes[0].set_ylabel("where the needle is told")
    figure.colorbar(shown, ax=figure.axes, label="found (%)")
    figure.savefig(out, dpi=100)
    print(f"drawn: {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", type=Path, help="a GPT that has learned the stories, with --rotary")
    parser.add_argument("--numbers", type=Path, help="a file of what was measured; if it is there, it is only drawn")
    parser.add_argument("--out", type=Path, default=Path("docs/needle.png"))
    args = parser.parse_args()
    backend.cpu.tune_malloc()
    threadpool_limits(1)
    there = args.numbers and args.numbers.exists()
    found = json.loads(args.numbers.read_text()) if there else measure(args.run)
    if args.numbers:
        args.numbers.write_text(json.dumps(found))
    draw(found, args.out)


if __name__ == "__main__":
    main()
