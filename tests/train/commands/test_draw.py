"""python -m train draw: a run from nothing to its drawings, stopped and resumed; and a model that knows one drawing."""

import json
from importlib.util import find_spec

import pytest

from train.__main__ import main
from train.drawing import svg, tikz
from train.drawing.shapes import Circle, Line
from train.overwrite import check_ours
from train.trainer import Trainer

TINY = ["--layers", 1, "--heads", 2, "--width", 16, "--workers", 1, "--examples", 40, "--epochs", 1,
        "--batch", 8]  # fmt: skip
BALL = (Circle(48, 48, 30, "red"), Line(22, 48, 74, 48, "white"))


def run(*words) -> int:
    return main([str(word) for word in words])


def test_a_run_leaves_its_unicorns_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch, capsys):
    assert run("draw", "--out", tmp_path / "whole", *TINY) == 0
    said = capsys.readouterr().out
    assert "40 drawings to learn from, 20 held out; 5 steps" in said and "held out: attributes 0.0000, parsed" in said
    lines = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "sample" in line] == [1, 2, 3, 4, 5]
    for name in ("step-1", "step-2", "step-5", "without-horn", "asked-again"):
        drawing = svg.read((tmp_path / "whole" / f"unicorn-{name}.svg").read_text())
        assert tikz.read((tmp_path / "whole" / f"unicorn-{name}.tex").read_text()) == drawing
    assert (tmp_path / "whole" / "drawings.svg").exists()
    check_ours(tmp_path / "whole")
    assert (tmp_path / "whole" / "unicorns.png").exists() == bool(find_spec("matplotlib"))  # an extra
    capsys.readouterr()
    assert run("draw", tmp_path / "whole", "a unicorn", "--out", tmp_path / "a.svg") == 0  # it has learned nothing yet
    assert capsys.readouterr().out.startswith("a unicorn: the program is no drawing, or none to its end\n")
    svg.read((tmp_path / "a.svg").read_text())

    train = Trainer.train

    def stopped(trainer):
        trainer.between = lambda loop, step: setattr(trainer, "stop_asked", step == 2)
        return train(trainer)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train", stopped)
        assert run("draw", "--out", tmp_path / "parts", *TINY) == 0
    assert f"go on with: python -m train draw --resume {tmp_path / 'parts'}" in capsys.readouterr().out
    assert run("draw", "--resume", tmp_path / "parts") == 0
    for file in ("model.safetensors", "unicorn-step-5.tex", "drawings.svg"):
        assert (tmp_path / "parts" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), file


@pytest.fixture(scope="module")
def knows_a_ball(tmp_path_factory):
    """A run that has learned one drawing by heart."""
    folder = tmp_path_factory.mktemp("ball")
    (folder / "book.txt").write_text("a red ball and a blue ball and a red kite\n" * 200)
    example = json.dumps({"caption": "a red ball", "program": tikz.write(BALL)}) + "\n"
    (folder / "balls.jsonl").write_text(example * 64)
    (folder / "one.jsonl").write_text(example)
    quick = ["--workers", 1, "--batch", 8, "--lr", 1e-2]
    shape = ["--layers", 1, "--heads", 2, "--width", 32, "--context", 160]
    assert run("gpt", "--data", folder / "book.txt", "--out", folder / "gpt", "--steps", 5, "--eval-batches", 1,
               "--tokenizer", "bpe", "--vocab-size", 280, *shape, *quick) == 0  # fmt: skip
    assert run("finetune", folder / "gpt", "--task", "draw", "--data", folder / "balls.jsonl", "--held-out",
               folder / "one.jsonl", "--epochs", 12, "--out", folder / "run", *quick) == 0  # fmt: skip
    return folder / "run"


def test_it_draws_what_it_was_asked_for_and_says_what_is_there(knows_a_ball, tmp_path, capsys):
    assert run("draw", knows_a_ball, "a red ball") == 0
    assert capsys.readouterr().out == tikz.write(BALL) + "a red ball: there: 1 kind ball, 1 colour red\n"
    assert run("draw", knows_a_ball, "a red ball", "--out", tmp_path / "ball.svg") == 0
    assert svg.read((tmp_path / "ball.svg").read_text()) == BALL
    assert run("draw", knows_a_ball, "a red ball", "--out", tmp_path / "ball.tex") == 0
    assert tikz.read((tmp_path / "ball.tex").read_text()) == BALL
    assert run("draw", knows_a_ball, "a red ball", "a red ball", "--out", tmp_path / "two.svg") == 0
    assert (tmp_path / "two.svg").read_text().count(svg.element(BALL[0])) == 2
    capsys.readouterr()
    assert run("ask", knows_a_ball, "a red ball") == 0
    assert capsys.readouterr().out.strip() == tikz.write(BALL).strip()


@pytest.mark.parametrize("suffix, written", [(".svg", svg.write), (".tex", tikz.document)])
def test_it_goes_on_with_what_was_begun(knows_a_ball, tmp_path, capsys, suffix, written):
    (tmp_path / "half").with_suffix(suffix).write_text(written(BALL[:1]))
    assert run("draw", knows_a_ball, "a red ball", "--start", tmp_path / f"half{suffix}") == 0
    assert capsys.readouterr().out.startswith(tikz.write(BALL))


@pytest.mark.parametrize("words, said", [
    (["RUN"], 'say what to draw: python -m train draw'),
    (["RUN", "a ball", "--lr", "5"], "--lr is for training; to draw leave it out"),
    (["RUN", "a ball", "--examples", "5"], "--examples is for training"),
    (["RUN", "a ball", "--out", "a.png"], "--out a.png must end in .svg or .tex"),
    (["RUN", "a ball", "a kite", "--out", "a.tex"], "takes one drawing, not 2"),
    (["RUN", "a ball", "--start", "none.svg"], "none.svg"),
    (["RUN/../gpt", "a ball"], "is no fine-tuned model"),
    (["--start", "a.svg"], "--start is the beginning of a drawing; name the RUN"),
    (["--resume", "RUN", "--width", "8"], "leave out --width"),
    (["--resume", "RUN/../gpt"], "is a run of gpt"),
    (["--context", "0"], "it must be at least 1, not 0"),
    (["--context", "200"], "--context 200 is too short, as a caption and its program take up to 288 tokens"),
])  # fmt: skip
def test_what_cannot_be_drawn_is_refused_in_a_sentence(knows_a_ball, tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    assert run("draw", *(word.replace("RUN", str(knows_a_ball)) for word in words)) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error and not any(tmp_path.iterdir())
