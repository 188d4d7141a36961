"""Fine-tune a pretrained model for a task, on examples from the built-in stories or from your files.

  python -m train finetune runs/bert-1 --task questions           sets made from the stories: sentiment, coherence,
                                                                  roles, questions, next
  python -m train finetune runs/bert-1 --task classify --data train.tsv --held-out dev.tsv
  python -m train finetune FOLDER --task answer --data train.jsonl --held-out dev.jsonl
  python -m train finetune runs/t5-1 --task text2text --data tasks.tsv        any texts to read and to write
  python -m train finetune runs/t5-1 --task reverse               a toy: reverse, sort, add; or one of the stories' sets
  python -m train finetune --resume runs/finetune-1               go on where a run was stopped
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
from models.files import write_json
from nn import Module
from train import checkpoint, finetune
from train.data import toys
from train.data.stories import tasks as stories_tasks
from train.flags import add_config_flags, given
from train.plots import draw_confusion
from train.pretrain import make_folder
from train.tasks import TASKS
from train.tasks.examples import checksum, examples_of
from train.trainer import TrainConfig, Trainer

SUMMARY = "fine-tune a pretrained model: classify, regress, tag, answer, choose, text to text"

FOLLOWS = ("steps", "eval_every", "save_every", "eval_batches")  # from the number of epochs


# The flags of one run that are neither its data nor fields of TrainConfig, and their defaults.
OPTIONS = dict(
    cap=0, examples=1000, epochs=3, max_length=0, head_dropout=0.1, frozen=False, both_orders=False, language_loss=0.5,
    lora=0, fresh=False,
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL", type=Path, nargs="?", help="the pretrained model: a run or a published folder"
    )
    parser.add_argument("--resume", metavar="RUN", type=Path, help="go on with this run, with its own settings")
    parser.add_argument(
        "--task", metavar="TASK",
        help=f"one of the stories' sets ({', '.join(stories_tasks.SETS)}), for a T5 also {', '.join(toys.TOYS)}, or "
        f"with --data a kind ({', '.join(TASKS)})",
    )  # fmt: skip
    parser.add_argument("--data", metavar="FILE", type=Path, help="training examples, .tsv or .jsonl")
    parser.add_argument("--held-out", metavar="FILE", type=Path, help="examples to measure on [a tenth of --data]")
    parser.add_argument("--out", metavar="RUN", type=Path, help="the new run's folder [runs/finetune-N]")
    parser.add_argument("--overwrite", action="store_true", help="empty the --out folder if it exists")

    def add(flag: str, help: str, kind: type | None = int, metavar: str = "N") -> None:
        how = dict(action="store_true") if kind is None else dict(type=kind, metavar=metavar)
        parser.add_argument(flag, default=argparse.SUPPRESS, help=help, **how)

    add("--cap", "text2text: the most examples of one task that an epoch takes, drawn anew each time [0: all]")
    add("--examples", "to make from the stories, or of a toy; half as many, at most 500, are held out [1000]")
    add("--epochs", "times to go through the examples [3]")
    add("--max-length", "tokens a text is cut to [the context]")
    add("--head-dropout", "dropout before the head [0.1]", float, "X")
    add("--frozen", "train the head only (and an ELMo's mix of its layers)", None)
    add("--both-orders", "read pairs in both orders: for likeness, which has no direction", None)
    add("--language-loss", "the share of a GPT's own loss that goes on counting [0.5]", float, "X")
    add("--lora", "train low-rank adapters of this rank and the head, and nothing else [0: train all]", int, "RANK")
    add("--fresh", "forget the pretraining, to see what it was worth", None)
    others = tuple(field.name for field in dataclasses.fields(ELMoConfig) if not field.name.startswith("mix_"))
    add_config_flags(parser, "the mix of an ELMo's layers", ELMoConfig, skip=others)
    shown = finetune.TRAINING | {"warmup": "a tenth of the steps"}
    add_config_flags(parser, "the training", TrainConfig, shown, skip=FOLLOWS)


def main(args: argparse.Namespace) -> None:
    trainer = _resume(args) if args.resume else _begin(args)
    folder, steps, report = trainer.run, trainer.config.steps, trainer.report
    report.start(trainer.progress.step)
    try:
        progress = trainer.train()
    finally:
        report.close()
    report.draw(folder / "loss.png")
    if progress.step < steps:
        print(f"stopped after step {progress.step} of {steps}; go on with: python -m train finetune --resume {folder}")
        return
    print("held out: " + ", ".join(f"{name} {value:.4f}" for name, value in report.scores.items()))
    if draw_confusion(folder / "confusion.png", report.tuned.task, report.held_out, report.answers):
        print(f"which label was taken for which: {folder / 'confusion.png'}")
    print(f'to ask it: python -m train ask {folder} "..."')


def _begin(args: argparse.Namespace) -> Trainer:
    """A new run: what it is to do is written down in its folder."""
    if args.model is None or args.task is None:
        raise ValueError("say which model to fine-tune and on what: python -m train finetune MODEL --task TASK")
    record = OPTIONS | {name: value for name, value in vars(args).items() if name in OPTIONS}
    record |= {name: getattr(args, name) for name in ("task", "data", "held_out")}
    settings = finetune.TRAINING | given(args, TrainConfig)
    if record["lora"] < 0 or (record["lora"] and record["frozen"]):
        raise ValueError("--lora is the rank of the adapters to train, at least 1, and not together with --frozen")
    if args.data is None and args.held_out:
        raise ValueError("--held-out goes with --data; the stories' sets and the toys hold out examples of their own")
    if args.data and "examples" in vars(args):
        raise ValueError("--examples are made where there is no --data; leave out one of the two")
    if record["cap"] < 0:
        raise ValueError(f"--cap must not be negative: {record['cap']}; 0 takes all examples")
    examples = examples_of(**record)
    model, tokenizer = checkpoint.load_model(args.model)
    if mix := {name: value for name, value in given(args, ELMoConfig).items() if name.startswith("mix_")}:
        if not isinstance(model, ELMo):
            raise ValueError(f"--{next(iter(mix)).replace('_', '-')} is for an ELMo, which {args.model} is not")
        model.remix(**mix)
    if record["fresh"]:
        model = fresh(model, settings.get("seed", 0))
    task = _task(record, *examples)  # what is wrong with the examples is said before any folder is made
    folder = make_folder(args.out, "finetune", args.overwrite)
    try:
        trainer = _trainer(folder, (checkpoint.family_of(model), model, tokenizer), task, examples, record, settings)
    except BaseException:
        shutil.rmtree(folder)  # nothing was learned yet
        raise
    record |= {"train": settings, "checksum": checksum(examples)}
    write_json(folder / finetune.RECORD, record)
    counts = f"{len(examples[1])} examples to train on and {len(examples[2])} held out"
    print(f"{counts}; {trainer.config.steps} steps; in {folder}")
    return trainer


def _resume(args: argparse.Namespace) -> Trainer:
    """A run that was stopped, as it was at its last checkpoint; more --epochs and settings of the training may be
    given."""
    fixed = ("model", "task", "data", "held_out", "out", "overwrite")
    said = [name for name in fixed if getattr(args, name) not in (None, False)]
    said += [name for name in vars(args) if (name in OPTIONS and name != "epochs") or name.startswith("mix_")]
    if said:
        what = "MODEL" if said[0] == "model" else "--" + said[0].replace("_", "-")
        raise ValueError(f"--resume goes on with the run's own model, task and examples; leave out {what}")
    folder, record = args.resume, finetune.read_record(args.resume)
    record["epochs"] = vars(args).get("epochs", record["epochs"])
    examples = examples_of(**record)
    if checksum(examples) != record["checksum"]:
        source = record["data"] or f"the built-in {record['task']}"
        raise ValueError(f"the examples of {source} are not those that {folder} was begun with; fine-tune anew")
    settings = record["train"] | given(args, TrainConfig)
    task = _task(record, *examples)
    trainer = _trainer(folder, finetune.blank(folder), task, examples, record, settings, going_on=True)
    trainer.restore()
    done, steps = trainer.progress.step, trainer.config.steps
    if done >= steps:
        raise ValueError(f"{folder} has all of its {steps} steps; ask for more with --epochs")
    print(f"going on after step {done} of {steps}; in {folder}")
    return trainer


def _trainer(
    folder: Path, pretrained: tuple, task, examples: tuple, record: dict, settings: dict, going_on: bool = False
) -> Trainer:
    """What fine-tunes a model as the record of a run says."""
    options = {name: record[name] for name in ("epochs", "max_length", "frozen", "lora", "language_loss", "cap")}
    options |= dict(settings=settings, dropout=record["head_dropout"], going_on=going_on)
    return finetune.begin(folder, pretrained, task, *examples[1:], **options)


def _task(record: dict, kind: str, examples: list[dict], held_out: list[dict]):
    """The task that the examples pose."""
    task = TASKS[kind].of(examples, held_out)
    if record["both_orders"]:
        if not hasattr(task, "both_orders"):
            raise ValueError(f"--both-orders is for tasks about pairs, not for {kind}")
        task = dataclasses.replace(task, both_orders=True)
    return task


def fresh(model: Module, seed: int) -> Module:
    """The same model as it was before it learned anything."""
    with tt.random.seeded(seed):
        return type(model)(model.config)
