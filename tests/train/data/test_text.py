"""Reading text: any UTF-8, in any pieces, nothing lost or repeated, and clear words about what is not text."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.__main__ import main
from train.data import text as reading
from train.data.corpus import FileSource
from train.data.records import passed_over
from train.data.text import TextFiles

letters = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=1, max_size=60)


@given(letters, st.floats(0, 1), st.integers(1, 9))
def test_two_stretches_of_a_file_are_the_whole_text_wherever_it_is_cut(tmp_path_factory, text, share, chunk):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(text.encode())
    (file,) = TextFiles(path).files
    cut = int(file.size * share)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "CHUNK", chunk)
        first, second = "".join(file.read(0, cut)), "".join(file.read(cut, file.size))
    assert first + second == text
    assert len(first.encode()) - cut in (0, 1, 2, 3)


def test_pieces_end_with_a_line_where_they_can(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\n" * 10)
    monkeypatch.setattr(reading, "CHUNK", 11)
    pieces = list(TextFiles(tmp_path / "a.txt").read())
    assert len(pieces) > 5
    assert all(piece.endswith("\n") for piece in pieces)


def test_a_folder_is_read_in_order_of_names_and_hidden_files_are_left_out(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.txt").write_text("second ")
    (tmp_path / "a.txt").write_text("first ")
    (tmp_path / "c.txt").write_text("third")
    (tmp_path / ".hidden").write_text("never")
    assert "".join(TextFiles(tmp_path).read()) == "first second third"


def test_a_byte_order_mark_is_dropped(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfhello")
    assert "".join(TextFiles(tmp_path / "a.txt").read()) == "hello"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.txt does not exist"):
        TextFiles(tmp_path / "nowhere.txt")


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match="holds no text: it is empty"):
        TextFiles(tmp_path / "a.txt")


def test_a_binary_file_is_refused_with_the_place_of_its_zero(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"abc\0def")
    with pytest.raises(ValueError, match="is not text: byte 3 is zero"):
        list(TextFiles(tmp_path / "a.bin").read())


@pytest.mark.parametrize("chunk", [4, 5, 6, 100])
def test_a_wrong_byte_is_named_with_its_place(tmp_path, monkeypatch, chunk):
    (tmp_path / "a.txt").write_bytes("abcä".encode() + b"de\xffgh")
    monkeypatch.setattr(reading, "CHUNK", chunk)
    with pytest.raises(ValueError, match="is not UTF-8 text: byte 0xff at position 7"):
        list(TextFiles(tmp_path / "a.txt").read())


@given(st.lists(st.lists(letters, min_size=1, max_size=4), min_size=1, max_size=9), st.sampled_from(["\n", "\r\n"]))
def test_what_is_held_out_and_what_is_trained_on_make_up_the_text(tmp_path_factory, paragraphs, end):
    text = (end * 2).join(end.join(lines) for lines in paragraphs)
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(text.encode())
    first, second = ("".join(part) for part in FileSource(path).parts())
    assert first + second == text
    assert len(second.encode()) >= 0.05 * len(text.encode()) - 4


def test_every_file_holds_out_its_last_paragraphs(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text("".join(f"{name}{i}, a line\nand another\n\n" for i in range(40)))
    source = FileSource(tmp_path)
    trained_on, held_out = ("".join(part) for part in source.parts())
    assert held_out == "".join(f"{name}{i}, a line\nand another\n\n" for name in "abc" for i in (37, 38, 39))
    assert "a36" in trained_on and "b36" in trained_on and "a37" not in trained_on
    assert source.said() == "held out, not trained on: the last tenth of each of 3 files, from the start of a paragraph"


def test_one_line_without_paragraphs_is_cut_between_characters(tmp_path):
    (tmp_path / "a.txt").write_text("ä" * 100)
    assert ["".join(part) for part in FileSource(tmp_path / "a.txt").parts()] == ["ä" * 90, "ä" * 10]


def test_a_text_named_to_be_held_out_is_not_trained_on(tmp_path):
    (tmp_path / "a.txt").write_text("all of this")
    (tmp_path / "b.txt").write_text("and none of that")
    source = FileSource(tmp_path, tmp_path / "b.txt")
    assert ["".join(part) for part in source.parts()] == ["all of this", "and none of that"]
    with pytest.raises(ValueError, match=r"holds no other text than --val"):
        FileSource(tmp_path / "b.txt", tmp_path / "b.txt")


def test_pictures_in_a_folder_are_passed_over_and_named(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    (tmp_path / "c.txt").write_bytes("Bücher".encode("latin-1"))
    files = TextFiles(tmp_path)
    assert "".join(files.read()) == "text"
    told = f"passed over, as no UTF-8 text: 2 files of {tmp_path} (b.png, c.txt)"
    assert passed_over(files.path, files.passed_over) == told
    (tmp_path / "a.txt").unlink()
    with pytest.raises(ValueError, match="holds no text: none of its 2 files is UTF-8 text"):
        TextFiles(tmp_path)


def write_packed(path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode()))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet", "a.txt.gz"])
def test_records_are_read_as_texts_and_the_last_tenth_of_them_is_held_out(tmp_path, name, monkeypatch):
    texts, path = [f"text {i}\nof two lines, über" for i in range(20)], tmp_path / name
    lines = "".join(json.dumps({"id": 1, "text": text}) + "\n" for text in texts)
    if name == "a.parquet":
        pyarrow = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        parquet.write_table(pyarrow.table({"id": list(range(20)), "text": texts}), path)
    elif name == "a.jsonl":
        path.write_text(lines)
    else:
        write_packed(path, lines if "jsonl" in name else "\n\n\n".join(texts))
    monkeypatch.setattr(reading, "CHUNK", 50)
    first, second = (list(part) for part in FileSource(tmp_path).parts())
    assert "".join(first) == "".join(text + "\n\n" for text in texts[:18]) and len(first) > 3
    assert "".join(second) == "".join(text + "\n\n" for text in texts[18:])


@pytest.mark.parametrize("line, said", [
    ('{"body": "x"}', r'a.jsonl line 2 has no text in a field "text"; it has body'),
    ("[1]", r'a.jsonl line 2 has no text in a field "text"'),
    ("{", r"a.jsonl line 2 is not JSON"),
    ("[" * 100_000, r"a.jsonl line 2 is not JSON"),
])  # fmt: skip
def test_a_record_without_a_text_is_named(tmp_path, capsys, line, said):
    (tmp_path / "a.jsonl").write_text('{"text": "x"}\n' + line + "\n")
    assert main(["gpt", "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not (tmp_path / "run").exists()


def test_damaged_packed_files_are_named(tmp_path):
    write_packed(tmp_path / "a.txt.gz", "one\n\n" * 10_000)
    whole = (tmp_path / "a.txt.gz").read_bytes()
    for data in (whole[:40], whole[:12] + bytes(20) + whole[32:], b"no gzip at all"):
        (tmp_path / "a.txt.gz").write_bytes(data)
        with pytest.raises(ValueError, match=r"a\.txt\.gz cannot be read behind line"):
            TextFiles(tmp_path)
    pytest.importorskip("pyarrow")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(ValueError, match=r"b\.parquet cannot be read"):
        TextFiles(tmp_path / "b.parquet")
