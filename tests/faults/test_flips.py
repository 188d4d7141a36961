"""Flipped bits, and files of another run in place of a run's own: each is named, none changes a result."""

import random
import shutil
from pathlib import Path

import pytest

from models import files
from models.tokenizers import load as load_tokenizer
from tests.faults.machine import quick  # noqa: F401
from tests.faults.test_kills import MADE, OFTEN, SHAPES, TEXT
from train import checkpoint, finetune, resume
from train.__main__ import main
from train.commands.gpt import RECIPE
from train.data.corpus import open_corpus

FLIPS = 500
READ = {  # file: what reads it
    "config.json": checkpoint.load_model, "model.safetensors": checkpoint.load_model,
    "best.safetensors": lambda run: checkpoint.load_model(run, "best"), "tokenizer.json": load_tokenizer,
    "trainer.safetensors": resume.load_trainer, "train.bin": open_corpus, "val.bin": open_corpus,
    "corpus.json": open_corpus, "trainer.json": lambda run: resume.load_settings(run, RECIPE.objective.settings),
    "checksums.list": checkpoint.load_model,
}  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Two runs with the same shapes, and a fine-tuned and a pruned one of each."""
    folder = tmp_path_factory.mktemp("pair")
    for seed, name in enumerate(("one", "two")):
        (folder / f"{name}.txt").write_text(TEXT if name == "one" else TEXT.replace("mat", "tam"))
        words = ["gpt", "--data", f"{folder}/{name}.txt", "--out", f"{folder}/{name}", *SHAPES["gpt"], *OFTEN]
        assert main([*words, "--steps", "2", "--seed", str(seed)]) == 0
        made = ["prune", f"{folder}/{name}", "--out", f"{folder}/small-{name}", "--limit", "1", *MADE["prune"]]
        assert main([*made, "--workers", "1", "--seed", str(seed)]) == 0
        rows = [f"the {'cat' if seed else 'dog'}\t{n % 2}\n" for n in range(20)]
        (folder / f"{name}.tsv").write_text("".join(["text\tlabel\n", *rows]))
        words = ["finetune", f"{folder}/{name}", "--task", "classify", "--data", f"{folder}/{name}.tsv"]
        assert main([*words, "--workers", "1", "--epochs", "1", "--out", f"{folder}/tuned-{name}"]) == 0
    return folder


@pytest.fixture(autouse=True)
def nobody_writes(monkeypatch):
    monkeypatch.setattr(files, "WAITS", (0,))


def silent(run: Path, name: str, read, content: bytes) -> bool:
    """Whether a file with that content is read as if nothing were the matter."""
    whole = (run / name).read_bytes()
    (run / name).write_bytes(content)
    try:
        read(run)
    except ValueError as sentence:
        return content != whole and name not in str(sentence) and "checksums.list" not in str(sentence)
    finally:
        (run / name).write_bytes(whole)
    return content != whole


def flipped(content: bytes, draw: random.Random) -> bytes:
    """With one to three bits turned over."""
    changed = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


@pytest.mark.slow
@pytest.mark.parametrize("name", READ)
def test_no_flipped_bit_and_no_file_of_another_run_is_read(name, pair):
    draw = random.Random(name)
    whole = (pair / "one" / name).read_bytes()
    READ[name](pair / "one")
    assert not any(silent(pair / "one", name, READ[name], flipped(whole, draw)) for _ in range(FLIPS))
    assert not silent(pair / "one", name, READ[name], (pair / "two" / name).read_bytes())
    cuts = range(0, len(whole), 1 + len(whole) // 20)
    assert not any(silent(pair / "one", name, READ[name], whole[:cut]) for cut in cuts)


@pytest.mark.slow
@pytest.mark.parametrize("kind, name, read", [
    ("tuned", "config.json", finetune.load), ("tuned", "model.safetensors", finetune.load),
    ("tuned", "finetune.json", finetune.read_record), ("tuned", "trainer.safetensors", resume.load_trainer),
    ("small", "model.safetensors", checkpoint.load_model), ("small", "config.json", checkpoint.load_model),
    ("small", "command.json", lambda run: files.read_json(run / "command.json")),
])  # fmt: skip
def test_nor_in_runs_that_were_made_of_others(kind, name, read, pair):
    draw, run = random.Random(kind + name), pair / f"{kind}-one"
    whole = (run / name).read_bytes()
    read(run)
    assert not any(silent(run, name, read, flipped(whole, draw)) for _ in range(FLIPS // 5))
    assert not silent(run, name, read, (pair / f"{kind}-two" / name).read_bytes())


@pytest.mark.slow
def test_a_file_that_the_run_never_wrote_is_not_read(pair, tmp_path):
    shutil.copytree(pair / "small-one", tmp_path / "run")
    shutil.copy(pair / "one" / "best.safetensors", tmp_path / "run")
    with pytest.raises(ValueError, match=r"best\.safetensors is none of the files that this run wrote"):
        checkpoint.load_model(tmp_path / "run", "best")


@pytest.mark.slow
def test_runs_without_checksums_are_read_as_before_and_get_them_when_they_go_on(pair, tmp_path, capsys):
    shutil.copytree(pair / "one", tmp_path / "run")
    (tmp_path / "run" / "checksums.list").unlink()
    checkpoint.load_model(tmp_path / "run")
    assert main(["gpt", "--resume", str(tmp_path / "run"), "--steps", "3"]) == 0
    assert {*READ} - {"checksums.list"} == {*files.checksums(tmp_path / "run")}
