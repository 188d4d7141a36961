"""Does a talker read what it was given, and name its source? Questions about a folder of facts, with and without it.

    python -m train finetune runs/gpt-1 --task search --examples 8000 --epochs 4 --lr 2e-3     or --task chat
    python -m benchmarks.retrieval runs/finetune-1

Facts of the stories' world (train/data/stories/facts.py) are written into a folder, one a line, ten a file. Asked are
facts of the folder; facts that were taken out of it; and the twenty facts that are the same in all training, of which
the folder says what is true, or otherwise: does the model read or remember? Replies are the most probable ones.
Citation precision is the share of named passages that tell what was asked, recall the share of questions whose passage
is named.
"""

import argparse
import random
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from models.chat import cited, replies, with_sources
from train import published
from train.data.stories import facts
from train.data.stories.facts import UNKNOWN, Fact
from train.finetune import FineTuned
from train.preference import start
from train.search import Library
from train.tasks import Row, metrics


class Asked(NamedTuple):
    """A question, what the folder says of it, what is so in training where that is known, and the reply."""

    question: str
    told: Fact | None
    known: Fact | None
    reply: str
    tells: list[int]  # numbers of the passages that tell it, of those the model was given

    @property
    def said(self) -> str:
        return metrics.normal(re.sub(r"\[\d+\]", "", self.reply))

    def says(self, fact: Fact | None) -> bool:
        return fact is not None and self.said == metrics.normal(fact.answer)

    @property
    def abstains(self) -> bool:
        return UNKNOWN in self.reply


def ask(tuned: FineTuned, library: Library | None, asked: list[tuple[Fact, Fact | None]], draw: random.Random,
        top: int) -> Iterator[Asked]:  # fmt: skip
    """An Asked of each (what is so, what the folder says).   library: None: the question alone."""
    gpt, inputs = tuned.model.body, tuned.inputs
    room = inputs.room(tuned.task.longest)
    questions = [fact.asked(draw) for fact, _ in asked]
    found = [library.find(question, top) if library else [] for question in questions]
    texts = [[library.texts[number] for number in numbers] for numbers in found]
    said = [with_sources(some, question) for some, question in zip(texts, questions)]
    prompts = [np.array(inputs.prompt([{"role": "user", "content": text}], room)) for text in said]
    written = []
    for first in range(0, len(prompts), 64):
        written += replies(gpt, prompts[first : first + 64], room)
    row = Row({}, inputs.tokenizer)
    for (fact, told), question, some, ids in zip(asked, questions, texts, written):
        ways = [told and way.format(**told._asdict()).lower() for way in facts.FORMS[fact.kind][0]]
        tells = [number for number, text in enumerate(some, 1) if text.lower() in ways]
        known = facts.KNOWN.get(fact.key)
        yield Asked(question, told, known, tuned.task.decode(row, ids), tells)


def folder_of(told: list[Fact], place: Path, draw: random.Random) -> None:
    """Write facts into a folder, ten lines a file."""
    place.mkdir()
    lines = [fact.told(draw) for fact in draw.sample(told, len(told))]
    for first in range(0, len(lines), 10):
        (place / f"{first // 10:03d}.txt").write_text("\n".join(lines[first : first + 10]) + "\n")


def percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def row(name: str, asked: list[Asked]) -> str:
    """A line of the table."""
    named = [(number in one.tells) for one in asked for number in cited(one.reply)]
    told = [one for one in asked if one.told]
    recalled = [bool(set(cited(one.reply)) & set(one.tells)) for one in told]
    columns = [
        percent(metrics.mean(bool(one.tells) for one in told)) if told else "",
        percent(metrics.mean(one.says(one.told) for one in told)) if told else "",
        percent(metrics.mean(one.says(one.known) for one in asked)) if asked[0].known else "",
        percent(metrics.mean(one.abstains for one in asked)),
        percent(metrics.mean(named)) if named else "",
        percent(metrics.mean(recalled)) if told else "",
    ]
    return f"| {name} | {len(asked)} | {' | '.join(columns)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a GPT that talks")
    parser.add_argument("--facts", type=int, default=300, help="in the folder, beside those that are known [300]")
    parser.add_argument("--search-with", type=Path, help="find by the vectors of this model, not by BM25")
    parser.add_argument("--top", type=int, default=3, help="sentences that the model is given [3]")
    parser.add_argument("--show", type=int, default=0, help="print so many questions and replies of each line [0]")
    args = parser.parse_args()
    tuned = (published.talker if published.holds_one(args.run) else start.talker)(args.run)
    tuned.model.eval()
    draw = random.Random("retrieval")
    fresh = {fact.key: fact for fact in (facts.some(draw) for _ in range(2 * args.facts))}
    told, removed = list(fresh.values())[: args.facts], list(fresh.values())[args.facts : args.facts + args.facts // 2]
    known = [fact for fact in facts.known() for _ in range(4)]  # asked four times, in other words
    swapped = {fact.key: facts.other(fact, draw) for fact in facts.known()}
    print("| what is asked | questions | passage found | says what the folder says | says what is always so | "
          "does not know | citation precision | recall |\n|---|---|---|---|---|---|---|---|")  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        folder_of([*told, *facts.known()], Path(place, "true"), draw)
        folder_of([*told, *swapped.values()], Path(place, "swapped"), draw)
        true, otherwise = (Library(Path(place, name), args.search_with) for name in ("true", "swapped"))
        for name, library, asked in (
            ("facts of the folder", true, [(fact, fact) for fact in told]),
            ("facts that were taken out", true, [(fact, None) for fact in removed]),
            ("known facts, as they are", true, [(fact, fact) for fact in known]),
            ("known facts, told otherwise", otherwise, [(fact, swapped[fact.key]) for fact in known]),
            ("facts of the folder, without --search", None, [(fact, fact) for fact in told]),
            ("known facts, without --search", None, [(fact, fact) for fact in known]),
        ):
            answered = list(ask(tuned, library, asked, draw, args.top))
            print(row(name, answered), flush=True)
            for one in answered[: args.show]:
                print(f"    {one.question} -> {one.reply}   ({one.told.answer if one.told else 'not told'})")


if __name__ == "__main__":
    main()
