"""A model that reads pictures at work: asked about a picture in a file, talked to about one, and examined.

The examination asks as many questions of every form, about pictures of their own: such as the model learned from, and
such as have colours on things that it has never seen in that colour. Beside each stands what the same model says of the
same question about another picture, which is what can be known blind, and what guessing gives.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import tinytensor as tt
from models.generate import stream_text
from models.sight import Sight
from models.tokenizers import Tokenizer
from tinytensor.ops.softmax import IGNORED
from train import checkpoint
from train.data import images
from train.data.questions import FORMS, KINDS, examination
from train.objectives.pictured import Pictured, end_of
from train.tables import Markdown, markdown

BATCH = 64


def open_run(run: Path) -> tuple[Sight, Tokenizer]:
    """The model of a run that reads pictures."""
    if (family := checkpoint.family_in(run)) != "sight":
        holds = {None: "no run of ours", "finetuned": "a fine-tuned model"}.get(family, f"a {family}")
        raise ValueError(f"{run} holds {holds}, which reads no pictures; train one that does: python -m train sight")
    model, tokenizer = checkpoint.load_model(run)
    return model.for_inference(), tokenizer


def answers(model: Sight, tokenizer: Tokenizer, pixels: np.ndarray, question: str, temperature: float = 0.0,
            tokens: int | None = None) -> Iterator[str]:  # fmt: skip
    """What it says to a question about a picture (side, side, 3), piece by piece."""
    ids = tokenizer.encode(question)
    if not ids:
        raise ValueError("the question is empty; ask something about the picture")
    if (room := model.config.context - len(ids)) < 1:
        raise ValueError(f"a question of {len(ids)} tokens leaves no room in a context of {model.config.context}")
    said = stream_text(model.looking_at(pixels), tokenizer, ids, min(room, tokens or room), temperature=temperature,
                       end=end_of(tokenizer))  # fmt: skip
    first = True
    for piece in said:
        yield piece.lstrip() if first else piece
        first = False


def ask(args: argparse.Namespace) -> None:
    """`ask RUN --image FILE QUESTION ...`: an answer a line."""
    model, tokenizer = open_run(args.run)
    if args.image is None:
        raise ValueError(f"{args.run} reads pictures: say which with --image FILE")
    image, *questions = args.image
    if args.data or not (questions := [*questions, *args.texts]):
        raise ValueError('--image goes with questions: ask RUN --image FILE "What colour is the dog?"')
    model.to(args.device)
    pixels = images.load(Path(image), model.config.side)
    for question in questions:
        print("".join(answers(model, tokenizer, pixels, question)))


def chat(args: argparse.Namespace, lines: Iterator[str]) -> None:
    """`chat RUN --image FILE`: every line is a question about the picture, and is answered by itself."""
    if args.system or args.reward or args.search or args.search_with or args.top or args.best_of > 1:
        raise ValueError("--system, --search and --best-of are for talk without --image; leave them out")
    model, tokenizer = open_run(args.run)
    model.to(args.device)
    pixels = images.load(args.image, model.config.side)
    for turn, line in enumerate(lines):
        if line == "/quit":
            break
        if line.startswith("/"):
            print(f"{line} is unknown here; there is /quit")
            continue
        tt.manual_seed(args.seed, turn)
        for piece in answers(model, tokenizer, pixels, line, args.temperature or 0.0, args.tokens):
            print(piece, end="", flush=True)
        print()


def examine(model: Sight, objective: Pictured, each: int, *seed: int, unseen: bool = False) -> dict[str, np.ndarray]:
    """form -> (right, right with the picture of another question), shares of `each` questions."""
    right, asked = defaultdict(lambda: np.zeros(2)), [*examination(each, *seed, unseen=unseen)]
    with tt.no_grad():
        for start in range(0, len(asked), BATCH):
            some = asked[start : start + BATCH]
            rows = [(scene, [(question.text, question.answer)]) for scene, question in some]
            batch = objective.rows(rows, min(objective.context, 24))
            others = batch | {"pixels": np.roll(batch["pixels"], 1, axis=0)}
            for column, one in enumerate((batch, others)):
                for (_, question), said in zip(some, answered(model, one)):
                    right[question.form][column] += said
    return {form: right[form] / each for form in FORMS}


def answered(model: Sight, batch: dict) -> np.ndarray:
    """(B,): whether all tokens of a row's answer are the model's first choice, and so what it writes."""
    chosen = np.asarray(model.scores(batch).numpy()).argmax(axis=-1)
    return ((chosen == batch["targets"]) | (batch["targets"] == IGNORED)).all(axis=1)


def examined(model: Sight, objective: Pictured, each: int) -> Markdown:
    """The table: each kind of question, the mean over its forms."""
    seen, unseen = examine(model, objective, each, 1), examine(model, objective, each, 2, unseen=True)
    rows = [("asked", "right", "blind", "unseen pairs", "blind", "by chance")]
    for kind in KINDS:
        forms = [form for form in FORMS if FORMS[form][0] == kind]
        chance = np.mean([1 / len(FORMS[form][2]) for form in forms])
        shares = [np.mean([found[form][column] for form in forms]) for found in (seen, unseen) for column in (0, 1)]
        rows.append((kind, *(f"{share:.1%}" for share in (*shares, chance))))
    return markdown(rows)
