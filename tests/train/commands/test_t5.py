import json
import shutil

import numpy as np
import pytest

from models.generate.answers import answer
from tests.train.test_runs import train
from train import checkpoint
from train.__main__ import main

TEXT = "Mia had a red ball. Ben had a blue hat. Mia gave Ben the red ball. Ben gave Mia the blue hat. " * 60
TINY = ["--layers", 1, "--heads", 2, "--head-width", 8, "--width", 24, "--hidden", 48, "--vocab-size", 150,
        "--context", 24, "--batch", 8, "--workers", 1, "--eval-every", 50, "--lr", 1e-2,
        "--optimizer", "adamw", "--warmup", 5]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small run of span corruption, shared by the tests that only read it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "text.txt").write_text(TEXT)
    done = train("t5", "--data", "text.txt", "--out", "run", *TINY, "--steps", 150, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def losses(run) -> list[float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["val_loss"] for line in lines if "val_loss" in line]


def test_a_small_run_learns_to_fill_gaps_and_says_what_it_wrote(finished):
    folder, done = finished
    assert losses(folder / "run")[-1] < 1.5  # ln(150) = 5.0 before; four sentences repeat
    samples = (folder / "run" / "samples.txt").read_text()
    assert samples.startswith("after 50 steps:") and "after 150 steps:" in samples and "wanted: <extra_id_0>" in samples
    assert "nats per token of the output" in done.stdout and "--input" in done.stdout


def test_a_run_goes_on_with_its_own_objective(finished, tmp_path):
    shutil.copytree(finished[0] / "run", tmp_path / "run")
    done = train("t5", "--resume", "run", "--steps", 160, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(losses(tmp_path / "run")) == len(losses(finished[0] / "run")) + 1
    refused = train("t5", "--resume", "run", "--steps", 200, "--objective", "next", cwd=tmp_path)
    assert refused.returncode == 2 and "--objective next does not fit: run was made with spans" in refused.stderr


def test_sample_answers_an_input(finished):
    folder, _ = finished
    text = "Mia had a <extra_id_0>. Ben had"
    done = train("sample", "run", "--input", text, "--tokens", 12, cwd=folder)
    assert done.returncode == 0, done.stderr
    model, tokenizer = checkpoint.load_model(folder / "run")
    assert done.stdout == answer(model, tokenizer, [text], 12)[0] + "\n" and "<extra_id_0>" in done.stdout
    beams = train("sample", "run", "--input", text, "--tokens", 12, "--beams", 3, "--samples", 2, cwd=folder)
    assert beams.stdout.splitlines() == answer(model, tokenizer, [text], 12, beams=3, samples=2)
    refused = train("sample", "run", "--prompt", text, cwd=folder)
    assert refused.returncode == 2 and "give the text to read with --input" in refused.stderr
    assert main(["eval", str(folder / "run")]) == 2


def test_texts_from_a_file_are_learned_and_answered(finished, tmp_path):
    lines = [f"who: {a} had a {b} ball.\t{a}" for a in ("Mia", "Ben") for b in ("red", "blue") for _ in range(10)]
    (tmp_path / "tasks.tsv").write_text("input\ttarget\n" + "\n".join(lines) + "\n")
    flags = ["--task", "text2text", "--data", "tasks.tsv", "--epochs", 40, "--lr", 1e-2, "--workers", 1, "--cap", 30]
    done = train("finetune", finished[0] / "run", *flags, "--out", "who", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "36 examples to train on and 4 held out; 80 steps" in done.stdout
    assert "exact_match 1.0000" in done.stdout and "rouge_l 1.0000" in done.stdout
    for name in ("Mia", "Ben"):
        asked = train("sample", "who", "--input", f"who: {name} had a blue ball.", cwd=tmp_path)
        assert asked.stdout == name + "\n", asked.stderr


def test_toys_and_the_stories_sets_are_tasks_of_a_t5(finished, tmp_path):
    for task, count in (("reverse", 24), ("questions", 24)):
        flags = ["--task", task, "--examples", count, "--epochs", 1, "--workers", 1, "--out", task]
        done = train("finetune", finished[0] / "run", *flags, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "24 examples to train on and 20 held out" in done.stdout and "bleu" in done.stdout


@pytest.mark.parametrize("objective, tokenizer", [("next", "unigram"), ("prefix", "bytes"), ("deshuffle", "unigram")])
def test_every_objective_trains_on_stories(objective, tokenizer, tmp_path):
    size = ["--vocab-size", 300] if tokenizer == "unigram" else []
    flags = [*TINY[:10], *size, *TINY[12:], "--stories", 20_000, "--steps", 50, "--tokenizer", tokenizer]
    done = train("t5", "--out", "run", "--objective", objective, *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    model, learned = checkpoint.load_model(tmp_path / "run")
    assert model.config.vocab_size == learned.vocab_size == (384 if tokenizer == "bytes" else 300)
    assert losses(tmp_path / "run")[-1] < np.log(learned.vocab_size) - 0.7  # half as many choices as there are tokens


def test_bad_objectives_are_named_before_any_work(tmp_path, capsys):
    for flags, sentence in [
        (["--objective", "masks"], "argument --objective: it must be one of spans, next, prefix, deshuffle"),
        (["--density", "1.5"], "argument --density: it must be less than 1, not 1.5"),
        (["--context", "2"], "context 2 is too short for span corruption"),
        (["--preset", "t6"], "unknown preset 't6'; choose from t5-small"),
    ]:
        size = [*map(str, TINY[:8]), "--stories", "20000", "--workers", "1"]
        assert main(["t5", "--out", str(tmp_path / "run"), *size, *flags]) == 2
        assert sentence in capsys.readouterr().err
        assert not (tmp_path / "run").exists()
