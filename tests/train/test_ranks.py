"""Training on MPI's ranks: what forked processes compute, to the last bit; and what happens when one of them dies."""

import importlib.util
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from models.files import read_json
from train import checkpoint, resume

ROOT = Path(__file__).parent.parent.parent
MPIEXEC = Path(sys.executable).parent / "mpiexec"
missing = importlib.util.find_spec("mpi4py") is None or not MPIEXEC.exists()
pytestmark = pytest.mark.skipif(missing, reason="MPI is missing")

TINY = "--layers 2 --heads 2 --width 16 --context 16 --batch 8 --eval-batches 2 --lr 0.01 --warmup 4 --seed 3"
TEXT = "the cat sat on the mat. the dog sat on the log.\n" * 400
ENDLESS = f"{TINY} --steps 1000000 --save-every 3 --eval-every 1000 --data text.txt --out run"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


def command(words: str, **variables) -> subprocess.Popen:
    program = [sys.executable, "-m", "train", *words.split()]
    streams = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen(program, env=os.environ | variables, **streams)


def ended(words: str, **variables) -> str:
    """What a command prints, which must end well."""
    process = command(words, **variables)
    said, wrong = process.communicate(timeout=100)
    assert process.returncode == 0, said + wrong
    return said


def arrays(run: str) -> dict[str, np.ndarray]:
    return checkpoint.read_arrays(Path(run) / checkpoint.TRAINER)


def check_same_bits(run: str, other: str) -> None:
    ours, theirs = arrays(run), arrays(other)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name], err_msg=name)


def check_equal(run: str, other: str) -> None:
    """Within what float32 sums in another order make of the same steps."""
    ours, theirs = arrays(run), arrays(other)
    for name in [name for name in theirs if name.startswith("model.")]:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=2e-4, atol=2e-5, err_msg=name)


def descendants() -> dict[int, list[str]]:
    """The processes that train in this place: number -> words of its command line."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(folder / "cwd") == os.getcwd() and int(folder.name) != os.getpid():
                found[int(folder.name)] = (folder / "cmdline").read_text().split("\0")
        except OSError:
            pass
    return {number: words for number, words in found.items() if words != [""]}


def ranks_of(count: int) -> list[int]:
    """The process ids of the ranks, in the order of their numbers, as soon as they train."""
    end = time.monotonic() + 60
    while not (Path("run") / checkpoint.TRAINER).exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    numbers = {}
    for number in descendants():
        variables = dict(one.partition("=")[::2] for one in Path(f"/proc/{number}/environ").read_text().split("\0"))
        words = Path(f"/proc/{number}/cmdline").read_text()
        rank = variables.get("PMI_RANK", variables.get("OMPI_COMM_WORLD_RANK"))
        if rank is not None and "mpi4py" in words:
            numbers[int(rank)] = number
    assert sorted(numbers) == list(range(count)), numbers
    return [numbers[rank] for rank in range(count)]


def last_step() -> int:
    """That of the run's last checkpoint, which is whole for whoever reads it."""
    checkpoint.load_model(Path("run"))
    return resume.load_trainer(Path("run"))[1]["step"]


def check_nothing_runs() -> None:
    end = time.monotonic() + 30
    while left := descendants():
        assert time.monotonic() < end, left
        time.sleep(0.05)


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_compute_what_processes_and_one_worker_compute(place, size):
    steps = f"gpt --data text.txt {TINY} --steps 20 --eval-every 10"
    ended(f"{steps} --workers 1 --out one")
    ended(f"{steps} --workers {size} --worker-kind threads --out threads")
    ended(f"{steps} --workers {size} --worker-kind processes --out processes")
    said = ended(f"{steps} --ranks {size} --out ranks")
    assert f"; {size} MPI ranks; in ranks" in said
    check_same_bits("ranks", "processes")
    check_same_bits("ranks", "threads")
    check_equal("ranks", "one")
    files = {file.name for file in Path("one").iterdir()}
    assert {file.name for file in Path("ranks").iterdir()} == files


@pytest.mark.slow
@pytest.mark.parametrize("size, mix", [(2, "--experts-over 2"), (4, "--tensor 4"), (4, "--tensor 2 --experts-over 2")])
def test_ranks_with_parts_of_a_model_compute_what_processes_with_them_and_one_worker_compute(place, size, mix):
    steps = f"gpt --data text.txt {TINY} --heads 4 --experts 4 --jitter 0 --eps 1e-4 --steps 20 --eval-every 10"
    ended(f"{steps} --workers 1 --out one")
    ended(f"{steps} --workers {size} --worker-kind processes --out processes {mix}")
    ended(f"{steps} --ranks {size} --out ranks {mix}")
    ended(f"{steps} --ranks {size} --out far {mix}", TINYTENSOR_MACHINES="0,1,1,0"[: 2 * size - 1])
    check_same_bits("ranks", "processes")
    check_equal("ranks", "one")
    check_equal("far", "one")


@pytest.mark.slow
def test_ranks_on_several_machines_compute_what_one_worker_computes(place):
    steps = f"gpt --data text.txt {TINY} --dropout 0.1 --steps 20 --eval-every 10"
    ended(f"{steps} --workers 4 --worker-kind processes --out processes")
    ended(f"{steps} --ranks 4 --out near", TINYTENSOR_MACHINES="0,0,1,1")
    ended(f"{steps} --ranks 4 --out far", TINYTENSOR_MACHINES="0,1,2,3")
    check_equal("near", "processes")
    check_same_bits("far", "processes")  # each adds up what it hears in the order of the ranks


@pytest.mark.slow
def test_a_run_goes_on_with_any_number_of_ranks_and_with_the_same_to_the_same_bits(place):
    steps = f"gpt --data text.txt {TINY} --dropout 0.1 --save-every 5"
    ended(f"{steps} --steps 10 --ranks 2 --out whole")
    for run in ("ranks", "processes", "three"):
        ended(f"{steps} --steps 10 --schedule constant --ranks 2 --out {run}")
    ended("gpt --resume ranks --steps 20 --ranks 2")
    ended("gpt --resume processes --steps 20 --workers 2 --worker-kind processes")
    ended("gpt --resume three --steps 20 --ranks 3")
    ended(f"{steps} --steps 20 --schedule constant --ranks 2 --out at-once")
    check_same_bits("ranks", "at-once")
    check_same_bits("processes", "at-once")
    assert read_json(Path("three") / "trainer.json")["train"]["workers"] == 0
    assert resume.load_trainer(Path("three"))[1]["step"] == 20


@pytest.mark.slow
@pytest.mark.parametrize("words", [
    "bert --heads 2 --context 32 --vocab-size 300 --pairs none",
    "t5 --heads 2 --context 32 --tokenizer bytes",
    "elmo --hidden 8 --filters 1x4 --char-width 4",
    "xlnet --heads 2 --context 64 --reuse 16",
    "gpt --heads 2 --context 16 --tensor 2 --experts 4",
    "switch --heads 2 --context 16 --tokenizer bytes --optimizer adafactor",
    "gpt --heads 2 --context 16 --accumulate 3 --optimizer sgd",
])  # fmt: skip
def test_every_family_trains_on_ranks(place, words):
    steps = f"{words} --data text.txt --layers 1 --width 8 --batch 6 --steps 8 --eval-every 4 --seed 3"
    ended(f"{steps} --workers 2 --worker-kind processes --out processes")
    ended(f"{steps} --ranks 2 --out ranks")
    check_same_bits("ranks", "processes")
    if "elmo" in words:
        ended(f"{steps} --ranks 2 --out far", TINYTENSOR_MACHINES="0,1")
        check_same_bits("far", "processes")


def test_bad_words_are_refused_in_one_sentence_and_nothing_is_left(place):
    for words, sentence in (
        ("--ranks 2 --width 15 --heads 2", "width 15 is not divisible by heads 2"),
        ("--ranks 2 --workers 2", "MPI's ranks are the workers; leave out --workers"),
        ("--ranks 0", "--ranks must be a whole number from 1 to 1024, not 0"),
    ):
        process = command(f"gpt --data text.txt {words} --out run")
        said, wrong = process.communicate(timeout=100)
        assert process.returncode == 2 and wrong.count("error:") == 1 and sentence in wrong, wrong
        assert said == "" and not Path("run").exists()


@pytest.mark.parametrize("rank", [0, 2])
def test_a_killed_rank_ends_the_run_with_one_sentence_and_its_last_checkpoint(place, rank):
    process = command(f"gpt {ENDLESS} --ranks 3")
    os.kill(ranks_of(3)[rank], signal.SIGKILL)
    began = time.monotonic()
    _, wrong = process.communicate(timeout=60)
    assert time.monotonic() - began < 20
    assert process.returncode == 2 and wrong.count("error:") == 1, wrong
    assert "a rank died before the command was done; go on from the last checkpoint" in wrong
    check_nothing_runs()
    step = last_step()
    assert step and step % 3 == 0
    ended(f"gpt --resume run --steps {step + 2} --ranks 2")


def test_a_rank_that_leaves_with_status_0_is_no_success(place):
    """Some mpiexecs end with 0 then, and without a word; so it is rank 0 that says when all is done."""
    (place / "sitecustomize.py").write_text("""
import os, threading, time
if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")) == "1":
    def leave():
        while not os.path.exists("run/trainer.safetensors"):
            time.sleep(0.05)
        os._exit(0)
    threading.Thread(target=leave, daemon=True).start()
""")
    process = command(f"gpt {ENDLESS} --ranks 2", PYTHONPATH=f"{place}{os.pathsep}{ROOT}")
    _, wrong = process.communicate(timeout=60)
    assert process.returncode == 2 and "a rank died before the command was done" in wrong, wrong
    check_nothing_runs()


def test_an_error_at_one_rank_ends_all_and_is_passed_on(place):
    (place / "sitecustomize.py").write_text("""
import os
if os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")) == "1":
    import models.gpt
    before, calls = models.gpt.GPT.loss, []
    def loss(self, *more):
        calls.append(1)
        if len(calls) == 12:
            raise ArithmeticError("no such luck")
        return before(self, *more)
    models.gpt.GPT.loss = loss
""")
    process = command(f"gpt {ENDLESS} --ranks 3", PYTHONPATH=f"{place}{os.pathsep}{ROOT}")
    _, wrong = process.communicate(timeout=60)
    said = "error: worker 1 failed: ArithmeticError: no such luck; go on from the last checkpoint with --resume run\n"
    assert process.returncode == 2 and wrong == said
    check_nothing_runs()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_the_last_step_and_ends_all(place, number):
    process = command(f"gpt {ENDLESS} --ranks 2")
    ranks_of(2)
    process.send_signal(number)
    said, wrong = process.communicate(timeout=60)
    assert process.returncode == 0 and wrong == "", wrong
    step = last_step()
    assert f"stopped after step {step}; go on with: python -m train gpt --resume run" in said
    check_nothing_runs()


def test_the_ranks_end_when_what_started_them_is_killed(place):
    process = command(f"gpt {ENDLESS} --ranks 2")
    ranks_of(2)
    process.kill()
    process.communicate(timeout=60)
    check_nothing_runs()
    assert last_step() > 0


@pytest.mark.slow
def test_more_ranks_than_cores_come_to_an_end(place):
    said = ended(f"gpt --data text.txt {TINY} --steps 100 --ranks {2 * len(os.sched_getaffinity(0))} --out run")
    assert "step 100/100" in said


@pytest.mark.slow
def test_children_forked_after_mpi_began_leave_it_as_it_was(place):
    """eval works with forked processes at rank 0; its ranks then end in good order."""
    ended(f"gpt --data text.txt {TINY} --steps 5 --workers 1 --out run")
    program = [MPIEXEC, "-n", "2", sys.executable, "-m", "mpi4py", "-m", "train", "eval", "run", "--data", "text.txt"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "nats per token" in done.stdout and done.stderr == "", done.stdout + done.stderr
    check_nothing_runs()


@pytest.mark.slow
def test_whoever_is_killed_whenever_the_last_checkpoint_is_whole(place):
    """TINYTENSOR_KILLS: at how many moments."""
    draw = random.Random(0)
    for _ in range(int(os.environ.get("TINYTENSOR_KILLS", 2))):
        process = command(f"gpt {ENDLESS} --overwrite --ranks 3 --save-every 1".replace("--save-every 3", ""))
        victims = ranks_of(3)
        time.sleep(draw.uniform(0, 1.5))
        os.kill(victims[rank := draw.randrange(3)], signal.SIGKILL)
        _, wrong = process.communicate(timeout=60)
        assert process.returncode == 2 and wrong.count("error:") == 1, (rank, wrong)
        check_nothing_runs()
        step = last_step()
        ended(f"gpt --resume run --steps {step + 2} --ranks 3 --schedule constant")
        assert last_step() == step + 2
        for file in Path("run").iterdir():
            file.unlink()
        Path("run").rmdir()
