"""TensorBoard's events, and gradient norms layer by layer."""

import argparse
import importlib.util
import json
import math

import numpy as np
import pytest

from tests.test_matrix import ROWS
from tests.train.test_compress import TEXT, TINY, command
from train import pretrain, recipes, watching


def lines_of(run) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture
def text(tmp_path):
    (tmp_path / "text.txt").write_text(TEXT)
    return ["--data", tmp_path / "text.txt"]


def test_a_missing_writer_is_named_before_anything_is_made(text, tmp_path, capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "tensorboardX" else find(name))
    run = tmp_path / "run"
    assert command("gpt", *text, "--out", run, *TINY, "--steps", 2, "--tensorboard") == 2
    assert "pip install -e '.[tensorboard]'" in capsys.readouterr().err and not run.exists()
    assert command("finetune", run, "--task", "sentiment", "--tensorboard") == 2
    assert "--tensorboard needs tensorboardX" in capsys.readouterr().err


@pytest.mark.parity
def test_tensorboard_reads_what_metrics_jsonl_says_over_all_resumptions(text, tmp_path):
    pytest.importorskip("tensorboardX")
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run, watched = tmp_path / "run", ["--tensorboard", "--grad-norms", "--workers", 2]
    assert command("gpt", *text, "--out", run, *TINY, "--steps", 30, "--eval-every", 15, *watched) == 0
    assert command("gpt", "--resume", run, "--steps", 40, "--tensorboard") == 0
    events = reader.EventAccumulator(str(run)).Reload()
    lines = lines_of(run)
    for name in ("loss", "val_loss", "lr", "grad_norm", "grad_norm/blocks.1", "joules"):
        expected = [(line["step"], line[name]) for line in lines if name in line]
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in found] == [step for step, _ in expected] and len(found) > 1
        np.testing.assert_allclose([value for _, value in found], [value for _, value in expected], rtol=1e-6)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", ["gpt", "t5", "elmo"])
def test_the_layers_norms_are_those_of_their_parameters_and_make_up_the_whole(name, workers, tmp_path, monkeypatch):
    base, shape = ROWS[name]
    training = dict(steps=3, batch=4, lr=1e-2, warmup=1, eval_batches=1, workers=workers, log_every=1)
    recipe = recipes.Recipe(**vars(base) | dict(model=shape, vocab_size=320, stories=60_000, training=training))
    parser = argparse.ArgumentParser()
    pretrain.add_arguments(parser, recipe)
    job = pretrain.start(parser.parse_args(["--out", str(tmp_path / "run"), "--grad-norms", "--clip", "0"]), recipe)
    of_parameters, plain = {}, job.trainer.between

    def between(loop, step):
        plain(loop, step)
        if workers == 1:
            for parameter, (key, _) in zip(loop.model.parameters(), loop.model.named_parameters()):
                if parameter.grad is not None:
                    of_parameters[step, key] = float((parameter.grad.astype(float) ** 2).sum())

    job.trainer.between = between
    assert pretrain.train(job)
    lines = lines_of(tmp_path / "run")
    wholes = {line["step"]: line["grad_norm"] for line in lines if "grad_norm" in line}
    parts = {line["step"]: line for line in lines if any(key.startswith("grad_norm/") for key in line)}
    assert wholes.keys() == parts.keys() == {1, 2, 3}
    for step, line in parts.items():
        norms = {key.removeprefix("grad_norm/"): value for key, value in line.items() if key != "step"}
        assert math.hypot(*norms.values()) == pytest.approx(wholes[step], rel=1e-5)
        for layer, norm in norms.items() if workers == 1 else ():
            now = {key: value for (at, key), value in of_parameters.items() if at == step}
            squares = [value for key, value in now.items() if watching.layer_of(key) == layer]
            assert norm == pytest.approx(math.sqrt(sum(squares)), rel=1e-5)


def test_a_layer_is_named_by_its_first_number():
    names = {"blocks.0.attention.qkv.weight": "blocks.0", "token_embedding.weight": "token_embedding", "bias": "bias",
             "encoder.blocks.11.norm1.weight": "encoder.blocks.11", "bert.pooler.bias": "bert.pooler"}  # fmt: skip
    assert {name: watching.layer_of(name) for name in names} == names


def test_watching_changes_no_bit(text, tmp_path):
    for run, more in (("plain", []), ("watched", ["--grad-norms"])):
        assert command("gpt", *text, "--out", tmp_path / run, *TINY, "--steps", 12, *more) == 0
    files = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("plain", "watched")]
    assert files[0] == files[1]
