import os
import stat

import numpy as np
import pytest

from models.files import (
    read_json,
    read_metadata,
    read_safetensors,
    read_text,
    replace_file,
    write_json,
    write_safetensors,
    write_text,
)
from models.pretrained import read_weights, write_folder


def test_a_file_is_replaced_as_a_whole_and_its_folders_are_made(tmp_path):
    path = tmp_path / "new" / "deep" / "file.txt"
    write_text(path, "first\r\n")
    write_text(path, "Schätze\n")
    assert path.read_bytes() == "Schätze\n".encode()
    assert [one.name for one in path.parent.iterdir()] == ["file.txt"]


def test_what_fails_in_the_middle_of_writing_leaves_the_old_content_and_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def fail(beside):
        beside.write_text("half of the ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(ValueError, match=r"file.txt cannot be written: No space left on device"):
        replace_file(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    write_text(tmp_path / "file.txt", "no folder")
    with pytest.raises(ValueError, match=r"file.txt/x cannot be written: .*file.txt is not a folder"):
        write_text(tmp_path / "file.txt" / "x", "")
    (tmp_path / ".w.safetensors.tinytensor").mkdir()
    with pytest.raises(ValueError, match=r"w.safetensors cannot be written: .*directory"):
        write_safetensors(tmp_path / "w.safetensors", {"a": np.zeros(3)})


def test_what_is_wrong_with_a_file_is_said_with_its_name_and_the_kind_that_was_wanted(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(ValueError, match=r"file cannot be read: No such file"):
        read_text(path)
    path.write_bytes(b"na\xefve")
    with pytest.raises(ValueError, match=r"file is not UTF-8 text \(byte 2\); is it really a recipe\?"):
        read_json(path, "a recipe")
    path.write_text('{"a": 1')
    with pytest.raises(ValueError, match=r"file is not complete JSON: .* at line 1 column 8; copy the file again"):
        read_json(path)
    path.write_text("[1]")
    with pytest.raises(ValueError, match=r"file does not hold a recipe"):
        read_json(path, "a recipe")


def test_a_table_comes_back_as_it_was_written(tmp_path):
    write_json(tmp_path / "x.json", {"näme": [1, 2.5, None], "path": tmp_path})
    assert read_json(tmp_path / "x.json") == {"näme": [1, 2.5, None], "path": str(tmp_path)}
    assert "näme" in (tmp_path / "x.json").read_text(encoding="utf-8")


def test_arrays_of_any_layout_come_back_with_what_was_said_about_them(tmp_path):
    arrays = {"turned": np.arange(6.0).reshape(2, 3).T, "one": np.array(0.5), "codes": np.array([3, 4], np.uint8)}
    write_safetensors(tmp_path / "w", arrays, {"about": "three arrays"})
    read = read_safetensors(tmp_path / "w")
    assert read.keys() == arrays.keys() and read_metadata(tmp_path / "w") == {"about": "three arrays"}
    for name, array in arrays.items():
        assert read[name].dtype == array.dtype and read[name].shape == array.shape
        np.testing.assert_array_equal(read[name], array)


def test_a_model_saved_over_an_older_one_leaves_files_that_are_none_of_its_own(tmp_path):
    arrays = {name: np.ones(4, np.float32) for name in "ab"}
    write_safetensors(tmp_path / "best.safetensors", arrays)
    write_folder(tmp_path, {}, arrays, shard_bytes=16)
    write_folder(tmp_path, {}, arrays)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best.safetensors", "config.json", "model.safetensors"]
    write_folder(tmp_path, {}, arrays, shard_bytes=16)
    assert not (tmp_path / "model.safetensors").exists() and (tmp_path / "best.safetensors").exists()
    assert read_weights(tmp_path).keys() == arrays.keys()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": ' + "[" * 51 + "]" * 51 + "}", "file nests its lists and tables more than 50 deep"),
        ("[" * 200_000, "file nests its lists and tables more than 50 deep"),
        ('{"a": "\\ud800"}', "file holds half of a character"),
        ('{"a": ' + "9" * 5000 + "}", "file holds a number with thousands of digits"),
        ("[1]", "file does not hold a recipe"),
    ],
)
def test_json_that_would_break_what_reads_it_is_refused(tmp_path, text, message):
    (tmp_path / "file").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "file", "a recipe")


def test_whole_characters_written_as_two_halves_are_read(tmp_path):
    (tmp_path / "file").write_text('{"a": "\\ud83d\\ude00", "b": ' + "[" * 48 + "]" * 48 + "}")
    assert read_json(tmp_path / "file")["a"] == "\N{GRINNING FACE}"


def test_only_files_that_have_an_end_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name, what in [("pipe", "no ordinary file"), ("device", "no ordinary file"), ("folder", "a folder")]:
        for read in (read_json, read_text, read_safetensors):
            with pytest.raises(ValueError, match=f"{name} cannot be read: it is {what}"):
                read(tmp_path / name)
    with open(tmp_path / "long", "wb") as file:
        file.truncate(2**30)
    with pytest.raises(ValueError, match="long has 1,073,741,824 bytes, more than the 50,331,648"):
        read_json(tmp_path / "long")


def test_what_is_written_may_be_read_by_those_whom_the_umask_lets(tmp_path):
    for mask, mode in ((0o022, 0o644), (0o077, 0o600), (0o007, 0o660)):
        before = os.umask(mask)
        try:
            write_safetensors(tmp_path / "w.safetensors", {"a": np.zeros(3)})
            write_text(tmp_path / "t", "text")
        finally:
            os.umask(before)
        assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}
