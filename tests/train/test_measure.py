"""Comparisons: times taken in turns, what is the same, tables and pictures that show every point."""

import csv
from types import SimpleNamespace

import numpy as np
import pytest

from tests.train.test_compress import command, lines_of, trained  # noqa: F401
from train import plots
from train.compression.distill import TaughtReport
from train.compression.lottery import KINDS, Outcome
from train.compression.measure import as_csv, in_turns, times_as_fast
from train.tasks import Tag
from train.tour import paradox


def test_a_ratio_is_the_median_of_the_rounds_and_same_where_the_middle_of_them_has_1_in_it():
    first = np.geomspace(1, 16, 20)  # the machine slows down; the ratio does not
    assert times_as_fast(first, first / 2) == "2.00x"
    assert times_as_fast(first, first * 4) == "0.25x"
    assert times_as_fast(first, first * ([0.8] * 17 + [1.5] * 3)) == "same"  # 3 rounds of 20 say otherwise
    assert times_as_fast(first, first * ([0.8] * 19 + [1.5])) == "1.25x"


def test_works_take_turns_in_an_order_drawn_anew():
    done = []
    times = in_turns({name: lambda name=name: done.append(name) for name in "abc"}, seconds=0.01, rounds=40)
    assert {name: len(taken) for name, taken in times.items()} == dict.fromkeys("abc", len(done) // 3 - 1)
    rounds = ["".join(done[i : i + 3]) for i in range(0, len(done), 3)]
    assert rounds[0] == "abc" and {"".join(sorted(one)) for one in rounds} == {"abc"}
    assert len(set(rounds)) == 6  # all orders; that 40 rounds or more lack one has a probability below 0.5%


def test_one_seed_has_no_error_and_several_have():
    outcome = Outcome()
    for accuracy in (0.5, 0.75):
        outcome.add("dense", 0.0, accuracy, 100)
        for kind in KINDS[1:]:
            outcome.add(kind, 0.5, accuracy, 50)
        if accuracy == 0.5:
            assert "±" not in outcome.table() and "one seed" in outcome.table()
            assert outcome.curves()["ticket"] == [(0.5, 50.0)]
    assert "| 50.0% | 50 | 62.50 ± 12.50 |" in outcome.table()
    assert paradox.shown([1.0]) == "1.0000" and paradox.shown([1.0, 2.0]) == "1.5000 ± 0.5000"


def test_numbers_of_a_picture_are_written_a_point_a_line():
    text = as_csv({"a, b": [(1, 2.5, 0.1)], "c": [(0.5, 3.0)]}, "bits", "perplexity")
    rows = list(csv.reader(text.splitlines()))
    assert rows == [["curve", "bits", "perplexity", "standard error"], ["a, b", "1", "2.5", "0.1"],
                    ["c", "0.5", "3.0", ""]]  # fmt: skip


@pytest.mark.parametrize(("y", "scale"), [("perplexity", "log"), ("squared error", "log"), ("accuracy (%)", "linear")])
def test_pictures_show_all_their_points(y, scale, monkeypatch):
    figure = pytest.importorskip("matplotlib.figure")
    axes = figure.Figure().subplots()
    monkeypatch.setattr(plots, "picture", lambda path, draw, *words: draw(axes))
    curves = {"teacher": [(1000, 3.0)], "alone": [(10, 900.0)], "taught": [(10, 40.0, 2.0), (20, 30.0, 1.0)]}
    plots.draw_curves(None, curves, "parameters", y, "")
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", scale)
    for points in curves.values():
        for x, height, *_ in points:
            assert axes.get_xlim()[0] < x < axes.get_xlim()[1] and axes.get_ylim()[0] < height < axes.get_ylim()[1]


def test_tags_of_a_kind_stand_side_by_side():
    examples = [{"words": list("abcde"), "tags": ["B-per", "I-per", "O", "B-loc", "I-loc"]}]
    task = Tag.of(examples)
    labels, truth, said = task.labelled(examples, [["O"] * 5])
    assert labels == ("O", "B-loc", "I-loc", "B-per", "I-per")
    assert truth == examples[0]["tags"] and said == ["O"] * 5


def test_what_a_student_follows_is_drawn_apart_from_its_held_out_loss(tmp_path, monkeypatch):
    for name, loss in (("metrics.jsonl", 70.0), ("metrics-alone.jsonl", 4.0)):
        (tmp_path / name).write_text(f'{{"step": 1, "loss": {loss}}}\n{{"step": 1, "val_loss": {loss / 2}}}\n')
    drawn = []
    monkeypatch.setattr("train.compression.distill.draw_panels", lambda *what: drawn.append(what) or True)
    assert TaughtReport(tmp_path, 1).draw(tmp_path / "loss.png")
    (_, ((follows, _), (held_out, _)), _, _) = drawn[0]
    assert follows == {"taught": [(1, 70.0)]} and held_out == {"taught": [(1, 35.0)], "alone": [(1, 2.0)]}


def test_curves_are_measured_where_they_are_asked_for(trained, tmp_path):  # noqa: F811
    few = ["--limit", 1, "--batches", 1]
    for out, more in (("q", []), ("curve", ["--curve"])):
        assert command("quantize", trained, "--out", tmp_path / out, *few, *more) == 0
    read = lambda out: list(csv.DictReader((tmp_path / out / "comparison.csv").open()))
    assert [(row["curve"], row["bits of a weight"]) for row in read("q")] == [("before", "8"), ("nearest", "8")]
    found = {(row["curve"], row["bits of a weight"]): row["perplexity"] for row in read("curve")}
    assert found.keys() == {(how, bits) for how in ("before", "nearest", "gptq") for bits in "865432"}
    assert found["nearest", "8"] == read("q")[1]["perplexity"]
    assert float(found["nearest", "2"]) > float(found["nearest", "8"])


def test_the_comparison_says_why_integers_are_not_faster(trained, tmp_path, capsys):  # noqa: F811
    assert command("quantize", trained, "--out", tmp_path / "q", "--limit", 1, "--batches", 1) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"compared on 1 held-out batches of 16, which {trained} was not trained on\n")
    text = (tmp_path / "q" / "comparison.md").read_text()
    assert text in said and "Integers become floats" in text and "Masked" not in text
    assert command("prune", trained, "--out", tmp_path / "p", "--limit", 1, "--steps", 1) == 0
    text = (tmp_path / "p" / "comparison.md").read_text()
    assert "Masked weights are multiplied" in text and "Integers" not in text
    assert next(line["model"] for line in lines_of(tmp_path / "p")) == "before"


def test_vocabularies_are_learned_from_the_training_part_and_alphabets_from_all():
    from train import pretrain
    from train.commands.gpt import RECIPE

    source = SimpleNamespace(parts=lambda: (["the cat sat. " * 50], ["quiz zebra " * 50]))
    learn = lambda how: pretrain._tokenizer(SimpleNamespace(tokenizer=how, data="x", vocab_size=300), RECIPE, source)
    tokens = learn("bpe").tokens
    assert any("cat" in token for token in tokens) and not any("qu" in token or "ze" in token for token in tokens)
    assert "".join(learn("characters").tokens) == "".join(sorted(set("the cat sat. quiz zebra ")))
