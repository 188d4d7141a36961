"""Training is killed, or the disk is full, at every call that changes the disk; then the run is opened, and goes on.

It must open as a whole one or say in a sentence what to do, go on to the very bits of a run that nothing happened to,
and leave nothing lying about.
"""

import json
import shutil

import pytest
import safetensors.numpy

from tests.faults.machine import chosen, interrupted, machine, quick  # noqa: F401
from train import checkpoint
from train.__main__ import main

TEXT = "the cat sat on the mat. the dog sat on the log.\n\nthe hen sat in the pen. it ran off.\n\n" * 40
OFTEN = "--save-every 1 --eval-every 1 --eval-batches 1 --workers 1 --batch 4 --log-every 1".split()  # noqa: SIM905
TINY = "--layers 1 --heads 1 --width 8 --context 8".split()  # noqa: SIM905
SHAPES = {
    "gpt": TINY,
    "bert": [*TINY[:-1], "16", "--vocab-size", "120"],
    "t5": [*TINY, "--vocab-size", "200", "--head-width", "8", "--hidden", "8"],
    "elmo": "--width 8 --hidden 8 --char-width 4 --filters 1x4 --highways 1 --context 8".split(),  # noqa: SIM905
}
MADE = {  # command: the flags with which it makes something of a run
    "prune": "--when iterative --rounds 2 --steps 2 --save-every 1 --log-every 1".split(),  # noqa: SIM905
    "quantize": "--bits 4 --steps 2 --save-every 1 --log-every 1".split(),  # noqa: SIM905
    "distill": "--layers 1 --steps 2 --save-every 1 --log-every 1".split(),  # noqa: SIM905
}
TUNED = "--task sentiment --examples 12 --batch 6 --workers 1 --max-length 12".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """name -> a run of that kind with one step behind it."""
    folder = tmp_path_factory.mktemp("begun")
    (folder / "text.txt").write_text(TEXT)
    for name, shape in SHAPES.items():
        words = [name, "--data", str(folder / "text.txt"), "--out", str(folder / name), *shape, *OFTEN, "--steps", "1"]
        assert main(words) == 0
    tuned = ["finetune", str(folder / "bert"), *TUNED, "--epochs", "1", "--out", str(folder / "finetune")]
    assert main(tuned) == 0
    return folder


def first(kind: str, begun, run) -> list[str]:
    """What is interrupted: a run that goes on to its second step, or one that is made of another."""
    if kind in MADE:
        return [kind, str(begun / "gpt"), "--out", str(run), "--limit", "1", "--workers", "1", *MADE[kind]]
    if not run.exists():
        shutil.copytree(begun / kind, run)
    return [kind, "--resume", str(run), *(["--epochs", "2"] if kind == "finetune" else ["--steps", "2"])]


def then(kind: str, begun, run) -> list[str]:
    """What the user does next."""
    return [kind, "--resume", str(run)] if kind in MADE and run.exists() else first(kind, begun, run)


def state(run) -> dict:
    """All that must be the same: arrays bit for bit, how far it is, what was written, which files there are."""
    found = {path.name: path.exists() for path in run.iterdir()}
    for path in run.glob("*.safetensors"):
        with safetensors.safe_open(path, "numpy") as file:
            said = json.loads((file.metadata() or {}).get("progress", "{}"))
        arrays = {name: (array.dtype.str, array.tobytes()) for name, array in safetensors.numpy.load_file(path).items()}
        found[path.name] = arrays | {name: value for name, value in said.items() if name != "seconds"}
    for name in ("samples.txt", "config.json", "tokenizer.json"):
        found[name] = (run / name).read_text() if (run / name).exists() else None
    lines = [json.loads(line) for path in sorted(run.glob("metrics*")) for line in path.read_text().splitlines()]
    losses = [(line["step"], line.get("loss"), line.get("val_loss")) for line in lines]
    return found | {"metrics": [line for line in losses if line[1:] != (None, None)]}  # energy differs


def goes_on(kind: str, begun, run, expected: dict, capsys) -> None:
    """After a failure: the run opens, or says what to do; it goes on; and it is as if nothing had been."""
    if kind not in (*MADE, "finetune"):
        checkpoint.load_model(run)
    elif kind in MADE and run.exists():
        try:
            checkpoint.load_model(run)
        except ValueError as sentence:
            assert "--resume" in str(sentence) or "--overwrite" in str(sentence)
    capsys.readouterr()
    status = main(then(kind, begun, run))
    said = capsys.readouterr().err
    if status and "begin it anew with --overwrite" in said:  # stopped before anything was learned
        status = main([*first(kind, begun, run), "--overwrite"])
    assert status == 0 or "has all of its" in said or "has ended" in said, said
    assert state(run) == expected
    assert [path.name for path in run.parent.iterdir() if path.name != run.name] == []


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True], ids=["kill", "full disk"])
@pytest.mark.parametrize("kind", [*SHAPES, "finetune", *MADE])
def test_a_failure_at_any_call_loses_nothing_and_leaves_nothing(kind, full, begun, tmp_path, quick, capsys):  # noqa: F811
    run = tmp_path / "whole" / "run"
    with machine(full=full) as whole:
        assert main(first(kind, begun, run)) == 0
    expected = state(run)
    assert whole.calls > 30
    for at in chosen(whole.calls, 12, seed=len(kind)):
        run = tmp_path / str(at) / "run"
        interrupted(first(kind, begun, run), at, full)
        goes_on(kind, begun, run, expected, capsys)
        shutil.rmtree(run.parent)
