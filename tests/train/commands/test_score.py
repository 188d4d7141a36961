import html
import re

import numpy as np
import pytest

from models.score import Scores, score
from models.tokenizers import ByteLevelBPE, Characters
from train import checkpoint
from train.__main__ import main
from train.commands.score import SHADES, html_page, terminal_page, text_pieces

TEXT = "the cat sat on the mat. the dog sat on the log. the hen sat in the pen.\n" * 40
TINY = "--layers 1 --heads 2 --width 16 --context 16 --batch 4 --lr 0.01 --warmup 4 --workers 1 --steps 150"
SCORES = Scores(np.log([0.9, 0.3, 0.05, 0.005, 0.0001]), np.array([1, 2, 9, 50, 900]))
PIECES = ["<b>", "a", " &", "", "é", "\n"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    (folder / "text.txt").write_text(TEXT)
    assert main(["gpt", "--data", str(folder / "text.txt"), "--out", str(folder / "run"), *TINY.split()]) == 0
    return folder / "run"


def test_the_table_shows_the_models_probability_and_rank_of_each_token(trained, capsys):
    assert main(["score", str(trained), "--text", "the cat sat"]) == 0
    lines = capsys.readouterr().out.splitlines()
    model, tokenizer = checkpoint.load_model(trained)
    expected = score(model, tokenizer.encode("the cat sat"))
    assert lines[0] == "the cat sat" and len(lines) == 3 + 11 + 1
    for line, log_p, rank, piece in zip(lines[4:], expected.log_probs, expected.ranks, "he cat sat"):
        chance, place, token = line.split(maxsplit=2)
        assert float(chance) == pytest.approx(np.exp(log_p), abs=6e-5) and int(place) == rank and token == repr(piece)
    nats = -expected.log_probs.mean()
    assert lines[-1].startswith(f"10 tokens predicted: {nats:.4f} nats each, perplexity {np.exp(nats):.2f}")


def test_a_likely_text_is_more_probable_than_its_letters_in_another_order(trained, capsys):
    nats = []
    for text in ("the dog sat on the log.", "tgh odset nta ohg. loed"):
        assert main(["score", str(trained), "--text", text]) == 0
        nats.append(float(re.search(r"([\d.]+) nats each", capsys.readouterr().out)[1]))
    assert nats[0] < nats[1] - 1


def test_a_page_holds_the_text_with_a_colour_and_figures_for_each_token(trained, tmp_path, capsys):
    (tmp_path / "text.txt").write_text("the cat sat on the mat. the dog sat")
    page = tmp_path / "page.html"
    assert main(["score", str(trained), "--file", str(tmp_path / "text.txt"), "--html", str(page)]) == 0
    spans = re.findall(r'<span style="background:(#\w+)" title="(.*?)">(.*?)</span>', page.read_text())
    assert "".join(text for *_, text in spans) == "he cat sat on the mat. the dog sat"
    for colour, about, _ in spans:
        chance = float(re.match(r"probability ([\d.]+), rank \d+, [\d.]+ nats", about)[1])
        assert colour in [web for floor, _, web in SHADES if chance >= floor - 1e-4]
    assert str(page) in capsys.readouterr().out


def test_markup_in_the_text_stays_text():
    page = html_page(PIECES, SCORES, "<i>")
    assert "<b>" not in page and "&lt;b&gt;" in page and " &amp;<" in page and "<i>" not in page
    shown = re.search(r"<pre>(.*)</pre>", page, re.DOTALL)[1]
    assert html.unescape(re.sub("<[^>]*>", "", shown)) == "".join(PIECES)


def test_a_terminal_gets_colours_from_sure_to_surprised():
    page = terminal_page(PIECES, SCORES, True)
    codes = re.findall(r"48;5;(\d+)m", page.splitlines()[0])
    assert list(map(int, codes)) == [terminal for _, terminal, _ in SHADES]
    assert re.sub(r"\x1b\[[\d;]*m", "", page) == terminal_page(PIECES, SCORES, False)


@pytest.mark.parametrize("text", ["plain", "naïve €uro 😀 x", "  spaces\n\nand lines "])
def test_pieces_make_up_the_text_and_stand_with_the_last_byte_of_a_character(text):
    tokenizer = ByteLevelBPE.train("some plain text", 258)
    ids = tokenizer.encode(text)
    pieces = text_pieces(tokenizer, ids)
    assert len(pieces) == len(ids) and "".join(pieces) == text and "\ufffd" not in "".join(pieces)
    letters = Characters.train("abc")
    assert text_pieces(letters, letters.encode("cab" * 20)) == list("cab" * 20)


@pytest.mark.parametrize(
    "arguments, message",
    [([], "give the text to score: either --text or --file"), (["--text", "a", "--file", "b"], "either --text or"),
     (["--text", "t"], "at least two tokens, and 't' has 1"), (["--file", "none.txt"], "none.txt cannot be read")],
)  # fmt: skip
def test_bad_arguments_are_named(trained, capsys, arguments, message):
    assert main(["score", str(trained), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_no_text_is_named(trained, tmp_path, capsys):
    (tmp_path / "bad.txt").write_bytes(b"na\xefve")
    assert main(["score", str(trained), "--file", str(tmp_path / "bad.txt")]) == 2
    error = capsys.readouterr().err
    assert "bad.txt is not UTF-8 text (byte 2); is it really a text file?" in error and "tokenizer" not in error
