"""The commands around BERT, one after another as a user would type them, on a model of a few thousand parameters."""

import json
import re
import shlex
import string
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from models import BERTConfig, BERTForPreTraining
from models.tokenizers import WordPiece
from train.__main__ import main
from train.checkpoint import load_model
from train.commands.fill import fill
from train.finetune import load
from train.places import newest_run
from train.trainer import Trainer

SHAPE = ["--layers", "1", "--heads", "2", "--width", "16", "--context", "48", "--vocab-size", "300"]
SMALL = ["--workers", "1", "--batch", "8", *SHAPE]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "bert"
    assert main(["bert", "--stories", "60000", "--steps", "12", "--out", str(run), *SMALL]) == 0
    return run


def lines(run: Path) -> list[dict]:
    """What was logged of the learning, without the last line, which tells the energy."""
    return [line for line in map(json.loads, (run / "metrics.jsonl").open()) if "joules" not in line]


def test_a_run_leaves_a_model_that_can_be_loaded(pretrained):
    model, tokenizer = load_model(pretrained)
    assert isinstance(model, BERTForPreTraining) and tokenizer.vocab_size == 300
    assert lines(pretrained)[-1]["step"] == 12
    # ln 300 + ln 2 is the loss of guessing; a step or two below it already
    assert lines(pretrained)[-1]["val_loss"] < np.log(300) + np.log(2) + 0.1


def test_a_resumed_run_ends_with_the_weights_of_one_that_never_stopped(tmp_path):
    command = ["bert", "--stories", "60000", "--warmup", "4", "--schedule", "constant", *SMALL]
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    main([*command, "--steps", "6", "--out", str(stopped)])
    main(["bert", "--resume", str(stopped), "--steps", "12"])
    main([*command, "--steps", "12", "--out", str(whole)])
    assert (stopped / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize("pairs", ["order", "none"])
def test_the_relatives_ways_of_pairing_train_too(pairs, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["bert", "--stories", "30000", "--steps", "2", "--pairs", pairs, "--out", str(run), *SMALL]) == 0
    assert ("told right" in capsys.readouterr().out) == (pairs == "order")


def test_fill_leaves_out_the_rows_of_a_padded_table_that_no_token_has():
    tokenizer = WordPiece.train(["Mia had a kite"], 60)
    model = BERTForPreTraining(BERTConfig(vocab_size=64, context=16, layers=1, heads=1, width=8))
    model.mlm.bias.data[tokenizer.vocab_size :] = 100.0  # what the table has beyond the tokens seems the most probable
    filled, (guesses,) = fill(model.eval(), tokenizer, "Mia had a [MASK]", top=100)
    assert filled.startswith("mia had a") and len(guesses) == tokenizer.vocab_size - len(tokenizer.special_tokens)


def test_fill_puts_the_most_probable_tokens_where_the_masks_are(pretrained, capsys):
    assert main(["fill", "--model", str(pretrained), "Mia had a [MASK] kite and [MASK] was glad.", "--top", "3"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 3 and out[0].startswith("mia had a") and out[0].endswith("was glad.")
    model, tokenizer = load_model(pretrained)
    _, guesses = fill(model, tokenizer, "Mia had a [MASK] kite.", top=4)
    ids = tokenizer.prepare(["Mia had a [MASK] kite."], special=True).ids
    logits = model(ids).mlm_logits.data[0, list(ids[0]).index(tokenizer.tokens.index("[MASK]"))].astype(float)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    for token, probability in guesses[0]:
        assert probability == pytest.approx(p[tokenizer.tokens.index(token)], rel=1e-4)
    assert [p for _, p in guesses[0]] == sorted([p for _, p in guesses[0]], reverse=True)


def test_the_padding_token_of_the_config_is_the_tokenizers(tmp_path):
    tokens = ["[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.ascii_lowercase, "##a", "##e", "[PAD]"]
    WordPiece({token: i for i, token in enumerate(tokens)}).save(tmp_path)
    flags = [*SMALL[:-2], "--stories", "20000", "--steps", "1", "--out", str(tmp_path / "run")]
    assert main(["bert", "--tokenizer", str(tmp_path / "tokenizer.json"), *flags]) == 0
    assert load_model(tmp_path / "run")[0].config.pad_id == tokens.index("[PAD]")


def test_embed_finds_the_sentence_asked_for(pretrained, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("Mia had a red kite. The sea was calm and cold. Ben fell and hurt his knee.")
    vectors = tmp_path / "vectors.npz"
    command = ["embed", str(tmp_path / "notes.txt"), "The sea was calm and cold.", "--model", str(pretrained)]
    assert main([*command, "--top", "2", "--out", str(vectors)]) == 0
    best = capsys.readouterr().out.splitlines()[1]
    assert best.startswith("1.000  The sea was calm and cold.")
    assert np.load(vectors)["vectors"].shape == (3, 16)


def test_finetune_trains_on_the_stories_and_on_files(pretrained, tmp_path, capsys):
    quick = ["--epochs", "1", "--workers", "1"]
    run = tmp_path / "roles"
    command = ["finetune", str(pretrained), "--task", "roles", "--examples", "32", "--out", str(run), *quick]
    assert main(command) == 0
    assert "held out: f1 " in capsys.readouterr().out
    assert {"f1", "accuracy", "epoch"} <= lines(run)[-2].keys()
    data = tmp_path / "data.tsv"
    data.write_text("text\tlabel\n" + "Mia was glad.\tgood\nBen was sad.\tbad\n" * 4)
    run = tmp_path / "mood"
    files = ["--data", str(data), "--held-out", str(data)]
    assert main(["finetune", str(pretrained), "--task", "classify", *files, "--out", str(run), "--fresh", *quick]) == 0
    assert {"accuracy", "f1", "matthews"} <= lines(run)[-2].keys()
    pytest.importorskip("matplotlib")
    assert (run / "confusion.png").read_bytes()[:4] == b"\x89PNG"


def test_a_fine_tuning_that_was_stopped_goes_on_bit_for_bit(pretrained, tmp_path, capsys, monkeypatch):
    command = ["finetune", str(pretrained), "--task", "roles", "--examples", "40", "--epochs", "2", "--workers", "1"]
    assert main([*command, "--out", str(tmp_path / "straight")]) == 0
    (scores,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("held out: "))
    train = Trainer.train

    def stopping_after_four(self):
        self.between = lambda loop, step: setattr(self, "stop_asked", step == 3)
        return train(self)

    run = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", stopping_after_four)
        assert main([*command, "--out", str(run)]) == 0
    assert f"stopped after step 4 of 6; go on with: python -m train finetune --resume {run}" in capsys.readouterr().out
    assert main(["finetune", "--resume", str(run)]) == 0
    said = capsys.readouterr().out
    assert "going on after step 4 of 6" in said and scores in said
    weights = [safetensors.numpy.load_file(tmp_path / name / "model.safetensors") for name in ("straight", "stopped")]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    assert main(["finetune", "--resume", str(run)]) == 2
    assert "has all of its 6 steps; ask for more with --epochs" in capsys.readouterr().err
    assert main(["finetune", "--resume", str(run), "--epochs", "3"]) == 0
    assert lines(run)[-1]["step"] == 9


def test_a_fine_tuning_does_not_go_on_with_other_examples(pretrained, tmp_path, capsys):
    data, run = tmp_path / "mood.tsv", tmp_path / "run"
    data.write_text("text\tlabel\n" + "Mia was glad.\tgood\nBen was sad.\tbad\n" * 10)
    command = ["finetune", str(pretrained), "--task", "classify", "--data", str(data), "--epochs", "1"]
    assert main([*command, "--workers", "1", "--out", str(run)]) == 0
    data.write_text(data.read_text().replace("Ben", "Tom"))
    assert main(["finetune", "--resume", str(run), "--epochs", "2"]) == 2
    assert f"the examples of {data} are not those that {run} was begun with" in capsys.readouterr().err
    assert main(["finetune", "--resume", str(run), "--lora", "2"]) == 2
    assert "leave out --lora" in capsys.readouterr().err


def test_a_fine_tuned_model_answers_what_it_is_asked(pretrained, tmp_path, capsys):
    for name, texts in (
        ("sentiment", ["Mia lost her kite."]),
        ("roles", ["Mia lost her kite ."]),
        ("questions", ["Who lost a kite?", "Mia lost her kite."]),
        ("next", ["Mia ran.", "She fell.", "He was a king.", "It rained.", "Ben sang."]),
    ):
        run = tmp_path / name
        quick = ["--epochs", "1", "--workers", "1", "--examples", "20"]
        main(["finetune", str(pretrained), "--task", name, "--out", str(run), *quick])
        hint = re.search(r"^to ask it: python -m train (.*)$", capsys.readouterr().out, re.MULTILINE)[1]
        assert main(shlex.split(hint)) == 0
        tuned = load(run)
        (answer,) = tuned.answers([tuned.task.example(texts)])
        capsys.readouterr()
        assert main(["ask", str(run), *texts]) == 0
        said, *chances = capsys.readouterr().out.strip().splitlines()
        p = [float(line.split("%")[0]) / 100 for line in chances]
        ((_, scores),) = tuned.read([tuned.task.example(texts)])
        if name in ("sentiment", "next"):
            best = np.exp(scores[0] - np.logaddexp.reduce(scores[0])).max()
            assert chances[0].endswith(said) and p[0] == pytest.approx(best, abs=1e-3)
            assert sum(p) == pytest.approx(1, abs=0.01)
        else:
            assert len(p) == (len(answer) if name == "roles" else 2) and all(0 <= one <= 1 for one in p)
        if name == "sentiment":
            assert said == answer and answer in tuned.task.labels
        elif name == "roles":
            assert said.split() == [f"{word}/{tag}" for word, tag in zip(texts[0].split(), answer)]
        elif name == "questions":
            assert said == (answer or "(no answer)")
        else:
            assert said == texts[1 + answer]
    (tmp_path / "asked.tsv").write_text("text\nMia lost her kite.\nBen was glad.\n")
    assert main(["ask", str(tmp_path / "sentiment"), "--data", str(tmp_path / "asked.tsv")]) == 0
    for line in map(json.loads, capsys.readouterr().out.splitlines()):
        assert line.keys() == {"answer", "probabilities"} and line["probabilities"][0][0] == line["answer"]
    assert main(["ask", str(tmp_path / "questions"), "Who?"]) == 2
    assert "a model for answer reads question and context; 1 texts were given" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command, message",
    [(["fill", "no mask"], r"there is nothing to fill in: write [MASK] where a word is missing"),
     (["finetune", "RUN"], "say which model to fine-tune and on what"),
     (["finetune", "RUN", "--task", "irony"], "unknown --task 'irony'; choose from sentiment"),
     (["finetune", "RUN", "--task", "roles", "--examples", "20", "--max-length", "99"], "--max-length 99 is more than"),
     (["finetune", "RUN", "--task", "tag", "--data", "x.tsv"], "x.tsv cannot be read"),
     (["embed", "."], "give something to look for")],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line(command, message, pretrained, tmp_path, capsys, monkeypatch):
    command = [str(pretrained) if word == "RUN" else word for word in command]
    command += ["--model", str(pretrained)] if command[0] == "fill" else []
    command += ["--out", str(tmp_path / "new")] if command[0] == "finetune" else []
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_the_newest_run_is_the_one_with_the_highest_number(tmp_path):
    for name in ("bert-2", "bert-10", "bert-9", "bert-x", "gpt-11"):
        (tmp_path / name).mkdir()
    assert newest_run("bert", tmp_path).name == "bert-10"
    with pytest.raises(ValueError, match=r"there is no run in .*t5-N; make one with: python -m train t5"):
        newest_run("t5", tmp_path)


def test_a_hint_after_pretraining_is_about_the_text_that_was_learned(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("The mount command attaches a filesystem to the tree. Its type may be given.\n\n" * 80)
    assert main(["bert", "--data", str(text), "--out", str(tmp_path / "run"), *SMALL, "--steps", "1"]) == 0
    hint = re.search(r"^to fill in words: python -m train (.*)$", capsys.readouterr().out, re.MULTILINE)[1]
    assert "the mount command attaches a [MASK] to the tree." in hint
    assert main(shlex.split(hint)) == 0


def test_a_fresh_body_learns_the_same_for_a_comparison(pretrained, tmp_path, capsys):
    flags = ["--task", "sentiment", "--examples", "30", "--epochs", "1", "--workers", "1"]
    assert main(["finetune", str(pretrained), *flags, "--compare-fresh", "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    told = r"accuracy (\S+), with a fresh body (\S+): the pretraining is worth (\S+)"
    ours, fresh, worth = re.search(told, said).groups()
    assert f"held out: accuracy {ours}" in said and float(worth) == pytest.approx(float(ours) - float(fresh), abs=2e-4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
    assert main(["finetune", str(pretrained), *flags, "--compare-fresh", "--fresh"]) == 2
    assert "leave out one of the two" in capsys.readouterr().err


def test_plot_draws_again_what_a_run_can_show(pretrained, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    flags = ["--task", "sentiment", "--examples", "20", "--epochs", "1", "--workers", "1"]
    assert main(["finetune", str(pretrained), *flags, "--out", str(run)]) == 0
    assert f"python -m train plot {run}" in capsys.readouterr().out and not list(run.glob("*.png"))
    assert main(["plot", str(run)]) == 2 and "pip install matplotlib" in capsys.readouterr().err
    monkeypatch.undo()
    pytest.importorskip("matplotlib")
    assert main(["plot", str(run)]) == 0
    assert capsys.readouterr().out == f"drawn: {run}/loss.png, {run}/confusion.png\n"
    assert {path.name for path in run.glob("*.png")} == {"loss.png", "confusion.png"}
    assert main(["plot", str(pretrained)]) == 0 and (pretrained / "loss.png").exists()
    assert main(["plot", str(tmp_path)]) == 2
