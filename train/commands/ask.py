"""Ask a fine-tuned model, or one that reads pictures: one question on the command line, or a file of them.

  python -m train ask runs/finetune-1 "Mia lost her kite."                      classify and regress: a text
  python -m train ask runs/finetune-1 "It rained." "So we got wet."             or a pair of them
  python -m train ask runs/finetune-1 "Who lost a kite?" "Mia lost her kite."   answer: a question and a passage
  python -m train ask runs/finetune-1 "Mia lost her kite ."                     tag: words with spaces between
  python -m train ask runs/finetune-1 "It rained." "We got wet." "I slept."     choose: a text and the choices
  python -m train ask runs/finetune-1 "reverse: stressed"                       text2text: a text like those it learned,
  python -m train ask runs/finetune-1 "question: Who lost it? context: Mia."    as a T5 learns question and passage
  python -m train ask runs/finetune-1 --data questions.jsonl > answers.jsonl
  python -m train ask bert-emotion-folder "What a day!"                         or a published model for such a task
  python -m train ask runs/sight-1 --image cat.png "Where is this?"             a picture and questions about it
"""

import argparse
import json
from pathlib import Path

from train import checkpoint, finetune, published, seeing
from train.flags import add_device_flag
from train.tasks.examples import read_examples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a fine-tuning run, or a published one")
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="what to ask")
    parser.add_argument("--data", metavar="FILE", type=Path, help="examples, .csv, .tsv or .jsonl, for an answer each")
    parser.add_argument("--image", metavar=("FILE", "QUESTION"), nargs="+", help="a picture, and questions about it")
    add_device_flag(parser)


def main(args: argparse.Namespace) -> None:
    if args.image or checkpoint.family_in(args.run) == "sight":
        return seeing.ask(args)
    if bool(args.texts) == bool(args.data):
        raise ValueError("give either texts or --data FILE")
    tuned = (published if published.holds_one(args.run) else finetune).load(args.run)
    tuned.model.to(args.device)
    task = tuned.task
    if args.data:
        known = (*task.asks, "task")
        asked = [{n: v for n, v in e.items() if n in known} for e in read_examples(args.data, task.kind, False)]
        for example, read in zip(asked, tuned.read(asked)):
            said = {"answer": task.answer(example, list(map(task.decode, *read)))}
            if chances := task.chances(example, *read):
                said["probabilities"] = [[name, round(p, 4)] for name, p in chances]
            print(json.dumps(said, ensure_ascii=False))
        return
    example = task.example(args.texts)
    (read,) = tuned.read([example])
    print(task.shown(example, task.answer(example, list(map(task.decode, *read)))))
    for name, p in task.chances(example, *read):
        print(f"  {p:6.1%}  {name}")
