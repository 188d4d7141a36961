"""Whatever goes wrong behind --overwrite, the run that was there stays byte for byte.

And no command writes into what it reads, no two trainings into one folder, and none is lost with its terminal.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.machine import chosen, contents, interrupted, machine, quick  # noqa: F401
from tests.faults.test_kills import OFTEN, TEXT, TINY
from train import trainer
from train.__main__ import main
from train.checkpoint import Folder

GPT = [*TINY, *OFTEN, "--steps", "2"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Runs to begin with, and texts, none of which may change."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "texts").mkdir()
    (folder / "texts" / "a.txt").write_text(TEXT)
    (folder / "short.txt").write_text("too short")
    (folder / "greek.txt").write_text("\N{GREEK CAPITAL LETTER OMEGA}" * 3000)
    rows = "".join(f"it {'ran off' if n % 2 else 'sat'}.\t{n % 2}\n" for n in range(40))
    (folder / "rows.tsv").write_text("text\tlabel\n" + rows)
    for name, seed in (("gpt", "0"), ("old", "1")):
        words = ["gpt", "--data", f"{folder}/texts", "--out", f"{folder}/{name}", *GPT, "--seed", seed]
        assert main(words) == 0
    return folder


@pytest.fixture
def there(made, tmp_path, monkeypatch, quick):  # noqa: F811
    """A copy of them, where the test stands."""
    shutil.copytree(made, tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    return tmp_path / "there"


QUICK = "--steps 2 --workers 1 --limit 1"
REFUSED = {  # what makes no sense, or cannot be had, behind the flag: nothing may be lost
    "finetune gpt --task classify --data rows.tsv --epochs 0": "epochs: it must be at least 1",
    "finetune gpt --task classify --data nowhere.tsv": "nowhere.tsv",
    "gpt --data short.txt": "fewer than",
    "gpt --data greek.txt --init gpt": "character",
    "gpt --data texts --layers 0": "layers: it must be at least 1",
    "prune gpt --amount 2": "2",
    "quantize gpt --bits 99": "99",
    "distill gpt --layers 9": "9",
    "lottery gpt --rewind 99999": "99999",
}
SOURCES = [  # (command, its --out): the folder is, holds or lies in what is read
    (f"prune gpt {QUICK}", "gpt"), (f"quantize gpt {QUICK}", "gpt"), (f"distill gpt --layers 1 {QUICK}", "gpt"),
    (f"lottery gpt {QUICK}", "gpt"), (f"prune gpt {QUICK}", "gpt/small"), (f"prune gpt {QUICK}", "."),
    ("gpt --init gpt --data texts", "gpt"), ("gpt --data gpt/samples.txt", "gpt"), ("gpt --data texts", "texts"),
    ("gpt --data texts", "texts/run"), ("gpt --data texts/a.txt --val short.txt", "."),
    ("gpt --data texts --tokenizer gpt/tokenizer.json", "gpt"),
    ("bert --data texts", "texts"), ("t5 --data texts", "texts"), ("elmo --data texts", "texts"),
    ("finetune gpt --task classify --data rows.tsv", "gpt"), ("finetune gpt --task classify --data rows.tsv", "."),
    ("tokenizer --data texts --vocab-size 300", "texts"), ("tokenizer --data texts/a.txt --kind characters", "gpt"),
    ("embed texts cat --model gpt", "texts/v.npz"), ("embed texts cat --model gpt", "gpt/v.npz"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("command", REFUSED)
def test_what_is_refused_leaves_what_was_there(command, there, capsys):
    before = contents(there)
    assert main([*command.split(), "--out", "old", "--overwrite"]) == 2
    assert REFUSED[command] in capsys.readouterr().err
    assert contents(there) == before


@pytest.mark.slow
@pytest.mark.parametrize("command, out", SOURCES)
def test_no_command_writes_into_what_it_reads(command, out, there, capsys):
    before = contents(there)
    assert main([*command.split(), "--out", out, "--overwrite"]) == 2
    error = capsys.readouterr().err
    assert "choose another --out" in error and error.count("\n") == 1
    assert contents(there) == before


@pytest.mark.slow
@pytest.mark.parametrize("fault", [MemoryError, KeyboardInterrupt, OSError, ValueError])
def test_a_training_that_fails_before_its_first_checkpoint_leaves_what_was_there(fault, there, monkeypatch, capsys):
    before = contents(there)

    def fails(*_):
        raise fault

    monkeypatch.setattr(trainer.Loop, "step", fails)
    for command in (["gpt", "--data", "texts", *GPT], ["prune", "gpt", *QUICK.split()],
                    ["finetune", "gpt", "--task", "classify", "--data", "rows.tsv", "--workers", "1"]):  # fmt: skip
        assert main([*command, "--out", "old", "--overwrite"]) in (2, 130)
    assert contents(there) == before


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True], ids=["kill", "full disk"])
def test_a_failure_at_any_call_leaves_the_old_run_or_the_new_one_whole(full, there, capsys):
    command = ["gpt", "--data", "texts", *GPT, "--out", "old", "--overwrite"]
    old = contents(there / "old")
    shutil.copytree("old", "kept")
    with machine(full=full) as whole:
        assert main(command) == 0
    new = contents(there / "old")["tokenizer.json"], contents(there / "old")["model.safetensors"]
    for at in chosen(whole.calls, 24, seed=1):
        shutil.rmtree("old")
        shutil.copytree("kept", "old")
        interrupted(command, at, full)
        found = contents(there / "old")
        assert main(["sample", "old", "--prompt", "the", "--tokens", "2"]) == 0  # which also puts it in order
        if found != old:
            assert main(["gpt", "--resume", "old"]) in (0, 2)
            found = contents(there / "old")
            assert (found["tokenizer.json"], found["model.safetensors"]) == new
        assert [name for name in os.listdir(there) if name[0] == "."] == []


@pytest.mark.slow
@pytest.mark.parametrize("content", [
    {"config.json": '{"family": "Smith"}', "photos.txt": "mine"},
    {"config.json": '{"family": "gpt"}', "letters.md": "mine"},
    {"config.json": '{"family": "gpt"}'},
    {"checksums.list": "mine"},
    {"notes/tokenizer.json": "mine"},
])  # fmt: skip
def test_what_does_not_prove_to_be_a_run_is_not_overwritten(content, there, capsys):
    for name, text in content.items():
        Path("foreign", name).parent.mkdir(parents=True, exist_ok=True)
        Path("foreign", name).write_text(text)
    before = contents(there)
    for command in (["gpt", "--data", "texts", *GPT], ["prune", "gpt", *QUICK.split()]):
        assert main([*command, "--out", "foreign", "--overwrite"]) == 2
    assert contents(there) == before
    Path("old/notes.md").write_text("on this run")
    assert main(["gpt", "--data", "texts", *GPT, "--out", "old", "--overwrite"]) == 2
    assert "it holds notes.md" in capsys.readouterr().err


@pytest.mark.slow
def test_pages_and_vectors_are_not_replaced_unasked(there, capsys):
    Path("page.html").write_text("mine")
    Path("v.npz").write_text("mine")
    page = ["score", "gpt", "--text", "the cat", "--html"]
    assert main([*page, "page.html"]) == main([*page, "gpt/model.safetensors", "--overwrite"]) == 2
    assert main(["embed", "texts/a.txt", "--model", "gpt", "--out", "v.npz"]) == 2
    assert Path("page.html").read_text() == Path("v.npz").read_text() == "mine"
    assert main([*page, "page.html", "--overwrite"]) == 0 and "<pre>" in Path("page.html").read_text()


def started(*words: str, **how) -> subprocess.Popen:
    where = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    listen = lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)  # also where the tests run under nohup
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=where, text=True, preexec_fn=listen) | how
    return subprocess.Popen([sys.executable, "-m", "train", *words], **pipes)


LONG = [*TINY, "--workers", "1", "--batch", "4", "--steps", "100000", "--eval-every", "100", "--eval-batches", "1"]


def wait_for(path: Path, process: subprocess.Popen) -> None:
    """Until there is something in a file."""
    end = time.monotonic() + 60
    while not (path.exists() and path.stat().st_size):
        assert process.poll() is None and time.monotonic() < end, process.stderr.read()
        time.sleep(0.01)


@pytest.mark.slow
def test_a_run_in_training_is_neither_resumed_nor_overwritten_and_a_folder_that_goes_is_noticed(there, capsys):
    process = started("gpt", "--data", "texts", "--out", "live", *LONG, "--save-every", "200")
    wait_for(Path("live/model.safetensors"), process)
    for words in (["gpt", "--resume", "live"], ["gpt", "--data", "texts", "--out", "live", "--overwrite", *GPT]):
        assert main(words) == 2
        assert "live is in use: another process trains it" in capsys.readouterr().err
    assert main(["sample", "live", "--prompt", "the", "--tokens", "2"]) == 0  # reading it is no matter
    os.rename("live", "elsewhere")
    assert process.wait(60) == 2
    assert "live was removed or replaced while it was trained" in process.stderr.read()
    assert not Path("live").exists()
    Folder(Path("elsewhere")).close()  # the lock went with the process


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGHUP", "SIGTERM", "head"])
def test_a_terminal_that_closes_and_a_reader_that_goes_are_as_ctrl_c(how, there):
    process = started("gpt", "--data", "texts", "--out", "live", *LONG, "--save-every", "100000")
    wait_for(Path("live/metrics.jsonl"), process)
    if how == "head":
        process.stdout.close()
    else:
        process.send_signal(signal.Signals[how])
    assert process.wait(60) == 0
    said = process.stderr.read() if how == "head" else process.stdout.read()
    assert "go on with: python -m train gpt --resume live" in said
    assert Path("live/trainer.safetensors").exists()


@pytest.mark.slow
def test_a_signal_before_training_leaves_no_folder(there):
    Path("texts/a.txt").write_text(TEXT * 3000)  # some seconds to encode
    process = started("gpt", "--data", "texts", "--tokenizer", "bpe", "--vocab-size", "300", "--out", "live", *GPT)
    wait_for(Path("live"), process)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert process.stderr.read() == "interrupted\n" and not Path("live").exists()


@pytest.mark.slow
def test_streams_that_are_closed_from_the_start_end_in_no_traceback(there):
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        shutil.rmtree("quiet", ignore_errors=True)
        line = f"{sys.executable} -m train gpt --data texts --out quiet {' '.join(GPT)} {closed}"
        where = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(["sh", "-c", line], env=where, capture_output=True, text=True)
        assert done.returncode == 0 and "Traceback" not in done.stderr
        assert main(["sample", "quiet", "--prompt", "the", "--tokens", "2"]) == 0


@pytest.mark.slow
def test_trainings_that_start_together_take_different_folders(there):
    all_of = [started("gpt", "--data", "texts", *GPT, stdout=subprocess.DEVNULL) for _ in range(4)]
    assert [process.wait(120) for process in all_of] == [0] * 4
    assert sorted(os.listdir("runs")) == ["gpt-1", "gpt-2", "gpt-3", "gpt-4"]
