"""What does a GPT believe that others believe? Joint accuracy after pretraining alone, after fine-tuning, and of rules.

    python -m train gpt --out runs/stories                     about two minutes on two cores
    python -m benchmarks.beliefs runs/stories

Stories and questions as in train/data/stories/beliefs.py. Learned are rooms of the training world; asked are new rooms
of that world, rooms of the other one (its names and containers were never learned), and drives of the other one, a kind
of scene that was never learned. Joint: the share of stories of which all six questions are answered right; twins: of
stories together with their twins.

After pretraining alone the model is asked which place makes the sentence that a story would go on with more probable
("Anna looked for the ring in the box."); also after subtracting how probable the sentence is without the story. It is
fine-tuned to choose, by a head, and to reply, as a talker.
"""

import argparse
import random
import re
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.finetune import fresh
from models import GPT
from models.tokenizers import Tokenizer
from tinytensor.ops.softmax import IGNORED
from train import checkpoint, finetune
from train.data.stories import beliefs
from train.data.stories.beliefs import Story
from train.finetune import TRAINING, FineTuneConfig, FineTuned
from train.preference.replies import measured
from train.tasks import TASKS
from train.tasks.metrics import mean

SETS = {"rooms": ("training", "room"), "rooms, other names and containers": ("test", "room"),
        "drives, other names": ("test", "drive")}  # fmt: skip
KINDS = ("reality", "memory", "belief", "second")
Answers = list[list[str]]  # a place for each question of each story


def named(story: Story, which: int) -> str:
    return re.findall("|".join(story.places), story.text)[which]


def before_leaving(story: Story) -> str:
    """Where the thing was when somebody first went out, or was not told; if nobody was, where it is."""
    text = re.split(r"went out|The drive told nobody", story.text)[0]
    if story.scene == "drive":  # the move that nobody heard of comes before that sentence
        text = text[: text.rfind(" moved the ")] if text != story.text else text
    return re.findall(r"(?:in|to) the (" + "|".join(story.places) + ")", text)[-1]


RULES: dict[str, Callable[[Story], str]] = {
    "the place named first": lambda story: named(story, 0),
    "the place named last": lambda story: named(story, -1),
    "where it was at first": lambda story: story.places[0],
    "where it is": lambda story: story.questions[0].answer,
    "where it was when somebody left": before_leaving,
}


def row(who: str, stories: list[Story], answers: Answers) -> str:
    """A line of the table."""
    right = [[said == q.answer for said, q in zip(some, story.questions)] for some, story in zip(answers, stories)]
    each = [mean(one for ones, story in zip(right, stories) for one, q in zip(ones, story.questions)
                 if q.kind.startswith(kind)) for kind in KINDS]  # fmt: skip
    joint = mean(map(all, right))
    twins = mean(all(one) and all(other) for one, other in zip(right[::2], right[1::2]))
    return f"| {who} | {' | '.join(f'{100 * share:.1f}' for share in (*each, joint, twins))} |"


def more_probable(gpt: GPT, tokenizer: Tokenizer, stories: list[Story], calibrated: bool) -> Answers:
    """The place that makes what a story would go on with more probable."""
    asked = [(story, question) for story in stories for question in story.questions]
    logs = of_places(gpt, tokenizer, [(f"{s.text} {q.statement}", s.places) for s, q in asked])
    if calibrated:
        logs = logs - of_places(gpt, tokenizer, [(q.statement, s.places) for s, q in asked])
    said = iter(logs.argmax(axis=1))
    return [[story.places[next(said)] for _ in story.questions] for story in stories]


def of_places(gpt: GPT, tokenizer: Tokenizer, asked: list[tuple[str, tuple[str, str]]]) -> np.ndarray:
    """(N, 2): log p of " box." and of " jar." behind each text."""
    rows = []
    for text, places in asked:
        before = tokenizer.encode(text)
        ids = [[*before, *tokenizer.encode(f" {place}.")][-gpt.config.context - 1 :] for place in places]
        longest = max(map(len, ids)) - 1
        row = {"ids": np.zeros((2, longest), int), "targets": np.full((2, longest), IGNORED)}
        for n, one in enumerate(ids):
            row["ids"][n, : len(one) - 1] = one[:-1]
            first = len(one) - len(tokenizer.encode(f" {places[n]}.")) - 1
            row["targets"][n, first : len(one) - 1] = one[first + 1 :]
        rows.append(row)
    return measured(gpt, rows, pad)


def pad(rows: list[dict]) -> dict[str, np.ndarray]:
    longest = max(row["ids"].shape[1] for row in rows)
    wide = lambda array, fill: np.pad(array, ((0, 0), (0, longest - array.shape[1])), constant_values=fill)
    fills = {"ids": 0, "targets": IGNORED}
    return {name: np.stack([wide(row[name], fill) for row in rows]) for name, fill in fills.items()}


def learned(run: Path, name: str, count: int, epochs: int, lr: float, pretrained: bool) -> FineTuned:
    """The GPT of a run, or the same as it was before it learned anything, after learning one of the sets."""
    kind, make = beliefs.SETS[name]
    draw = random.Random(f"{name} learned")
    examples = list(islice(beliefs.examples(beliefs.stories(draw), make, draw), count))
    model, tokenizer = checkpoint.load_model(run)
    with tempfile.TemporaryDirectory() as folder:
        task, settings = TASKS[kind].of(examples), TRAINING | dict(workers=1, seed=1, lr=lr)
        start = (model if pretrained else fresh(model, 1)), tokenizer
        config = FineTuneConfig(epochs=epochs)
        trainer = finetune.begin(Path(folder), start, task, examples, examples[:60], config, settings)
        trainer.report.evaluated = lambda step, loss: None  # one look at the end is enough
        trainer.report.start(0)
        trainer.train()
        trainer.report.close()
    return trainer.report.tuned


def answers_of(tuned: FineTuned, name: str, stories: list[Story]) -> Answers:
    """What a fine-tuned model says: a place, or anything else."""
    draw, make = random.Random("asked"), beliefs.SETS[name][1]
    examples = [make(story, question, draw) for story in stories for question in story.questions]
    if tuned.task.kind == "chat":
        examples = [{"messages": example["messages"][:-1]} for example in examples]
    said = tuned.answers(examples)
    texts = [e["choices"][one] for e, one in zip(examples, said)] if tuned.task.kind == "choose" else said
    places = iter(re.sub(r"^In the (.*)\.$", r"\1", text) for text in texts)
    return [[next(places) for _ in story.questions] for story in stories]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a GPT pretrained on the stories")
    parser.add_argument("--learn", nargs="*", choices=("choose", "choose, fresh", "reply"), default=["choose", "reply"])
    parser.add_argument("--examples", type=int, default=6000, help="questions to learn from, six a story [6000]")
    parser.add_argument("--epochs", type=int, default=3, help="[3]")
    parser.add_argument("--lr", type=float, default=1e-3, help="[0.001]")
    parser.add_argument("--stories", type=int, default=200, help="to ask about, with their twins [200]")
    args = parser.parse_args()
    model, tokenizer = checkpoint.load_model(args.run)
    made = {name: list(islice(beliefs.stories(random.Random(f"asked {name}"), world, (scene,)), args.stories))
            for name, (world, scene) in SETS.items()}  # fmt: skip
    asked: dict[str, Callable[[list[Story]], Answers]] = {}
    for rule, place in RULES.items():
        asked[rule] = lambda stories, place=place: [[place(story)] * len(story.questions) for story in stories]
    asked["the more probable place"] = lambda stories: more_probable(model, tokenizer, stories, False)
    asked["the same, calibrated"] = lambda stories: more_probable(model, tokenizer, stories, True)
    for how in args.learn:
        name = "beliefs-chat" if how == "reply" else "beliefs"
        tuned = learned(args.run, name, args.examples, args.epochs, args.lr, pretrained="fresh" not in how)
        asked[f"fine-tuned to {how}"] = lambda stories, tuned=tuned, name=name: answers_of(tuned, name, stories)
    for name, stories in made.items():
        print(f"\n| {name} | reality | memory | belief | second order | joint | twins |\n|---|---|---|---|---|---|---|")
        print(f"| chance | 50.0 | 50.0 | 50.0 | 50.0 | {100 / 2**6:.1f} | {100 / 2**12:.2f} |")
        for who, answer in asked.items():
            print(row(who, stories, answer(stories)), flush=True)


if __name__ == "__main__":
    main()
