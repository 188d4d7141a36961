"""Training an ELMo from the command line: it learns, and its carried state is part of what a run is."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from models.tokenizers import Characters
from train import checkpoint
from train.__main__ import main
from train.trainer import Loop

SENTENCES = ["The cat sat on the mat.", "The dog sat on the log.", "A hen sat in the pen, and it slept."]
TINY = (
    "--width 8 --hidden 12 --char-width 4 --filters 1x8,2x8 --highways 1 --context 5 --batch 4 --lr 0.01 "
    "--warmup 4 --vocab-size 12 --eval-every 1000"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    Path("text.txt").write_text("\n".join(SENTENCES[draw.integers(3)] for _ in range(200)))
    return tmp_path


def train(out: str, *flags, workers: int = 1, kind: str = "threads") -> Path:
    flags = [*TINY.split(), *map(str, flags), "--workers", str(workers), "--worker-kind", kind]
    assert main(["elmo", "--data", "text.txt", "--out", out, *flags]) == 0
    return Path(out)


def saved(run: Path) -> dict:
    return safetensors.numpy.load_file(run / "trainer.safetensors")


def test_a_small_run_learns_a_small_text_and_is_evaluated_again_to_the_same_loss(folder, capsys):
    run = train("run", "--steps", 200, "--eval-every", 100, "--dropout", 0)
    losses = [line["val_loss"] for line in map(json.loads, (run / "metrics.jsonl").open()) if "val_loss" in line]
    # In a sentence only the first and third words are in doubt: (ln 3 + ln 2) / 8 = 0.2 a word; ln 12 = 2.5 at first.
    assert len(losses) == 2 and losses[-1] < 0.7
    assert main(["eval", "run"]) == 0
    assert f"{losses[-1]:.4f} nats per word" in capsys.readouterr().out
    model, words = checkpoint.load_model(run)
    assert model.config.vocab_size == words.vocab_size == 12 and len(words.tokens) == 20


@pytest.mark.parametrize("workers, kind", [(1, "threads"), (2, "threads"), (2, "processes")])
def test_a_resumed_run_goes_on_bit_for_bit_with_its_carried_state(folder, workers, kind):
    if kind == "processes" and not hasattr(os, "fork"):
        pytest.skip("no fork here")
    flags = ["--schedule", "constant", "--eval-every", 1000]
    whole = train("whole", "--steps", 8, *flags, workers=workers, kind=kind)
    parts = train("parts", "--steps", 3, *flags, workers=workers, kind=kind)
    assert main(["elmo", "--resume", "parts", "--steps", "8"]) == 0
    expected, got = saved(whole), saved(parts)
    assert expected.keys() == got.keys() and {"carried.state_h", "carried.state_c"} <= got.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(got[name], array, err_msg=name)
    assert got["carried.state_c"].shape == (4, 2, 2, 12) and np.abs(got["carried.state_c"]).min() > 0


def test_each_workers_rows_carry_what_one_worker_would_have_carried(folder):
    one = saved(train("one", "--steps", 6, "--dropout", 0))
    two = saved(train("two", "--steps", 6, "--dropout", 0, workers=2))
    for name, array in one.items():
        if name.startswith("carried."):
            np.testing.assert_allclose(two[name], array, atol=2e-4)  # sums in another order, six AdamW steps apart


def test_a_step_that_fails_leaves_the_state_that_was_carried_into_it(folder, monkeypatch):
    run = train("run", "--steps", 3)
    before = saved(run)["carried.state_c"]
    gradient = Loop.gradient

    def spoiled(self, step, rank):
        return (float("nan"), *gradient(self, step, rank)[1:])

    monkeypatch.setattr(Loop, "gradient", spoiled)
    assert main(["elmo", "--resume", "run", "--steps", "6"]) == 2
    np.testing.assert_array_equal(saved(run)["carried.state_c"], before)


def test_the_batch_cannot_change_while_a_state_is_carried(folder, capsys):
    train("run", "--steps", 3)
    assert main(["elmo", "--resume", "run", "--steps", "6", "--batch", "5"]) == 2
    assert "the checkpoint carries the state of 4 rows; go on with that --batch, not 5" in capsys.readouterr().err


def test_what_makes_no_sense_is_refused_before_any_work(folder, capsys):
    Characters.train([Path("text.txt").read_text()]).save("letters.json")
    for flags, sentence in [
        (["--tokenizer", "letters.json", "--vocab-size", "99"], "a Characters tokenizer has none"),
        (["--context", "0"], "argument --context: it must be at least 1, not 0"),
        (["--context", "5000"], "the training part has 1914 words, no more than one window of 5000"),
        (["--vocab-size", "3"], "vocab_size 3 has no room for a word"),
        (["--preset", "huge"], "unknown preset 'huge'; choose from toy, elmo-small, elmo-medium, elmo"),
    ]:
        assert main(["elmo", "--data", "text.txt", "--out", "run", *TINY.split(), *flags]) == 2
        assert sentence in capsys.readouterr().err
        assert not Path("run").exists()


def test_a_vocabulary_may_be_learned_beforehand(folder, capsys):
    assert main(["tokenizer", "--kind", "words", "--data", "text.txt", "--vocab-size", "15", "--out", "w.json"]) == 0
    run = train("run", "--steps", 1, "--tokenizer", "w.json", "--vocab-size", 15)
    model, words = checkpoint.load_model(run)
    assert model.config.vocab_size == words.vocab_size == 15
    flags = ["--data", "text.txt", "--vocab-size", "15", "--out", "words.json", "--special", "<X>"]
    assert main(["tokenizer", "--kind", "words", *flags]) == 2
    assert "--special is for --kind bpe, classic, wordpiece, unigram, characters, not words" in capsys.readouterr().err
