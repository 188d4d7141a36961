"""The README is a program: its commands and its Python lines run, in order, in a folder of their own.

Blocks marked ```sh and ```python are run as they stand, but for the two that make a virtual environment and install.
Comments above a block name what a command is given besides, so that each takes seconds; a comment "prints ..." behind a
line of Python is what must have been printed.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from models import BERT, GPT, T5, BERTConfig, GPTConfig, T5Config
from models.tokenizers import ByteLevelBPE
from tests.models.published_elmo import make_files
from train.data.stories import corpus
from train.data.toys import examples
from train.overwrite import check_ours

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
SMALL = dict(re.findall(r"^([a-z0-9/ -]+): (--.*)$", README, re.MULTILINE))


def commands() -> list[str]:
    lines = [line for kind, block in BLOCKS if kind == "sh" for line in block.splitlines()]
    last = [line.split("  # ")[0].rpartition("&& ")[2].strip() for line in lines]
    return [line.removeprefix(".venv/bin/") for line in last if "python -m train" in line]


def settings(command: str) -> list[str]:
    """What a command is given besides: by its name, or its first two words."""
    words = command.split()
    return next((SMALL[name].split() for name in (" ".join(words[:2]), words[0]) if name in SMALL), [])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where a reader might stand: with a book, notes, tasks, and folders downloaded from a hub."""
    folder = tmp_path_factory.mktemp("reader")
    told = corpus(60_000, seed=1).text
    (folder / "book.txt").write_text(told)
    (folder / "notes").mkdir()
    (folder / "notes" / "bread.txt").write_text("Bread is baked in a hot oven. " + told[:3000])
    tasks, _ = examples("reverse", 60, 1)
    lines = ["input\ttarget", *(f"{e['input']}\t{e['target']}" for e in tasks)]
    (folder / "tasks.tsv").write_text("\n".join(lines) + "\n")
    tokenizer = ByteLevelBPE.train([told], 400)
    shape = dict(vocab_size=tokenizer.vocab_size, layers=1, heads=2, width=16)
    GPT(GPTConfig(context=64, **shape)).save_pretrained(folder / "gpt2", tokenizer)
    BERT(BERTConfig(context=16, hidden=32, **shape)).save_pretrained(folder / "bert")
    T5(T5Config(head_width=8, hidden=32, **shape)).save_pretrained(folder / "t5")
    return folder


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess:
    where = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *words], cwd=folder, env=where, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_every_command_of_the_readme_runs_in_its_order(folder):
    assert len(commands()) > 20
    for line in commands():
        words = shlex.split(line)[3:]
        done = run(["-m", "train", *words, *settings(" ".join(words))], folder)
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        print(f"$ {line}\n{done.stdout}")
    for made in (folder / "runs").iterdir():
        check_ours(made)  # --overwrite knows whatever a command leaves in a run


@pytest.mark.slow
def test_the_python_lines_of_the_readme_run_and_print_what_they_say(folder):
    blocks = [block for kind, block in BLOCKS if kind == "python"]
    assert len(blocks) == 2
    for block in blocks:
        if "ELMo" in block:
            pytest.importorskip("h5py", reason="ELMo's published weights are hdf5 files: pip install -e '.[elmo]'")
            make_files(folder)
        done = run(["-c", block], folder)
        assert done.returncode == 0, done.stderr
        said = re.findall(r"# prints (.*)", block)
        assert [line for line in done.stdout.splitlines() if line in said] == said


def test_every_file_that_the_readme_and_its_pages_lead_to_is_there():
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for place in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in place or (page.parent / place).exists(), f"{page.name} leads to {place}"


@pytest.mark.parametrize("page", ["README.md", "docs/lecture.md"])
def test_every_file_that_is_named_is_there(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in re.findall(r"`((?:tinytensor|nn|models|train|tests|docs|notebooks|benchmarks)/[\w/.]*)`", text):
        assert (ROOT / name).exists(), name
