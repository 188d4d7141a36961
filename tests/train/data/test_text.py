"""Reading text: any UTF-8, in any pieces, nothing lost or repeated, and clear words about what is not text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.data import corpus
from train.data.corpus import TextFiles

letters = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"), min_size=1, max_size=60)


@given(letters, st.floats(0, 1), st.integers(1, 9))
def test_two_stretches_of_a_file_are_the_whole_text_wherever_it_is_cut(tmp_path_factory, text, share, chunk):
    path = tmp_path_factory.mktemp("text") / "a.txt"
    path.write_bytes(text.encode())
    files = TextFiles(path)
    cut = int(files.size * share)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "CHUNK", chunk)
        first, second = "".join(files.read(0, cut)), "".join(files.read(cut))
    assert first + second == text
    assert len(first.encode()) - cut in (0, 1, 2, 3)


def test_pieces_end_with_a_line_where_they_can(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("one\ntwo\nthree\n" * 10)
    monkeypatch.setattr(corpus, "CHUNK", 11)
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
    monkeypatch.setattr(corpus, "CHUNK", chunk)
    with pytest.raises(ValueError, match="is not UTF-8 text: byte 0xff at position 7"):
        list(TextFiles(tmp_path / "a.txt").read())
