"""Whole runs through the command line: they learn, they stop and go on, they survive being killed, and they say in one
sentence what is wrong with what they were given."""

import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from models import GPT
from models.files import UNFINISHED, checksum, in_json, read_json, write_beside, write_checksums, write_json
from models.generate import generate
from models.tokenizers import ByteLevelBPE
from train import checkpoint
from train.__main__ import main as command
from train.runs import new_run

ROOT = Path(__file__).parents[2]
TEXT = "the cat sat on the mat. the dog sat on the log. the hen sat in the pen.\n" * 60
TINY = "--layers 1 --heads 2 --width 16 --context 16 --batch 4 --lr 0.01 --warmup 4".split()  # noqa: SIM905


def train(*arguments, cwd, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "train", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        **options,
    )


def start(*arguments, cwd) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "train", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path, process: subprocess.Popen, seconds: float = 60) -> None:
    """Until the file is there; fails if the process ends before."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small finished run, shared by the tests that only read it."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "text.txt").write_text(TEXT)
    done = train("gpt", "--data", "text.txt", "--out", "run", *TINY, "--steps", 300, "--eval-every", 100, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def weights(run: Path) -> dict:
    return safetensors.numpy.load_file(run / "model.safetensors")


def test_a_small_run_learns_a_small_text(finished):
    folder, done = finished
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    losses = [line["val_loss"] for line in lines if "val_loss" in line]
    assert len(losses) == 3
    assert losses[-1] < 0.6  # ln(17 characters) = 2.8 before; the text repeats three sentences
    assert {"step", "loss", "lr", "tokens_per_s"} <= lines[0].keys()
    assert "bits per byte" in done.stdout


def test_a_run_on_the_stories_ends_with_its_loss_beside_their_entropy(tmp_path):
    done = train("gpt", "--stories", 60_000, "--out", "run", *TINY, "--steps", 20, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    entropy, above, further = re.search(
        r"the entropy of this text is (\S+): the loss is (\S+)% above .*\n"
        r".* with 8 tokens at least: python -m train (eval run --stride 8)",
        done.stdout,
    ).groups()
    held_out = float(re.search(r"held-out loss (\S+) nats", done.stdout)[1])
    assert float(above) == pytest.approx(100 * (held_out / float(entropy) - 1), abs=0.1)
    measured = train(*further.split(), cwd=tmp_path).stdout
    told = re.search(r"(\S+) nats per token, .*\nthe entropy of .* is (\S+) .*: (\S+)% above", measured)
    loss, said, more = told.groups()
    assert said == entropy and float(loss) == pytest.approx(held_out, rel=0.01)
    assert float(more) == pytest.approx(100 * (float(loss) / float(entropy) - 1), abs=0.1)


def test_a_run_leaves_all_it_promises(finished):
    folder, _ = finished
    names = {path.name for path in (folder / "run").iterdir()}
    assert names >= {
        "config.json", "model.safetensors", "best.safetensors", "trainer.safetensors", "trainer.json",
        "tokenizer.json", "metrics.jsonl", "samples.txt",
    }  # fmt: skip
    assert not [name for name in names if name.startswith(".")]


def test_without_matplotlib_a_run_works_and_says_how_to_get_its_picture(folder):
    (folder / "matplotlib.py").write_text("raise ImportError")
    done = train("gpt", "--data", "text.txt", "--out", "run", *TINY, "--steps", 2, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "pip install matplotlib" in done.stdout
    assert not (folder / "run" / "loss.png").exists()


def test_a_finished_run_learns_a_new_text_from_where_it_stands(finished, tmp_path):
    folder, _ = finished
    (tmp_path / "other.txt").write_text("a pen in the cat. a mat in the log. " * 120)
    shape = TINY[TINY.index("--batch") :]
    losses = []
    for run, start in (("again", ["--init", folder / "run", *shape]), ("new", TINY)):
        more = ["--out", run, *start, "--steps", 20, "--eval-every", 10]
        done = train("gpt", "--data", "other.txt", *more, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        losses.append([line["val_loss"] for line in lines if "val_loss" in line])
    assert losses[0][-1] < losses[1][-1] - 0.3 and losses[0][-1] < losses[0][0]
    same = [(folder / "run" / "tokenizer.json").read_text(), (tmp_path / "again" / "tokenizer.json").read_text()]
    assert same[0] == same[1]
    done = train("gpt", "--data", "other.txt", "--init", folder / "run", "--width", 32, cwd=tmp_path)
    assert done.returncode == 2 and "--init goes on with the tokenizer and the shape of" in done.stderr
    assert "leave out --width" in done.stderr and not (tmp_path / "runs").exists()


def test_the_loss_curve_is_a_picture(folder):
    pytest.importorskip("matplotlib")
    done = train("gpt", "--data", "text.txt", "--out", "run", *TINY, "--steps", 20, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_sampling_goes_on_from_the_prompt_and_repeats_with_the_seed(finished):
    folder, _ = finished
    first, again = (train("sample", "run", "--prompt", "the c", "--tokens", 40, "--temperature", 0, cwd=folder)
                    for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == again.stdout
    model, tokenizer = checkpoint.load_model(folder / "run")
    ids = generate(model, np.array(tokenizer.encode("the c")), 40, temperature=0)
    assert first.stdout == tokenizer.decode(ids.tolist()) + "\n"


def test_a_published_folder_is_used_like_a_run(finished, tmp_path):
    model, _ = checkpoint.load_model(finished[0] / "run")
    tokenizer = ByteLevelBPE.train([TEXT], 270)
    published = GPT(replace(model.config, vocab_size=tokenizer.vocab_size, bias=True))
    published.save_pretrained(tmp_path / "published", tokenizer)
    done = train("sample", "published", "--prompt", "the c", "--tokens", 5, "--temperature", 0, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    ids = generate(published, np.array(tokenizer.encode("the c")), 5, temperature=0)
    assert done.stdout == tokenizer.decode(ids.tolist()) + "\n"
    done = train("eval", "published", "--data", finished[0] / "text.txt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_eval_gives_the_loss_the_run_ended_with(finished):
    folder, _ = finished
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    done = train("eval", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    printed = float(re.search(r"([\d.]+) nats per token", done.stdout)[1])
    losses = [line["val_loss"] for line in lines if "val_loss" in line]
    assert printed == pytest.approx(losses[-1], abs=1e-4)


def test_eval_measures_another_text(finished):
    folder, _ = finished
    (folder / "other.txt").write_text("pen hen cat mat " * 30)
    done = train("eval", "run", "--data", "other.txt", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "perplexity" in done.stdout and "guessing" not in done.stdout


def test_eval_says_what_guessing_would_cost_where_a_model_does_worse(finished):
    folder, _ = finished
    (folder / "backwards.txt").write_text(TEXT[::-1])
    done = train("eval", "run", "--data", "backwards.txt", cwd=folder)
    assert float(re.search(r"([\d.]+) nats per token", done.stdout)[1]) > math.log(len(set(TEXT)))
    assert f"the {len(set(TEXT))} entries of the vocabulary would cost {math.log(len(set(TEXT))):.4f}" in done.stdout


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_forty_steps_equal_twenty_and_a_kill_and_twenty_more_bit_for_bit(folder, kind):
    options = [*TINY, "--steps", 40, "--save-every", 20, "--dropout", 0.1, "--workers", 2, "--worker-kind", kind]
    straight = train("gpt", "--data", "text.txt", "--out", "straight", *options, cwd=folder)
    assert straight.returncode == 0, straight.stderr

    broken = start("gpt", "--data", "text.txt", "--out", "broken", *options, cwd=folder)
    wait_for(folder / "broken" / "model.safetensors", broken)
    broken.send_signal(signal.SIGKILL)
    broken.communicate()
    for name in ("trainer.safetensors", "model.safetensors"):  # the kill may have come after step 40 was saved
        assert (folder / "broken" / name).exists()
    _, state = read_progress(folder / "broken")
    if state["step"] == 20:
        resumed = train("gpt", "--resume", "broken", cwd=folder)
        assert resumed.returncode == 0, resumed.stderr
    expected, got = weights(folder / "straight"), weights(folder / "broken")
    assert expected.keys() == got.keys()
    for name in expected:
        np.testing.assert_array_equal(got[name], expected[name], err_msg=name)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_a_run_saved_by_two_workers_goes_on_with_one_or_with_three(folder, monkeypatch, optimizer):
    monkeypatch.chdir(folder)
    options = ["--data", "text.txt", *TINY, "--optimizer", optimizer, "--save-every", "10"]

    def saved(run: str) -> dict:
        return safetensors.numpy.load_file(folder / run / "trainer.safetensors")

    for workers in ("1", "2"):
        assert command(["gpt", *options, "--out", workers, "--steps", "10", "--workers", workers]) == 0
    state, parameters = saved("2"), sum(array.size for name, array in saved("2").items() if name.startswith("model."))
    if optimizer == "adamw":
        assert state["optimizer.m"].shape == state["optimizer.v"].shape == (parameters,)
    for name, array in saved("1").items():  # sums in another order, ten steps apart
        np.testing.assert_allclose(state[name], array, rtol=2e-2, atol=2e-3, err_msg=name)
    for workers in ("1", "2", "3"):
        shutil.copytree("2", f"2-{workers}")
        assert command(["gpt", "--resume", f"2-{workers}", "--steps", "12", "--workers", workers]) == 0
    for name, array in saved("2-2").items():
        for workers in ("1", "3"):
            np.testing.assert_allclose(saved(f"2-{workers}")[name], array, rtol=2e-3, atol=2e-4, err_msg=name)


def test_a_checkpoint_of_another_optimizer_is_refused_before_any_work(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert command(["gpt", "--data", "text.txt", "--out", "run", *TINY, "--steps", "2", "--workers", "2"]) == 0
    assert command(["gpt", "--resume", "run", "--steps", "4", "--optimizer", "adafactor"]) == 2
    assert "the saved state is not Adafactor's: moments is missing, expected" in capsys.readouterr().err


def read_progress(run: Path):
    with safetensors.safe_open(run / "trainer.safetensors", framework="numpy") as file:
        return file, json.loads(file.metadata()["progress"])


def test_metrics_of_a_resumed_run_have_every_step_once(folder):
    options = [*TINY, "--steps", 60, "--save-every", 20, "--log-every", 1]
    broken = start("gpt", "--data", "text.txt", "--out", "run", *options, cwd=folder)
    wait_for(folder / "run" / "model.safetensors", broken)
    broken.send_signal(signal.SIGKILL)
    broken.communicate()
    if read_progress(folder / "run")[1]["step"] < 60:
        assert train("gpt", "--resume", "run", cwd=folder).returncode == 0
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 61))


def test_a_kill_at_any_moment_leaves_a_checkpoint_that_loads(folder):
    options = [*TINY, "--steps", 100000, "--save-every", 1, "--eval-every", 100000]
    for attempt in range(6):
        process = start("gpt", "--data", "text.txt", "--out", "run", "--overwrite", *options, cwd=folder)
        wait_for(folder / "run" / "model.safetensors", process)
        time.sleep(0.037 * attempt)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        done = train("sample", "run", "--tokens", 1, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert read_progress(folder / "run")[1]["step"] >= 1


def test_a_checkpoint_is_completed_although_a_killed_trainer_holds_its_run_for_a_moment(tmp_path):
    """A process that is killed is gone from the list of processes before it lets go of what it had locked."""
    write_json(tmp_path / "config.json", {"family": "gpt"})
    write_json(tmp_path / "trainer.json", {"step": 1})
    write_beside(tmp_path / "trainer.json", in_json({"step": 2}))
    sums = {name: checksum(tmp_path / name) for name in ("config.json", ".trainer.json.tinytensor")}
    write_checksums(tmp_path, {name.removeprefix(".").removesuffix(UNFINISHED): crc for name, crc in sums.items()})
    held = checkpoint.Folder(tmp_path)
    threading.Timer(0.2, held.close).start()
    assert checkpoint.read_config(tmp_path) == {"family": "gpt"}
    assert read_json(tmp_path / "trainer.json") == {"step": 2}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checksums.list", "config.json", "trainer.json"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_saves_and_ends_cleanly(folder, number):
    options = [*TINY, "--steps", 100000, "--save-every", 100000, "--eval-every", 100000, "--log-every", 1]
    process = start("gpt", "--data", "text.txt", "--out", "run", *options, cwd=folder)
    wait_for(folder / "run" / "metrics.jsonl", process)
    time.sleep(0.5)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "go on with: python -m train gpt --resume run" in out
    assert read_progress(folder / "run")[1]["step"] >= 1


@pytest.mark.skipif(sys.platform != "linux", reason="processes need Linux")
def test_a_killed_worker_ends_the_run_with_a_sentence_and_leaves_the_checkpoint(folder):
    options = [*TINY, "--steps", 100000, "--save-every", 5, "--workers", 2, "--worker-kind", "processes"]
    process = start("gpt", "--data", "text.txt", "--out", "run", *options, cwd=folder)
    wait_for(folder / "run" / "model.safetensors", process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == 1
    os.kill(int(children[0]), signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert re.search(r"^error: worker 1 \(process \d+\) was killed by signal 9", err, re.M)
    assert "--resume run" in err
    assert train("sample", "run", "--tokens", 1, cwd=folder).returncode == 0


@pytest.mark.skipif(sys.platform != "linux", reason="processes need Linux")
def test_a_killed_leader_takes_its_workers_along(folder):
    options = [*TINY, "--steps", 100000, "--save-every", 5, "--workers", 3, "--worker-kind", "processes"]
    process = start("gpt", "--data", "text.txt", "--out", "run", *options, cwd=folder)
    wait_for(folder / "run" / "model.safetensors", process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    end = time.monotonic() + 5
    while any(alive(int(child)) for child in children):
        assert time.monotonic() < end, "a worker outlived the run"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


BAD_INPUT = {
    "a missing file": (["--data", "nowhere.txt"], "nowhere.txt does not exist"),
    "an empty file": (["--data", "empty.txt"], "empty.txt holds no text: it is empty"),
    "a binary file": (["--data", "zeros.bin"], "zeros.bin is not text: byte 0 is zero"),
    "another encoding": (["--data", "latin.txt"], "latin.txt is not UTF-8 text: byte 0xe4 at position 3"),
    "a short file": (["--data", "short.txt"], "the training part has 6 tokens, fewer than the 17 that"),
    "an odd width": (["--width", "130", "--heads", "4"], "width 130 is not divisible by heads 4; try 128 or 132"),
    "no layers": (["--layers", "0"], "argument --layers: it must be at least 1, not 0"),
    "a wild dropout": (["--dropout", "1.5"], "argument --dropout: it must be less than 1, not 1.5"),
    "an unknown schedule": (["--schedule", "cosinus"], "argument --schedule: it must be one of cosine"),
    "an unknown optimizer": (["--optimizer", "lion"], "argument --optimizer: it must be one of adamw"),
    "an unknown preset": (["--preset", "gpt5"], "unknown preset 'gpt5'; choose from toy"),
    "an unknown activation": (["--activation", "sine"], "argument --activation: it must be one of gelu"),
    "a small vocabulary": (["--vocab-size", "5"], "the tokenizer has 17 tokens, but the model was made for 5"),
    "an existing folder": (["--out", "taken"], "taken exists already; choose another --out"),
    "a folder that cannot be": (["--out", "latin.txt/run"], "latin.txt/run cannot be written: Not a directory"),
    "a run that is not there": (["--resume", "nowhere"], "nowhere is not a folder; give the folder of a run"),
    "no run to go on with": (["--resume", "taken"], "taken is not a run: it has no config.json"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_gets_one_sentence_and_status_2(folder, name):
    arguments, sentence = BAD_INPUT[name]
    (folder / "empty.txt").touch()
    (folder / "zeros.bin").write_bytes(bytes(100))
    (folder / "latin.txt").write_bytes(b"sch\xe4tz " * 100)
    (folder / "short.txt").write_text("too few")
    (folder / "taken").mkdir()
    (folder / "taken" / "precious.txt").write_text("keep me")
    data = [] if {"--data", "--resume"} & set(arguments) else ["--data", "text.txt"]
    out = [] if {"--out", "--resume"} & set(arguments) else ["--out", "run"]
    shape = [] if "--resume" in arguments else TINY
    done = train("gpt", *data, *out, *shape, *arguments, "--steps", 3, cwd=folder)
    assert done.returncode == 2
    errors = done.stderr.strip().splitlines()
    assert len(errors) == 1
    assert sentence in errors[0]
    assert not (folder / "run").exists()
    assert (folder / "taken" / "precious.txt").read_text() == "keep me"


def test_a_folder_that_is_no_run_is_not_even_overwritten_when_asked(folder):
    (folder / "taken").mkdir()
    (folder / "taken" / "precious.txt").write_text("keep me")
    done = train("gpt", "--data", "text.txt", "--out", "taken", "--overwrite", cwd=folder)
    assert done.returncode == 2
    assert "does not look like a run" in done.stderr
    assert (folder / "taken" / "precious.txt").read_text() == "keep me"


def copy_of(finished, folder: Path) -> Path:
    source, target = finished[0] / "run", folder / "copy"
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def changed_copy_of(finished, folder: Path) -> Path:
    """A run whose owner means to change files by hand."""
    run = copy_of(finished, folder)
    (run / "checksums.list").unlink()
    return run


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_a_truncated_checkpoint_is_named(finished, folder, size):
    path = copy_of(finished, folder) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    for _ in ("with checksums", "without"):
        done = train("sample", "copy", cwd=folder)
        assert done.returncode == 2
        assert re.fullmatch(r"error: copy/model\.safetensors is truncated or damaged: .*\n", done.stderr)
        path.with_name("checksums.list").unlink(missing_ok=True)


def test_a_checkpoint_of_another_shape_is_named_with_both_shapes(finished, folder):
    run = changed_copy_of(finished, folder)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"context": 32}))
    done = train("sample", "copy", cwd=folder)
    assert done.returncode == 2
    assert "position_embedding.weight is (16, 16), expected (32, 16)" in done.stderr


def test_a_model_of_another_family_is_named(finished, folder):
    run = changed_copy_of(finished, folder)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"family": "rwkv"}))
    done = train("sample", "copy", cwd=folder)
    assert done.returncode == 2
    assert "describes a model of the family 'rwkv'; known are gpt" in done.stderr


def test_a_tokenizer_of_another_vocabulary_is_refused(finished, folder):
    run = changed_copy_of(finished, folder)
    tokens = {"type": "Characters", "characters": "abcdefghijklmnopqrstuvwxyz", "special_tokens": []}
    (run / "tokenizer.json").write_text(json.dumps(tokens))
    done = train("sample", "copy", cwd=folder)
    assert done.returncode == 2
    assert "the tokenizer has 26 tokens, but the model was made for 17" in done.stderr


def test_a_prompt_with_an_unknown_character_is_refused(finished):
    folder, _ = finished
    done = train("sample", "run", "--prompt", "the Ω", cwd=folder)
    assert done.returncode == 2
    assert "character 'Ω' at position 4" in done.stderr


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_a_loss_that_becomes_nan_ends_the_run_naming_the_op_and_keeps_the_weights_before(folder, kind):
    wild = ["--lr", "1e30", "--clip", "0", "--workers", 2, "--worker-kind", kind]
    done = train("gpt", "--data", "text.txt", "--out", "run", *TINY, "--steps", 50, *wild, cwd=folder)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert re.search(r"became nan \(.*norm.* produced .*\) at step \d+", done.stderr)
    step = read_progress(folder / "run")[1]["step"]
    assert step >= 1
    assert f"at step {step + 1}," in done.stderr
    assert all(np.isfinite(array).all() for array in weights(folder / "run").values())


@pytest.mark.parametrize("command", [[], ["gpt"], ["sample"], ["eval"]])
def test_help_is_given_at_each_level(tmp_path, command):
    done = train(*command, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "usage: python -m train" in done.stdout


def test_every_field_of_the_configs_is_a_flag(tmp_path):
    from dataclasses import fields

    from models import GPTConfig
    from train.trainer import TrainConfig

    help = train("gpt", "--help", cwd=tmp_path).stdout
    for config in (GPTConfig, TrainConfig):
        for field in fields(config):
            assert f"--{field.name.replace('_', '-')}" in help


def test_every_evaluation_has_a_sample_which_a_resumed_run_neither_loses_nor_repeats(folder):
    often = ("--eval-every", 2, "--save-every", 4)
    done = train("gpt", "--data", "text.txt", "--out", "run", *TINY, *often, "--steps", 6, cwd=folder)
    assert done.returncode == 0, done.stderr
    said = re.findall(r"^at step (\d+) it writes: .", done.stdout, re.MULTILINE)
    assert said == ["2", "4", "6"]
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    samples = {line["step"]: line["sample"] for line in lines if "sample" in line}
    assert list(samples) == [2, 4, 6]
    assert train("gpt", "--resume", "run", *often, "--steps", 8, cwd=folder).returncode == 0
    text = (folder / "run" / "samples.txt").read_text()
    assert re.findall(r"^after (\d+) steps", text, re.MULTILINE) == ["2", "4", "6", "8", "8"]
    assert all(f"after {step} steps:\n\n{sample}\n" in text for step, sample in samples.items())


def test_a_quiet_run_says_nothing_while_it_trains_and_all_at_its_end(folder):
    done = train("gpt", "--quiet", "--data", "text.txt", "--out", "run", *TINY, "--steps", 4, cwd=folder)
    assert done.returncode == 0 and done.stderr == ""
    assert "step 4/4" not in done.stdout and "it writes" not in done.stdout and "held-out loss" in done.stdout
    assert "after 4 steps:" in (folder / "run" / "samples.txt").read_text()


def test_a_run_that_begins_with_another_ones_weights_finds_a_free_name_beside_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs/gpt-1").mkdir(parents=True)
    with new_run(None, "gpt", False, [Path("runs/gpt-1")]) as folder:
        assert folder.path == Path("runs/gpt-2")
    folder.close()
    taken = new_run(Path("runs/gpt-1"), "gpt", False, [Path("runs/gpt-1")])
    with pytest.raises(ValueError, match=r"--out runs/gpt-1 is, holds or lies in runs/gpt-1"):
        taken.__enter__()
