"""Fine-tune a pretrained model for a task, on examples from the built-in stories or from your files.

  python -m train finetune runs/bert-1 --task questions           sets made from the stories: sentiment, coherence,
                                                                  roles, questions, next, chat, search, reward,
                                                                  beliefs, beliefs-answer, beliefs-chat
  python -m train finetune runs/bert-1 --task classify --data train.tsv --held-out dev.tsv
  python -m train finetune FOLDER --task answer --data train.jsonl --held-out dev.jsonl
  python -m train finetune runs/t5-1 --task text2text --data tasks.tsv        any texts to read and to write
  python -m train finetune runs/ernie-gen-1 --task questions --noise 0.5 --label-smoothing 0.1     as published
  python -m train finetune runs/t5-1 --task reverse               a toy: reverse, sort, add; or one of the stories' sets
  python -m train finetune --resume runs/finetune-1               go on where a run was stopped
Files: CSV or TSV with a line of column names, or JSON lines. The columns of each kind of task:
  classify  text, pair (or none), label          regress  text, pair (or none), score
  tag       words, tags (lists, or with spaces)   answer   question, context, answer, start (or none)
  choose    text, choices (a list), label (from 0)
  text2text input, target, task (a prefix of the input, or none): for a T5 or an ERNIE-GEN, which learn the others so
  chat      messages (role and content of each; the assistant's last), or chosen, as in hh-rlhf: for a GPT
  reward    messages, replies (the best first), or chosen and rejected
"""

import argparse
import contextlib
import dataclasses
import json
import shlex
import tempfile
import textwrap
from pathlib import Path

import tinytensor as tt
from models import ELMo, ELMoConfig
from models.files import write_json, write_text
from models.schema import Million
from train import checkpoint, finetune, resume, runs, watching
from train.data import toys
from train.data.stories import beliefs, dialogues
from train.data.stories import tasks as stories_tasks
from train.drawing import scenes as drawings
from train.finetune import FineTuneConfig, FineTuned
from train.flags import add_config_flags, add_ranks_flag, given, typed
from train.plots import draw_confusion
from train.preference import start
from train.report import HINT
from train.tasks import TASKS
from train.tasks.examples import checksum, examples_of, read_examples
from train.trainer import TrainConfig, Trainer

FOLLOWS = ("steps", "eval_every", "save_every", "eval_batches")  # from the number of epochs


WRITTEN = ("preferences.jsonl", "held-out.jsonl")  # in the folder of a reward model: replies that a talker wrote


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", type=Path, nargs="?", help="the pretrained model: a run or a published folder")
    add("--resume", metavar="RUN", type=Path, help="go on with this run, with its own settings")
    of_stories = *stories_tasks.SETS, *dialogues.SETS, *beliefs.SETS, drawings.SET
    sets, toy_sets, kinds = map(", ".join, (of_stories, toys.TOYS, TASKS))
    add("--task", metavar="TASK",
        help=f"one of the stories' sets ({sets}), for what writes also {toy_sets}, or with --data a kind ({kinds})")
    add("--data", metavar="FILE", type=Path, help="training examples, .csv, .tsv, .jsonl or .jsonl.gz")
    add("--held-out", metavar="FILE", type=Path, help="examples to measure on [a tenth of --data]")
    add("--examples", metavar="N", type=typed(Million),
        help="to make from the stories, or of a toy; half as many, at most 500, are held out [1000; chat 16000, reward "
             "5000]")  # fmt: skip
    add("--out", metavar="RUN", type=Path, help="the new run's folder [runs/finetune-N]")
    add("--overwrite", action="store_true", help="let it take the place of the run that --out is")
    add("--fresh", action="store_true", help="forget the pretraining, to see what it was worth")
    add("--compare-fresh", action="store_true", help="at the end do the same without the pretraining, and compare")
    add("--tensorboard", action="store_true", help="write events for TensorBoard, too (say so again with --resume)")
    add("--grad-norms", action="store_true", help="log the norm of each layer's gradient, too")
    add_config_flags(parser, "how the model is adapted", FineTuneConfig)
    others = tuple(field.name for field in dataclasses.fields(ELMoConfig) if not field.name.startswith("mix_"))
    add_config_flags(parser, "the mix of an ELMo's layers", ELMoConfig, skip=others)
    shown = finetune.TRAINING | {"warmup": "a tenth of the steps"}
    add_ranks_flag(parser)
    add_config_flags(parser, "the training", TrainConfig, shown, skip=FOLLOWS)


def main(args: argparse.Namespace) -> None:
    trainer = watching.begin(_resume if args.resume else _begin, args)
    steps, report = trainer.config.steps, trainer.report
    with contextlib.closing(trainer.folder):
        finished = runs.train(trainer)
        folder = trainer.run
        if not finished:
            step = trainer.progress.step
            print(f"stopped after step {step} of {steps}; go on with: python -m train finetune --resume {folder}")
            return
        if not report.scores:  # a run that was killed behind its last checkpoint
            report.answer()
        drawn = draw_confusion(folder / "confusion.png", report.tuned.task, report.held_out, report.answers)
    print("held out: " + ", ".join(f"{name} {value:.4f}" for name, value in report.scores.items()))
    if args.compare_fresh:
        print(_compare_fresh(trainer))
    if drawn:
        print(f"which label was taken for which: {folder / 'confusion.png'}")
    elif not (folder / "loss.png").exists():
        print(f"{HINT}, then: python -m train plot {folder}")
    texts = report.tuned.task.texts(report.held_out[0])
    asked = " ".join(shlex.quote(textwrap.shorten(text, 60, placeholder="")) for text in texts)
    print(f"to ask it: python -m train ask {folder} {asked}")


def _compare_fresh(trainer: Trainer) -> str:
    """What a body with new weights learns from the same examples in as many steps: a short pretraining may be worth
    little."""
    record, scores = finetune.read_record(trainer.run), trainer.report.scores
    kind, *examples = _examples(trainer.run, record)
    config = FineTuneConfig(**{field.name: record[field.name] for field in dataclasses.fields(FineTuneConfig)})
    print("the same with a fresh body:")
    with tempfile.TemporaryDirectory() as place, tt.random.seeded(trainer.config.seed):
        body, tokenizer = finetune.blank(trainer.run)
        with runs.new_run(Path(place, "fresh"), "finetune", False) as folder:
            task, settings = TASKS[kind].of(*examples), dataclasses.asdict(trainer.config)
            fresh = finetune.begin(folder.path, (body, tokenizer), task, *examples, config, settings)
            fresh.folder = folder
        with contextlib.closing(folder):
            if not runs.train(fresh):
                return "stopped before its end, so nothing is compared"
    name, value = next(iter(scores.items()))
    other = fresh.report.scores[name]
    return f"held out: {name} {value:.4f}, with a fresh body {other:.4f}: the pretraining is worth {value - other:+.4f}"


def _begin(args: argparse.Namespace) -> Trainer:
    """A new run: what it is to do is written down in its folder."""
    if args.model is None or args.task is None:
        raise ValueError("say which model to fine-tune and on what: python -m train finetune MODEL --task TASK")
    usual = dict(dialogues.USUAL.get(args.task, {})) if args.data is None else {}
    count = usual.pop("examples", 1000)
    count = count if args.examples is None else args.examples
    adapted = {name: usual.pop(name) for name in vars(FineTuneConfig()) if name in usual}
    config = FineTuneConfig(**(adapted | given(args, FineTuneConfig)))
    settings = finetune.TRAINING | usual | given(args, TrainConfig)
    if args.fresh and args.compare_fresh:
        raise ValueError("--compare-fresh compares with --fresh; leave out one of the two")
    if args.data is None and args.held_out:
        raise ValueError("--held-out goes with --data; the stories' sets and the toys hold out examples of their own")
    if args.data and args.examples is not None:
        raise ValueError("--examples are made where there is no --data; leave out one of the two")
    record = {name: vars(args)[name] for name in ("task", "data", "held_out", "fresh")}
    record |= dataclasses.asdict(config) | {"examples": count}
    talker = _talker(args)
    write = start.writer(talker) if talker and args.task == "reward" and not args.data else None
    kind, *examples = examples_of(**record, write=write)
    model, tokenizer = (talker.model.body, talker.inputs.tokenizer) if talker else checkpoint.load_model(args.model)
    resume.check_learns(model, args.model)
    if mix := {name: value for name, value in given(args, ELMoConfig).items() if name.startswith("mix_")}:
        if not isinstance(model, ELMo):
            raise ValueError(f"--{next(iter(mix)).replace('_', '-')} is for an ELMo, which {args.model} is not")
        model.remix(**mix)
    if args.fresh:
        with tt.random.seeded(settings.get("seed", 0)):
            model = type(model)(model.config)
    smaller = checkpoint.is_smaller(args.model) and not args.fresh
    task = TASKS[kind].of(*examples)  # what is wrong with the examples is said before any folder is made
    sources = args.model, args.data, args.held_out
    with runs.new_run(args.out, "finetune", args.overwrite, sources) as folder:
        trainer = finetune.begin(folder.path, (model, tokenizer), task, *examples, config, settings, smaller=smaller)
        trainer.folder = folder
        record |= {"train": settings, "checksum": checksum((kind, *examples))}
        write_json(folder.path / finetune.RECORD, record)
        for name, some in zip(WRITTEN, examples if write else ()):
            write_text(folder.path / name, "".join(json.dumps(example) + "\n" for example in some))
        checkpoint.seal(folder.path)
        learned, held_out = map(len, examples)
        print(f"{learned} examples to train on and {held_out} held out; {trainer.config.steps} steps; in {folder.goal}")
    return trainer


def _talker(args: argparse.Namespace) -> FineTuned | None:
    """What is to learn, where it talks: it may learn more talk, or to judge it."""
    if args.task not in ("chat", "reward") or not (args.model / "config.json").exists():
        return None
    return start.talker(args.model) if checkpoint.read_config(args.model).get("family") == "finetuned" else None


def _examples(run: Path, record: dict) -> list:
    """[kind, training examples, held-out examples] of a run's record; those that a talker wrote lie in its folder."""
    if not (run / WRITTEN[0]).exists():
        return list(examples_of(**record))
    return [record["task"], *(read_examples(run / name, record["task"]) for name in WRITTEN)]


def _resume(args: argparse.Namespace) -> Trainer:
    """A run that was stopped, as it was at its last checkpoint; more --epochs and settings of the training may be
    given."""
    fixed = ("model", "task", "data", "held_out", "examples", "out", "overwrite", "fresh")
    said = [name for name in fixed if vars(args)[name] not in (None, False)]
    said += [name for name in given(args, FineTuneConfig) if name != "epochs"]
    said += [name for name in given(args, ELMoConfig) if name.startswith("mix_")]
    if said:
        what = "MODEL" if said[0] == "model" else "--" + said[0].replace("_", "-")
        raise ValueError(f"--resume goes on with the run's own model, task and examples; leave out {what}")
    resume.check_goes_on(args.resume, "finetune")
    with resume.going_on(args.resume) as folder:
        return go_on(args, folder)


def go_on(args: argparse.Namespace, held: checkpoint.Folder) -> Trainer:
    folder, record = args.resume, finetune.read_record(args.resume)
    kind, *examples = _examples(folder, record)
    if checksum((kind, *examples)) != record["checksum"]:
        source = record["data"] or f"the built-in {record['task']}"
        raise ValueError(f"the examples of {source} are not those that {folder} was begun with; fine-tune anew")
    names = [field.name for field in dataclasses.fields(FineTuneConfig)]
    config = FineTuneConfig(**({name: record[name] for name in names} | given(args, FineTuneConfig)))
    settings, task = record["train"] | given(args, TrainConfig), TASKS[kind].of(*examples)
    trainer = finetune.begin(folder, None, task, *examples, config, settings)
    trainer.folder = held
    resume.restore(trainer)
    done, steps = trainer.progress.step, trainer.config.steps
    if done >= steps and _complete(trainer):
        raise ValueError(f"{folder} has all of its {steps} steps; ask for more with --epochs")
    print(f"going on after step {done} of {steps}; in {folder}")
    return trainer


def _complete(trainer: Trainer) -> bool:
    """Whether a trained run has its pictures: it may have been killed behind its last checkpoint."""
    names = ["loss.png"] + ["confusion.png"] * (trainer.report.tuned.task.kind in ("classify", "tag"))
    return resume.is_newer(trainer.run, *names) or not trainer.report.draw(trainer.run / "loss.png")
