"""Talk to a model that has learned to talk.

  python -m train chat runs/finetune-1                            a run of finetune --task chat, dpo or ppo
  python -m train chat runs/ppo-1 --temperature 0                 always what it thinks most probable
  python -m train chat runs/finetune-1 --best-of 8 --reward runs/finetune-2   the reply with the highest reward
  python -m train chat runs/finetune-1 --search notes/            answers from what stands in a folder of text
  python -m train chat runs/finetune-1 --search notes/ --search-with runs/bert-1     found by meaning, not by words
Every line you type is what you say. Besides:
  /regenerate   another reply to the same      /reset        forget what was said
  /save FILE    the conversation as JSON       /quit         leave (or Ctrl-D)
With --search the model is given the sentences found, numbered; what it names by number in its reply is quoted below it.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import tinytensor as tt
from models.chat import cited, replies, with_sources
from models.files import write_text
from models.generate import stream_text
from models.schema import Count, Few, NotNegative, Size
from train import published, seeing
from train.data.records import passed_over
from train.finetune import FineTuned
from train.flags import add_device_flag, typed
from train.preference import start
from train.preference.rewarder import Rewarder, judge
from train.search import Library
from train.tasks import Row

SOURCES = 3  # sentences that the model is given


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run", metavar="RUN", type=Path, help="a GPT that has learned to talk: a run, or a folder with its marks")
    add("--temperature", metavar="X", type=typed(NotNegative), help="0: the most probable reply [0.7; 0 with --image]")
    add("--tokens", metavar="N", type=typed(Count), help="of a reply at most [as it learned; half the context]")
    add("--system", metavar="TEXT", help="what is said to it before all else")
    add("--best-of", metavar="N", type=typed(Few), default=1, help="write N replies and keep the best [1]")
    add("--image", metavar="FILE", type=Path, help="of a run that reads pictures: the one to talk about")
    add("--reward", metavar="RUN", type=Path, help="the reward model that tells which is best")
    add("--search", metavar="PATH", type=Path, help="answer from the sentences of a text file or a folder of them, "
        "those that share words with what you say (BM25)")  # fmt: skip
    add("--search-with", metavar="MODEL", type=Path, help="find them by meaning, with the vectors of a run or a "
        "published model; the most similar are always found")  # fmt: skip
    add("--top", metavar="N", type=typed(Few), help=f"sentences to give to the model at most [{SOURCES}]")
    add("--seed", metavar="N", type=typed(Size), default=0, help="equal seeds give equal talk [0]")
    add_device_flag(parser)


def main(args: argparse.Namespace) -> None:
    if args.image:
        return seeing.chat(args, lines())
    args.temperature = 0.7 if args.temperature is None else args.temperature
    if (args.best_of > 1) != (args.reward is not None):
        raise ValueError("--best-of N and --reward RUN go together: one writes, the other chooses")
    if args.search is None and (flag := "--search-with" * bool(args.search_with) or "--top" * bool(args.top)):
        raise ValueError(f"{flag} goes with --search PATH, which says where to look")
    tuned = published.talker(args.run) if published.holds_one(args.run) else start.talker(args.run)
    documents = Library(args.search, args.search_with, args.device) if args.search else None
    if documents and documents.passed_over:
        print(passed_over(args.search, documents.passed_over))
    tuned.model.eval().to(args.device)
    talk = Talk(tuned, args, Rewarder(judge(args.reward)) if args.reward else None, documents)
    for line in lines():
        if line.partition(" ")[0] == "/quit":
            break
        talk.take(line)


def lines() -> Iterator[str]:
    """What the user types, line by line, without blank ones."""
    prompt = "> " if sys.stdin.isatty() else ""
    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            return
        if line:
            yield line


@dataclass
class Talk:
    """A conversation: what was said, and who says what comes next."""

    tuned: FineTuned
    args: argparse.Namespace
    rewarder: Rewarder | None = None
    documents: Library | None = None
    said: list[dict] = field(default_factory=list)
    turn: int = 0  # replies so far, those that were taken back too

    def __post_init__(self):
        self.system = [{"role": "system", "content": self.args.system}] if self.args.system else []
        self.said = list(self.system)

    def take(self, line: str) -> None:
        """Do what a line asks for, or answer it."""
        command, _, rest = line.partition(" ")
        if command == "/reset":
            self.said = list(self.system)
        elif command == "/save":
            self.save(rest.strip())
        elif command == "/regenerate" and self.said == self.system:
            print("nothing was said yet")
        elif command == "/regenerate":
            self.said.pop()
            self.answer()
        elif command.startswith("/"):
            print(f"{command} is unknown; there are /regenerate, /reset, /save FILE and /quit")
        else:
            self.said.append({"role": "user", "content": line})
            self.answer()

    def save(self, name: str) -> None:
        if not name:
            return print("say where to: /save FILE")
        write_text(Path(name), json.dumps({"messages": self.said}, ensure_ascii=False, indent=1) + "\n")

    def answer(self) -> None:
        """Reply to what was said last."""
        tt.manual_seed(self.args.seed, self.turn)
        self.turn += 1
        reply = self.looked_up() if self.documents else {"content": self.spoken(self.written(self.said))}
        self.said.append({"role": "assistant"} | reply)

    def looked_up(self) -> dict:
        """A reply from what the documents say about it; the sources that it names are quoted below."""
        documents, (*before, last) = self.documents, self.said
        found = documents.find(last["content"], self.args.top or SOURCES)
        given = self.fitting(found, last["content"])
        if not given:
            longest = self.tuned.inputs.max_length
            reason = f"What was found is too long for the {longest} tokens that the model reads."
            return {"content": self.spoken(iter([reason if found else f"Nothing was found in {documents.folder}."]))}
        asked = with_sources([documents.texts[i] for i in given], last["content"])
        text = self.spoken(self.written([*before, {"role": "user", "content": asked}]))
        sources = {number: f"{documents.files[i]}: {documents.texts[i]}" for number, i in enumerate(given, 1)}
        quoted = [f"  [{number}] {sources[number]}" for number in cited(text) if number in sources]
        print(*quoted or ["  (it names no source)"], sep="\n")
        return {"content": text, "sources": sources}

    def spoken(self, pieces: Iterator[str]) -> str:
        """Print a text as it comes; the whole of it."""
        text = ""
        for piece in pieces:
            print(piece, end="", flush=True)
            text += piece
        print()
        return text.strip()

    def written(self, messages: list[dict]) -> Iterator[str]:
        """What the model says next, in pieces; the best of several comes as a whole."""
        gpt, inputs = self.tuned.model.body, self.tuned.inputs
        prompt = inputs.prompt(messages, self.room)
        if self.rewarder is None:
            end, temperature = gpt.config.vocab_size - 1, self.args.temperature
            return stream_text(gpt, inputs.tokenizer, prompt, self.room, temperature=temperature, end=end)
        ways = replies(gpt, [np.array(prompt)], self.room, self.args.temperature, samples=self.args.best_of)
        texts = [self.tuned.task.decode(Row({}, inputs.tokenizer), ids) for ids in ways]
        return iter([self.rewarder.best_of(messages, texts)])

    def fitting(self, found: list[int], question: str) -> list[int]:
        """As many of the sentences found, from the best on, as the model can read beside the question and its reply."""
        while found:
            asked = {"role": "user", "content": with_sources([self.documents.texts[i] for i in found], question)}
            if self.tuned.inputs.length([*self.system, asked]) <= self.tuned.inputs.max_length - self.room:
                break
            found = found[:-1]
        return found

    @property
    def room(self) -> int:
        """Tokens that are left for a reply."""
        return self.tuned.inputs.room(self.args.tokens or self.tuned.task.longest)
