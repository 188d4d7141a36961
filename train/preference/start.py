"""What `dpo` and `ppo` share: the talker to begin with, the examples, the new run's folder, going on with a run.

Such a run is a talker's like any other (config.json, `chat`, `ask`, `sample`); command.json says what it was asked to
do. To go on, everything but the weights is made again from that.
"""

import argparse
import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

from models.files import checksums, read_json, write_json
from models.schema import Million
from train import checkpoint, finetune, resume, runs
from train.data.stories.dialogues import Writer
from train.finetune import FineTuned
from train.flags import typed
from train.preference.replies import drawn, text_of
from train.tasks import Chat
from train.tasks.examples import checksum, examples_of
from train.trainer import Trainer


def add_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    add = parser.add_argument
    add("run", metavar="RUN", type=Path, nargs="?", help="a GPT that talks: a run of finetune --task chat")
    add("--data", metavar="FILE", type=Path, help="preferences, .jsonl or .jsonl.gz [talk from the stories' world]")
    add("--held-out", metavar="FILE", type=Path, help="preferences to measure on [a tenth of --data]")
    add("--examples", metavar="N", type=typed(Million), help="to make where there is no --data [2000]")
    add("--out", metavar="RUN", type=Path, help=f"the new run's folder [runs/{name}-N]")
    add("--overwrite", action="store_true", help="let it take the place of the run that --out is")
    add("--resume", metavar="RUN", type=Path, help="go on with this run, which was stopped")


def begun(args: argparse.Namespace, command: str, add_flags: Callable) -> argparse.Namespace:
    """What to do: as the flags say or, with --resume, as they said when the run was begun."""
    if args.run is None and args.resume is None:
        raise ValueError(f"say which talker to begin with: python -m train {command} RUN")

    def check(run: Path) -> None:
        if not (run / resume.COMMAND).exists() or resume.begun_by(run).command != command:
            raise ValueError(f"{run} is no run of {command}; begin one with: python -m train {command} RUN")

    return resume.as_begun(args, command, add_flags, check)


def talker(run: Path) -> FineTuned:
    """The GPT of a run that has learned to talk."""
    tuned = finetune.load(run)
    if not (isinstance(tuned.task, Chat) and tuned.family.talker):
        what = f"was fine-tuned for {tuned.task.kind}, not to talk"
        raise ValueError(f"{run} {what}; begin with: python -m train finetune RUN --task chat")
    resume.check_learns(tuned.model, run)
    return tuned


def writer(tuned: FineTuned, samples: int = 2) -> Writer:
    """Several replies of a talker to each request, for somebody to put them in order."""

    def write(requests: list[str]) -> list[list[str]]:
        asked = [[{"role": "user", "content": request}] for request in requests]
        return [[text_of(tuned, ids) for ids in some] for some in drawn(tuned, asked, samples)[1]]

    return write


def examples(args: argparse.Namespace) -> tuple[list[dict], list[dict]]:
    """(preferences to learn from, and held-out ones)"""
    if args.data and args.examples is not None:
        raise ValueError("--examples are made where there is no --data; leave out one of the two")
    if args.held_out and not args.data:
        raise ValueError("--held-out goes with --data; the stories' world holds out examples of its own")
    return examples_of("reward", args.data, args.held_out, 2000 if args.examples is None else args.examples)[1:]


def as_demonstrations(preferences: list[dict]) -> list[dict]:
    """Their prompts with the best replies."""
    best = lambda e: [*e["messages"], {"role": "assistant", "content": e["replies"][0]}]
    return [example | {"messages": best(example)} for example in preferences]


def trainer_of(args: argparse.Namespace, command: str, sources: list[Path], make: Callable[..., Trainer],
               used: tuple) -> Trainer:  # fmt: skip
    """The trainer that make(folder, FineTuned to train) makes: in a new folder, or as the run's last checkpoint has it.

    sources: the runs that are read.   used: the examples; what a run goes on with must be what it was begun with.
    """
    print_of = {str(source): (checksums(source) or {}).get(checkpoint.WEIGHTS["last"]) for source in sources}
    record = {"examples": checksum(used), "sources": print_of}
    with _folder(args, command, [*sources, args.data, args.held_out]) as folder:
        if args.resume and (was := read_json(folder.path / RECORD)) != record:
            changed = next(name for name in record if was.get(name) != record[name])
            raise ValueError(f"the {changed} that {folder.path} was begun with have changed; begin anew")
        trainer = make(folder, finetune.load(folder.path) if args.resume else None)
        trainer.folder = folder
        if args.resume:
            resume.restore(trainer)
            done, steps = trainer.progress.step, trainer.config.steps
            if done >= steps:
                raise ValueError(f"{folder.path} has all of its {steps} steps")
            print(f"going on after step {done} of {steps}; in {folder.path}")
        else:
            write_json(folder.path / resume.COMMAND, {"command": command, "words": args.words})
            write_json(folder.path / RECORD, record)
            checkpoint.seal(folder.path)
    return trainer


RECORD = "preference.json"  # in the run's folder: checksums of what it was begun with


@contextlib.contextmanager
def _folder(args: argparse.Namespace, command: str, sources: list) -> Iterator[checkpoint.Folder]:
    if args.resume:
        with resume.going_on(args.resume) as folder:
            yield folder
    else:
        with runs.new_run(args.out, command, args.overwrite, sources) as folder:
            yield folder


def save_talker(folder: Path, tuned: FineTuned) -> None:
    """What the folder of a talker has beside its weights."""
    write_json(folder / "config.json", finetune.about(tuned))
    tuned.inputs.tokenizer.save(folder)


def with_model(tuned: FineTuned, model, critic: str = "none") -> FineTuned:
    """The same talker around another model."""
    return dataclasses.replace(tuned, model=model, task=dataclasses.replace(tuned.task, critic=critic))
