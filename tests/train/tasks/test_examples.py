import json

import pytest

from train.tasks.examples import read_examples


def test_tsv_has_its_names_in_the_first_line(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text('text\tlabel\nsay "hi"\tgood\n\nbye\tbad\n', encoding="utf-8")
    expected = [{"text": 'say "hi"', "label": "good"}, {"text": "bye", "label": "bad"}]
    assert read_examples(path, "classify") == expected


def test_json_lines_are_an_example_each(tmp_path):
    path = tmp_path / "x.jsonl"
    examples = [{"words": ["a", "b"], "tags": ["O", "B-x"]}, {"words": ["c"], "tags": ["O"]}]
    path.write_text("\n\n".join(map(json.dumps, examples)) + "\n")
    assert read_examples(path, "tag") == examples


def test_only_the_ends_of_lines_end_examples(tmp_path):
    text = "one\u2028two\x0cthree\x85"  # separators inside a text, to Unicode
    for name, content in (("x.jsonl", json.dumps({"text": text}, ensure_ascii=False)), ("x.tsv", f"text\r\n{text}\r")):
        path = tmp_path / name
        path.write_text(content + "\n", encoding="utf-8", newline="")
        assert read_examples(path, "classify") == [{"text": text}]


@pytest.mark.parametrize(
    "name, text, message",
    [("x.tsv", "text\tlabel\na\tb\tc\n", r"line 2 of .* has 3 columns; the first line names 2"),
     ("x.tsv", "text\tlabel\n", "holds no examples"),
     ("x.tsv", "one\ttwo\na\tb\n", "has one, two; a task of the kind classify needs text, pair, label"),
     ("x.jsonl", '{"text": 1}\n{oops\n', r"line 2 of .* is no JSON"),
     ("x.jsonl", "[1]\n", r"line 1 of .* is no JSON object"),
     ("x.csv", "a,b\n", r"must end in .jsonl \(JSON lines\) or .tsv"),
     ("x.tsv", b"\xff\xfe", "is not UTF-8 text .byte 0.; is it really a file of examples")],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_named(name, text, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        read_examples(path, "classify")
