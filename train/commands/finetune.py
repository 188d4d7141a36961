"""Fine-tune a pretrained model for a task, on examples from the built-in stories or from your files.

  python -m train finetune runs/bert-1 --task questions           sets made from the stories: sentiment, coherence,
                                                                  roles, questions, next
  python -m train finetune runs/bert-1 --task classify --data train.tsv --held-out dev.tsv
  python -m train finetune FOLDER --task answer --data train.jsonl --held-out dev.jsonl
  python -m train finetune runs/t5-1 --task text2text --data tasks.tsv        any texts to read and to write
  python -m train finetune runs/t5-1 --task reverse               a toy: reverse, sort, add; or one of the stories' sets
Files: TSV with a line of column names, or JSON lines. The columns of each kind of task:
  classify  text, pair (or none), label          regress  text, pair (or none), score
  tag       words, tags (lists, or with spaces)   answer   question, context, answer, start (or none)
  choose    text, choices (a list), label (from 0)
  text2text input, target, task (a prefix of the input, or none): for a T5, which learns all the others so, too
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from pathlib import Path

import tinytensor as tt
from models import ELMo, ELMoConfig
from nn import Module
from train import checkpoint, finetune
from train.data import toys
from train.data.stories import tasks as stories_tasks
from train.flags import add_config_flags, given
from train.pretrain import make_folder
from train.tasks import TASKS, Text2Text
from train.tasks.files import read_examples
from train.tasks.picture import draw_confusion
from train.trainer import TrainConfig

SUMMARY = "fine-tune a pretrained model: classify, regress, tag, answer, choose, text to text"

TRAINING = dict(batch=16, lr=5e-4, min_lr=0.0, schedule="linear", beta2=0.999, eps=1e-6, weight_decay=0.01)
FOLLOWS = ("steps", "eval_every", "save_every", "eval_batches")  # from the number of epochs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", type=Path, help="the pretrained model: a run or a published folder")
    parser.add_argument(
        "--task", metavar="TASK", required=True,
        help=f"one of the stories' sets ({', '.join(stories_tasks.SETS)}), for a T5 also {', '.join(toys.TOYS)}, or "
        f"with --data a kind ({', '.join(TASKS)})",
    )  # fmt: skip
    parser.add_argument("--data", metavar="FILE", type=Path, help="training examples, .tsv or .jsonl")
    parser.add_argument("--held-out", metavar="FILE", type=Path, help="examples to measure on [a tenth of --data]")
    parser.add_argument(
        "--cap", metavar="N", type=int, default=0,
        help="text2text: the most examples of one task that an epoch takes, drawn anew each time [0: all]",
    )  # fmt: skip
    parser.add_argument(
        "--examples", metavar="N", type=int, default=1000,
        help="to make from the stories, or of a toy; half as many, at most 500, are held out [1000]",
    )  # fmt: skip
    parser.add_argument("--out", metavar="RUN", type=Path, help="the new run's folder [runs/finetune-N]")
    parser.add_argument("--overwrite", action="store_true", help="empty the --out folder if it exists")
    parser.add_argument("--epochs", metavar="N", type=int, default=3, help="times to go through the examples [3]")
    parser.add_argument("--max-length", metavar="N", type=int, default=0, help="tokens a text is cut to [the context]")
    parser.add_argument("--head-dropout", metavar="X", type=float, default=0.1, help="dropout before the head [0.1]")
    parser.add_argument("--frozen", action="store_true", help="train the head only (and an ELMo's mix of its layers)")
    parser.add_argument(
        "--both-orders", action="store_true", help="read pairs in both orders: for likeness, which has no direction"
    )
    parser.add_argument(
        "--language-loss", metavar="X", type=float, default=0.5,
        help="the share of a GPT's own loss that goes on counting [0.5]",
    )  # fmt: skip
    parser.add_argument(
        "--lora", metavar="RANK", type=int, default=0,
        help="train low-rank adapters of this rank and the head, and nothing else [0: train everything]",
    )  # fmt: skip
    parser.add_argument("--fresh", action="store_true", help="forget the pretraining, to see what it was worth")
    others = tuple(field.name for field in dataclasses.fields(ELMoConfig) if not field.name.startswith("mix_"))
    add_config_flags(parser, "the mix of an ELMo's layers", ELMoConfig, skip=others)
    add_config_flags(parser, "the training", TrainConfig, TRAINING | {"warmup": "a tenth of the steps"}, skip=FOLLOWS)


def run(args: argparse.Namespace) -> None:
    kind, examples, held_out = examples_of(args)
    task = TASKS[kind].of(examples, held_out)
    if args.both_orders:
        if not hasattr(task, "both_orders"):
            raise ValueError(f"--both-orders is for tasks about pairs, not for {kind}")
        task = dataclasses.replace(task, both_orders=True)
    model, tokenizer = checkpoint.load_model(args.model)
    settings = TRAINING | given(args, TrainConfig)
    if mix := {name: value for name, value in given(args, ELMoConfig).items() if name.startswith("mix_")}:
        if not isinstance(model, ELMo):
            raise ValueError(f"--{next(iter(mix)).replace('_', '-')} is for an ELMo, which {args.model} is not")
        model.remix(**mix)
    if args.lora < 0 or (args.lora and args.frozen):
        raise ValueError("--lora is the rank of the adapters to train, at least 1, and not together with --frozen")
    if args.cap < 0:
        raise ValueError(f"--cap must not be negative: {args.cap}; 0 takes all examples")
    if args.fresh:
        model = fresh(model, settings.get("seed", 0))
    folder = make_folder(args.out, "finetune", args.overwrite)
    try:
        trainer = finetune.begin(
            folder,
            (checkpoint.family_of(model), model, tokenizer),
            task,
            examples,
            held_out,
            epochs=args.epochs,
            settings=settings,
            max_length=args.max_length,
            dropout=args.head_dropout,
            frozen=args.frozen,
            lora=args.lora,
            language_loss=args.language_loss,
            cap=args.cap,
        )
    except ValueError:
        shutil.rmtree(folder)  # nothing was learned yet
        raise
    steps = trainer.config.steps
    print(f"{len(examples)} examples to train on and {len(held_out)} held out; {steps} steps; in {folder}")
    report = trainer.report
    report.start(0)
    try:
        progress = trainer.train()
    finally:
        report.close()
    report.draw(folder / "loss.png")
    if progress.step < steps:
        print(f"stopped after step {progress.step} of {steps}; the model of that step is in {folder}")
        return
    print("held out: " + ", ".join(f"{name} {value:.4f}" for name, value in report.scores.items()))
    if draw_confusion(task, held_out, report.answers, folder / "confusion.png"):
        print(f"which label was taken for which: {folder / 'confusion.png'}")


def examples_of(args: argparse.Namespace) -> tuple[str, list[dict], list[dict]]:
    """(kind of task, training examples, held-out examples)"""
    if args.data:
        if args.task not in TASKS:
            raise ValueError(f"unknown --task {args.task!r}; with --data choose from {', '.join(TASKS)}")
        examples = read_examples(args.data, args.task)
        if args.held_out:
            return args.task, examples, read_examples(args.held_out, args.task)
        if len(examples) < 10:
            raise ValueError(f"{args.data} has {len(examples)} examples, too few to hold some out; give --held-out")
        return args.task, [e for i, e in enumerate(examples) if i % 10 != 9], examples[9::10]
    counts = args.examples, max(20, min(500, args.examples // 2))
    if args.task in toys.TOYS:
        return Text2Text.kind, *toys.examples(args.task, *counts)
    if args.task not in stories_tasks.SETS:
        raise ValueError(
            f"unknown --task {args.task!r}; choose from {', '.join((*stories_tasks.SETS, *toys.TOYS))}, "
            f"or give --data and one of {', '.join(TASKS)}"
        )
    # Seeds that no pretraining corpus has.
    kind, _ = stories_tasks.SETS[args.task]
    examples = [stories_tasks.examples(args.task, count, seed) for seed, count in enumerate(counts, start=1)]
    return kind, *examples


def fresh(model: Module, seed: int) -> Module:
    """The same model as it was before it learned anything."""
    with tt.random.seeded(seed):
        return type(model)(model.config)
