"""Command lines with flags, values and words drawn at random, up to the first step of any training."""

import contextlib
import io
import random
import re
import tempfile
from functools import partial
from pathlib import Path

import pytest

from tests.faults.harness import outcome, trials
from tests.faults.test_json import make_runs
from train.__main__ import main
from train.commands import quantize
from train.data.told import StoriesSource
from train.trainer import Trainer

pytestmark = pytest.mark.slow
WORDS = ["", " ", "--", "x", "a,b", "1x2", "None", "gpt", "adamw", "cosine", "cpu", "../x", "/dev/zero", "ü",
         "nowhere", "text.txt", "moods.tsv", ".", "word " * 100, "\udcff", "nan", "1e400", "9" * 400]  # fmt: skip
VALUES = {"N": ["0", "-1", "1", "2", "3", "7", "16", "300", "1000000000", "-9999999999", "1.5"],
          "X": ["0", "1", "0.5", "2", "-0.5", "1e-3", "1e30", "nan", "inf", "-inf", "1e400"]}  # fmt: skip
RUNS = ["gpt", "bert", "t5", "elmo", "pruned", "quantized", "tuned"]
USUAL = {  # what each command is called with, a word a comma apart; RUN becomes one of the runs
    "gpt": "--data,text.txt,--layers,1,--heads,1,--width,8,--context,8,--workers,1",
    "bert": "--data,text.txt,--layers,1,--heads,1,--width,8,--context,16,--vocab-size,80,--workers,1",
    "t5": "--data,text.txt,--layers,1,--heads,1,--width,8,--context,16,--tokenizer,bytes,--workers,1",
    "elmo": "--data,text.txt,--layers,1,--width,8,--hidden,8,--filters,1x4,--char-width,4,--workers,1",
    "finetune": "bert,--task,classify,--data,moods.tsv,--epochs,1,--workers,1", "ask": "tuned,glad",
    "sample": "RUN,--prompt,the,--tokens,5", "score": "RUN,--text,the cat", "fill": "the [MASK],--model,RUN",
    "embed": "text.txt,cat,--model,RUN", "neighbours": "RUN,the *cat* sat,--data,text.txt,--lines,5",
    "eval": "RUN,--data,text.txt", "tokenizer": "--data,text.txt,--vocab-size,300,--out,made.json,--overwrite",
    "prune": "RUN,--limit,1,--steps,1,--workers,1", "quantize": "gpt,--limit,1,--workers,1",
    "distill": "RUN,--limit,1,--steps,1,--workers,1", "lottery": "RUN,--limit,1,--steps,2,--workers,1",
}


def flags_of(command: str) -> list[tuple[str, str]]:
    """(flag, what its value is called) as its help shows them, but for those that would leave this process."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([command, "--help"])
    found = re.findall(r"(?m)^  (?:-h, )?(--[a-z0-9-]+)(?: ([A-Z]+))?", shown.getvalue())
    left_out = ("--help", "--workers", "--worker-kind", "--device", "--tensorboard")
    return [pair for pair in found if pair[0] not in left_out]


def line(draw: random.Random, flags: dict[str, list[tuple[str, str]]]) -> list[str]:
    """A usual command line with one to three words added, replaced or left out."""
    command, run = draw.choice(sorted(USUAL)), draw.choice(RUNS)
    words = [run if word == "RUN" else word for word in USUAL[command].split(",")]
    for _ in range(draw.choice([1, 1, 2, 3])):
        flag, kind = draw.choice(flags[command])
        value = draw.choice(VALUES[kind] if kind in VALUES and draw.random() < 0.9 else WORDS)
        match draw.randrange(10):
            case 0:
                words.insert(draw.randrange(len(words) + 1), value)
            case 1:
                words[draw.randrange(len(words))] = value
            case 2 if len(words) > 1:
                del words[draw.randrange(len(words))]
            case 3:
                words.append(f"{flag}={value}")
            case _:
                words += [flag, value] if kind else [flag]
    return [command, *words]


def called(words: list[str]) -> int:
    try:
        return main(words)
    except SystemExit as end:  # of argparse: a flag that it does not know, or --help
        return int(end.code or 0)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Runs of every kind, in which nothing is trained any further: the user stops each training at once."""
    here = tmp_path / "here"  # so that ../x lies in the folder too
    here.mkdir()
    make_runs(here)
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where short trainings of a comparison have their runs
    monkeypatch.setattr(Trainer, "train", lambda trainer: trainer.progress)
    monkeypatch.setattr(quantize, "CURVE", (8,))  # the widths of the picture, each of which takes a second
    told = StoriesSource.__init__
    few = lambda source, characters, *more: told(source, min(characters, 20_000), *more)  # making more takes long
    monkeypatch.setattr(StoriesSource, "__init__", few)
    return tmp_path


def test_random_command_lines_do_what_they_say_or_end_with_a_sentence(folder):
    flags = {command: flags_of(command) for command in USUAL}
    refused, done = 0, 0
    for draw in trials(2000, 7):
        if outcome(partial(called, line(draw, flags)), folder):
            refused += 1
        else:
            done += 1
    assert done and refused
