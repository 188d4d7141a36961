"""JSON of a run with one thing changed in it: config.json, trainer.json, corpus.json, metrics.jsonl, finetune.json."""

import argparse
import json
from functools import partial
from pathlib import Path

import pytest

from tests.faults.harness import changed, outcome, trials
from train import finetune, pretrain, resume
from train.__main__ import main
from train.checkpoint import load_model
from train.commands import bert, elmo, gpt, t5
from train.data.corpus import open_corpus
from train.recipes import Recipe
from train.report import Report

pytestmark = pytest.mark.slow
TEXT = "the cat sat on the mat. the dog sat on the log.\nthe hen sat in the pen, and the cat ran.\n\n" * 40
SMALL = ["--layers", "1", "--width", "8", "--workers", "1", "--steps", "2", "--batch", "2"]
RECIPES = {"gpt": gpt.RECIPE, "bert": bert.RECIPE, "t5": t5.RECIPE, "elmo": elmo.RECIPE}


def make_runs(folder: Path) -> None:
    """A run of every kind, two steps long."""
    text, data = folder / "text.txt", folder / "moods.tsv"
    text.write_text(TEXT)
    data.write_text("text\tlabel\n" + "glad\tgood\nsad\tbad\n" * 10)
    run = lambda *words: main([*map(str, words)]) and pytest.fail(str(words))
    own = ["--data", text, *SMALL]
    run("gpt", *own, "--heads", 2, "--context", 16, "--out", folder / "gpt")
    run("bert", *own, "--heads", 2, "--context", 16, "--vocab-size", 100, "--out", folder / "bert")
    run("t5", *own, "--heads", 2, "--context", 16, "--tokenizer", "bytes", "--out", folder / "t5")
    run("elmo", *own, "--hidden", 8, "--filters", "1x4,2x4", "--char-width", 4, "--out", folder / "elmo")
    run("prune", folder / "gpt", "--what", "neurons", "--steps", 1, "--limit", 1, "--out", folder / "pruned")
    run("quantize", folder / "gpt", "--limit", 1, "--out", folder / "quantized")
    run("finetune", folder / "bert", "--task", "classify", "--data", data, "--epochs", 1, "--workers", 1,
        "--out", folder / "tuned")  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    make_runs(folder)
    return folder


def readers(run: Path) -> dict[str, list]:
    """What reads each of a run's JSON files."""
    tuned = run.name == "tuned"
    recipe = RECIPES.get(run.name)
    config = [partial(finetune.load, run)] if tuned else [partial(load_model, run)]
    record = {"finetune.json": [partial(finetune.read_record, run)]} if tuned else {}
    if recipe:
        settings = [partial(resume.load_settings, run, recipe.objective.settings)]
        record = {"trainer.json": settings, "corpus.json": [partial(open_corpus, run, 10**6)]}
        config.append(partial(go_on, run, recipe))
    metrics = {"metrics.jsonl": [partial(read_metrics, run)]} if (run / "metrics.jsonl").exists() else {}
    return {"config.json": config} | metrics | record


def go_on(run: Path, recipe: Recipe) -> None:
    """Everything up to the first step."""
    parser = argparse.ArgumentParser()
    pretrain.add_arguments(parser, recipe)
    job = pretrain.start(parser.parse_args(["--resume", str(run), "--steps", "3"]), recipe)
    job.trainer.folder.close()


def read_metrics(run: Path) -> None:
    report = Report(run, 10)
    report.start(1)
    report.close()
    report.lines()


def test_changed_fields_of_runs_are_read_or_refused_in_a_sentence(runs):
    refused, tried = 0, 0
    names = sorted(path.name for path in runs.iterdir() if path.is_dir())
    files = [(name, file, reader) for name in names for file, each in readers(runs / name).items() for reader in each]
    for draw in trials(5000, 1):
        name, file, reader = draw.choice(files)
        path = runs / name / file
        whole = path.read_text()
        path.with_name("checksums.list").unlink(missing_ok=True)  # they would tell of every change
        try:
            if file == "metrics.jsonl":
                lines = whole.splitlines()
                at = draw.randrange(len(lines))
                lines[at] = json.dumps(changed(json.loads(lines[at]), draw))
                path.write_text("\n".join(lines) + "\n")
            else:
                path.write_text(json.dumps(changed(json.loads(whole), draw)))
            refused += bool(outcome(reader, runs))
            tried += 1
        finally:
            path.write_text(whole)
    assert tried and refused > tried / 4
