"""Talk to a model that has learned to talk.

  python -m train chat runs/finetune-1                            a run of finetune --task chat, dpo or ppo
  python -m train chat runs/ppo-1 --temperature 0                 always what it thinks most probable
  python -m train chat runs/finetune-1 --best-of 8 --reward runs/finetune-2   the reply with the highest reward
Every line you type is what you say. Besides:
  /regenerate   another reply to the same      /reset        forget what was said
  /save FILE    the conversation as JSON       /quit         leave (or Ctrl-D)
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import tinytensor as tt
from models.chat import replies
from models.files import write_text
from models.generate import stream_text
from models.schema import Count, Few, NotNegative, Size
from train.finetune import FineTuned
from train.flags import add_device_flag, typed
from train.preference import start
from train.preference.rewarder import Rewarder, judge
from train.tasks import Row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run", metavar="RUN", type=Path, help="a GPT that has learned to talk")
    add("--temperature", metavar="X", type=typed(NotNegative), default=0.7, help="0: the most probable reply [0.7]")
    add("--tokens", metavar="N", type=typed(Count), help="of a reply at most [as it learned; half the context]")
    add("--system", metavar="TEXT", help="what is said to it before all else")
    add("--best-of", metavar="N", type=typed(Few), default=1, help="write N replies and keep the best [1]")
    add("--reward", metavar="RUN", type=Path, help="the reward model that tells which is best")
    add("--seed", metavar="N", type=typed(Size), default=0, help="equal seeds give equal talk [0]")
    add_device_flag(parser)


def main(args: argparse.Namespace) -> None:
    if (args.best_of > 1) != (args.reward is not None):
        raise ValueError("--best-of N and --reward RUN go together: one writes, the other chooses")
    tuned = start.talker(args.run)
    tuned.model.eval().to(args.device)
    rewarder = Rewarder(judge(args.reward)) if args.reward else None
    system = [{"role": "system", "content": args.system}] if args.system else []
    said, turn = list(system), 0
    for line in lines():
        command, _, rest = line.partition(" ")
        if command == "/quit":
            break
        if command == "/reset":
            said = list(system)
            continue
        if command == "/save":
            if not rest.strip():
                print("say where to: /save FILE")
                continue
            write_text(Path(rest.strip()), json.dumps({"messages": said}, ensure_ascii=False, indent=1) + "\n")
            continue
        if command == "/regenerate":
            if said[-1:] == system[-1:]:
                print("nothing was said yet")
                continue
            said.pop()
        elif command.startswith("/"):
            print(f"{command} is unknown; there are /regenerate, /reset, /save FILE and /quit")
            continue
        else:
            said.append({"role": "user", "content": line})
        tt.manual_seed(args.seed, turn)
        turn, text = turn + 1, ""
        for piece in reply(tuned, said, args, rewarder):
            print(piece, end="", flush=True)
            text += piece
        print()
        said.append({"role": "assistant", "content": text.strip()})


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


def reply(tuned: FineTuned, said: list[dict], args: argparse.Namespace, rewarder: Rewarder | None) -> Iterator[str]:
    """What the model says next, in pieces; the best of several comes as a whole."""
    gpt, inputs = tuned.model.body, tuned.inputs
    longest = inputs.room(args.tokens or tuned.task.longest)
    prompt = inputs.prompt(said, longest)
    if rewarder is None:
        end = gpt.config.vocab_size - 1
        return stream_text(gpt, inputs.tokenizer, prompt, longest, temperature=args.temperature, end=end)
    written = replies(gpt, [np.array(prompt)], longest, args.temperature, samples=args.best_of)
    return iter([rewarder.best_of(said, [tuned.task.decode(Row({}, inputs.tokenizer), ids) for ids in written])])
