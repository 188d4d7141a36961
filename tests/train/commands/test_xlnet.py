"""train xlnet: what it prints, eval and score measure in the same way, and what is refused leaves nothing behind."""

import re

import numpy as np
import pytest

import tinytensor as tt
from models.score import score
from models.tokenizers import ByteLevelBPE
from tests.helpers import assert_close
from train import checkpoint
from train.__main__ import main
from train.data.corpus import open_corpus
from train.resume import load_trainer

QUICK = ["--stories", "60000", "--vocab-size", "320", "--layers", "2", "--heads", "2", "--width", "16",
         "--hidden", "32", "--context", "32", "--reuse", "16", "--memory", "8", "--init-std", "0.2",
         "--steps", "6", "--batch", "4", "--workers", "1", "--eval-batches", "2"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("xlnet") / "run"
    assert main(["xlnet", *QUICK, "--out", str(folder)]) == 0
    return folder


def told(text: str, what: str) -> float:
    return float(re.search(what + r" (\d+\.\d+)", text)[1])


def test_it_tells_the_loss_in_random_orders_and_from_left_to_right_beside_the_entropy_and_eval_repeats_them(
    tmp_path, capsys
):
    assert main(["xlnet", *QUICK, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert main(["eval", str(tmp_path / "run"), "--batch", "3"]) == 0
    again = capsys.readouterr().out
    assert told(said, "from left to right") == told(again, "tokens:")
    assert told(said, "held-out loss") == told(again, "as it was trained:")
    assert told(said, "the entropy of this text is") == told(again, "the entropy of this text is")
    further = re.search(r"with 16 tokens at least: python -m train (.*)", said)[1]
    assert main(further.split()) == 0
    floor, found = told(said, "the entropy of this text is"), capsys.readouterr().out
    above = float(re.search(r"nats per token: (\S+)% above it", found)[1])
    assert above == pytest.approx(100 * (told(found, "tokens:") / floor - 1), abs=0.1)
    assert (tmp_path / "run" / "samples.txt").exists()


def test_score_is_the_chain_rule_from_left_to_right(run):
    model, _ = checkpoint.load_model(run)
    model.output_bias.data = np.random.default_rng(0).normal(size=model.output_bias.shape).astype(np.float32)
    ids = open_corpus(run).val[:33].astype(int)
    batch = {"ids": ids[None], "sees": np.tri(33, k=-1, dtype=bool)[None], "places": np.arange(1, 33)[None],
             "targets": ids[None, 1:]}  # fmt: skip
    with tt.no_grad():
        assert_close(-score(model, ids).log_probs.mean(), model.eval().loss(batch).item(), 1e-5)


def test_a_checkpoint_holds_the_memory_of_every_row(run):
    carried = load_trainer(run)[0]["carried"]
    assert carried["memory"].shape == (4, 2, 8, 16) and (carried["remembered"] == 8).all()
    assert np.abs(carried["memory"]).min() > 0


def test_fill_guesses_by_the_other_tokens(run, capsys):
    assert main(["fill", "Mia met <mask> by the <mask>.", "--model", str(run), "--top", "2"]) == 0
    said = capsys.readouterr().out
    assert "1: " in said and "2: " in said and "<mask>" not in said


def test_who_knows_no_new_line_asks_for_a_prompt(run, capsys):
    assert main(["sample", str(run)]) == 2
    assert "knows no new line to begin with; give it a --prompt" in capsys.readouterr().err
    assert main(["sample", str(run), "--prompt", "Once", "--tokens", "3"]) == 0
    assert capsys.readouterr().out.startswith("Once")


@pytest.mark.parametrize(("flags", "message"), [
    (["--batch", "5"], "half of a batch is read backwards, so --batch 5 must be even"),
    (["--reuse", "0"], "what is remembered must be plain text, which goes on: add --reuse"),
    (["--reuse", "29"], "a context of 32 has no room for 29 tokens of memory"),
    (["--partial", "33"], "--partial 33 predicts nothing of a context of 32"),
    (["--chunk", "3"], "--chunk 3 does not divide a half of 16 tokens"),
])  # fmt: skip
def test_what_does_not_fit_is_said_in_a_sentence_and_leaves_no_folder(flags, message, tmp_path, capsys):
    assert main(["xlnet", *QUICK, *flags, "--out", str(tmp_path / "run")]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_without_xlnets_marks_is_refused(tmp_path, capsys):
    ByteLevelBPE.train("Mia met Tom. " * 50, 270).save(tmp_path / "t.json")
    assert main(["xlnet", *QUICK[:2], *QUICK[4:], "--tokenizer", str(tmp_path / "t.json"), "--out",
                 str(tmp_path / "run")]) == 2  # fmt: skip
    assert "this ByteLevelBPE has no <sep>, <cls>, <eop>, <eod>" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
