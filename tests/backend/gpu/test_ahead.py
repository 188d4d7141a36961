"""A training step on the GPU begins before the last one's loss is read, and nothing of it is seen in what is saved.

CuPy's stand-in lets what is on its way to the CPU arrive when it is waited for, not before.
"""

import json
import re

import numpy as np
import pytest

from models import GPT
from tinytensor.backend.gpu.optimizer import adamw, sgd
from tinytensor.backend.gpu.verdict import Verdict
from train import ahead, resume
from train.__main__ import main
from train.optim import clip_scale
from train.trainer import Loop

FEW = "--steps 6 --log-every 4 --save-every 4 --eval-every 6 --eval-batches 1"


def run(folder, words=FEW, optimizer="adamw"):
    """A run whose gradients are clipped, at one rate, so that a shorter one is its beginning."""
    (text := folder.parent / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 60)
    shape = "--layers 1 --heads 1 --width 8 --context 8 --batch 4 --dropout 0.1 --clip 0.1 --workers 1 --device cuda"
    how = f"--optimizer {optimizer} --lr 0.01 --schedule constant --warmup 0 --tokenizer characters"
    status = main(f"gpt --data {text} --out {folder} {shape} {how} {words}".split())
    return status in (None, 0)



def numbers(folder) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line[name] for line in lines for name in ("loss", "grad_norm", "val_loss") if name in line]




@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_run_that_does_not_wait_has_the_bits_of_one_that_does(cuda, tmp_path, monkeypatch, optimizer):
    assert run(tmp_path / "ahead", optimizer=optimizer)
    monkeypatch.setattr(ahead, "step_of", lambda loop: loop.step)
    assert run(tmp_path / "waits", optimizer=optimizer)
    assert arrays_of(tmp_path / "ahead") == arrays_of(tmp_path / "waits")
    got, right = numbers(tmp_path / "ahead"), numbers(tmp_path / "waits")
    assert got == pytest.approx(right, rel=1e-12) and len(got) == 5  # norms are added up in another order


def arrays_of(folder) -> dict:
    """All that a checkpoint holds, bit for bit."""
    parts, progress = resume.load_trainer(folder)
    arrays = {f"{part}.{name}": array.tobytes() for part, some in parts.items() for name, array in some.items()}
    return arrays | {"step": progress["step"]}


def test_a_resumed_run_goes_on_to_the_same_bits(cuda, tmp_path):
    assert run(tmp_path / "whole")
    assert run(tmp_path / "cut", FEW.replace("--steps 6", "--steps 3"))
    assert main(["gpt", "--resume", str(tmp_path / "cut"), "--steps", "6"]) in (None, 0)
    assert arrays_of(tmp_path / "cut") == arrays_of(tmp_path / "whole")


@pytest.mark.parametrize("wrong", ["loss", "gradient"])
def test_a_loss_that_is_no_number_ends_the_run_as_it_was_before_that_step(cuda, tmp_path, monkeypatch, capsys, wrong):
    """It is seen a step later, whose update must not happen either, though its own loss is fine."""
    calls, loss = [], GPT.loss

    def breaks(self, *batch):
        value = loss(self, *batch)
        calls.append(self.training)
        if sum(calls) != 3 or not self.training:
            return value
        return value * np.nan if wrong == "loss" else value + (value - value.item()) * np.inf  # its slope is infinite

    assert run(tmp_path / "right", FEW.replace("--steps 6", "--steps 2"))
    monkeypatch.setattr(GPT, "loss", breaks)
    capsys.readouterr()
    assert not run(tmp_path / "broken")
    said = capsys.readouterr().err
    what = "the loss became nan" if wrong == "loss" else r"the (loss|gradient's norm) became (nan|inf)"
    assert re.search(rf"{what}.* at step 3, learning rate 0.01; the weights before that step are saved", said)
    assert len(calls) == 5  # a step more was begun, and the third gone through again
    assert arrays_of(tmp_path / "broken") == arrays_of(tmp_path / "right")


def test_the_next_step_is_begun_before_the_last_one_is_read(cuda, tmp_path, monkeypatch):
    order, gradient, read = [], Loop.gradient, Verdict.read
    monkeypatch.setattr(Loop, "gradient", lambda self, step, rank: order.append("begun") or gradient(self, step, rank))
    monkeypatch.setattr(Verdict, "read", lambda self: order.append("read") or read(self))
    assert run(tmp_path / "run", "--steps 4 --log-every 100 --save-every 100 --eval-every 100 --eval-batches 1")
    assert order[:7] == ["begun", "begun", "read", "begun", "read", "begun", "read"]
    assert order[7] == "read"  # the last one's, before it is told and saved


@pytest.mark.parametrize("clip", [0.0, 0.5, 100.0])
def test_a_verdict_is_what_the_cpu_would_say(cuda, clip):
    grad = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    on_gpu, loss = cuda.asarray(grad), cuda.asarray(np.float64(2.5))
    got = Verdict(on_gpu, loss, clip).read()
    norm = float(np.linalg.norm(grad.astype(np.float64)))
    assert got == (2.5, pytest.approx(norm, rel=1e-7), pytest.approx(clip_scale(norm, clip), rel=1e-7), True)
    bad = Verdict(on_gpu, cuda.asarray(np.float64(np.inf)), clip)
    after = Verdict(on_gpu, loss, clip, bad)
    assert not bad.read()[3] and not after.read()[3]
    on_gpu[7] = np.nan
    assert not Verdict(on_gpu, loss, clip).read()[3]
    for update, state, options in ((adamw, 2, dict(beta1=0.9, beta2=0.99, eps=1e-8, step=1)), (sgd, 1, {})):
        arrays = [cuda.zeros(5000, np.float32) for _ in range(1 + state)]
        update(arrays[0], on_gpu, *arrays[1:], lr=1.0, weight_decay=0.1, grad_scale=after, **options)
        assert not any(bool(array.any()) for array in arrays)
