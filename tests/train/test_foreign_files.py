"""Files as other programs write them, given to the commands: what is said of them, and what becomes of them."""

import json
import re

import pytest

from train.__main__ import main

SHAPE = ["--layers", "1", "--heads", "2", "--width", "16", "--context", "32"]
TINY = [*SHAPE, "--batch", "4", "--workers", "1", "--steps", "2", "--eval-batches", "1"]
TEXT = "The mount command attaches a filesystem to the tree.\nIts type may be given, or is guessed.\n\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_table_that_excel_wrote_is_learned_from(here, capsys):
    (here / "text.txt").write_text(TEXT * 40)
    shape = [*TINY, "--vocab-size", "200", "--data", "text.txt"]
    assert main(["bert", *shape]) == 0
    made = (f'"He said ""{n} times, no"",\r\nand left.",bad\r\n"It rained; I slept {n}.", good ' for n in range(9))
    rows = ["text,label", *made]
    (here / "mood.csv").write_bytes(("\ufeff" + "\r\n".join(rows) + "\r\n").encode())
    assert main(["finetune", "runs/bert-1", "--task", "classify", "--data", "mood.csv", "--epochs", "1"]) == 0
    said = capsys.readouterr().out
    assert "17 examples to train on and 1 held out" in said
    assert json.loads((here / "runs/finetune-1/config.json").read_text())["task_settings"]["labels"] == ["bad", "good"]
    (here / "mood.csv").write_bytes(b"text;label\r\nyes;good\r\n")
    assert main(["finetune", "runs/bert-1", "--task", "classify", "--data", "mood.csv"]) == 2
    assert "mood.csv" in capsys.readouterr().err


def test_a_folder_with_pictures_and_mail_and_records_is_one_text(here, capsys):
    folder = here / "notes"
    folder.mkdir()
    (folder / "a.txt").write_bytes(TEXT.replace("\n", "\r\n").encode() * 20)
    (folder / "b.jsonl").write_text("".join(json.dumps({"text": f"Record {n}. {TEXT}"}) + "\n" for n in range(20)))
    (folder / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (folder / "paper.pdf").write_bytes(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n\0\0")
    assert main(["gpt", "--data", "notes", "--out", "run", *TINY]) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == "held out, not trained on: the last tenth of each of 2 files, from the start of a paragraph"
    assert second == "passed over, as no UTF-8 text: 2 files of notes (paper.pdf, photo.png)"
    assert main(["eval", "run", "--data", "notes/b.jsonl"]) == 0
    assert re.match(r"\d+ of \d+ tokens: ", capsys.readouterr().out)
    (folder / "b.jsonl").write_text('{"body": "no text here"}\n')
    assert main(["gpt", "--data", "notes", "--out", "other", *TINY]) == 2
    assert 'b.jsonl line 1 has no text in a field "text"; it has body' in capsys.readouterr().err
    assert not (here / "other").exists()
