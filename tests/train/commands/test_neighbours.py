"""The neighbours of a word in its sentence."""

from pathlib import Path

import pytest

import tinytensor as tt
from models import ELMo, ELMoConfig
from models.tokenizers import Words
from train import checkpoint, finetune
from train.__main__ import main
from train.commands.neighbours import shown, starred

LINES = ["the river bank is wet", "the money bank is shut", "a green tree by the river"]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """An untrained run, and a text beside it."""
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("\n".join(LINES))
    Path("run").mkdir()
    words = Words.train(LINES, 20)
    tt.manual_seed(3)
    model = ELMo(ELMoConfig(vocab_size=20, width=8, hidden=12, char_width=4, filters="1x8,2x8", highways=1))
    words.save("run")
    checkpoint.save_config(Path("run"), "elmo", model.config)
    checkpoint.save_weights(Path("run"), model)
    return Path("run")


def test_the_nearest_to_a_word_of_the_text_is_that_word_in_that_place(run, capsys):
    assert main(["neighbours", "run", f"{LINES[0]}".replace("bank", "*bank*"), "--data", "text.txt", "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "the river *bank* is wet"
    assert lines[1] == "  1.000  the river *bank* is wet"
    cosines = [float(line.split()[0]) for line in lines[1:]]
    assert len(cosines) == 3 and cosines == sorted(cosines, reverse=True)


def test_an_elmo_embeds_sentences_too(run, capsys):
    assert main(["embed", "text.txt", LINES[1], "--model", "run", "--top", "1"]) == 0
    assert capsys.readouterr().out.startswith(f"1.000  {LINES[1]}")


def test_the_mix_of_a_task_takes_its_options_from_flags(run, capsys):
    flags = ["--task", "roles", "--examples", "8", "--epochs", "1", "--frozen", "--workers", "1", "--out", "tuned"]
    assert main(["finetune", "run", *flags, "--mix-norm", "--mix-l2", "0.1", "--mix-dropout", "0.2"]) == 0
    body = finetune.load(Path("tuned")).model.body
    assert (body.mix.layer_norm, body.mix.l2, body.mix.dropout.p) == (True, 0.1, 0.2)


def test_stars_mark_words():
    assert starred("He *plays* a play, *often*.") == (["He", "plays", "a", "play", ",", "often", "."], [1, 5])
    assert shown(["a", "b", "c", "d"], 2, around=1) == "b *c* d"


def test_what_makes_no_sense_is_refused(run, capsys):
    assert main(["neighbours", "run", "no stars here", "--data", "text.txt"]) == 2
    assert 'no word of "no stars here" is marked' in capsys.readouterr().err
    Path("empty.txt").write_text("\n\n")
    assert main(["neighbours", "run", "a *star*", "--data", "empty.txt"]) == 2
    assert "empty.txt has no words in its first 2000 lines" in capsys.readouterr().err
