import csv
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


TEXTS = ['say "hi", he said', "two\nlines", '"', "tab\there", "ä; ö", ", ", "plain", "x" * 200_000]


@pytest.mark.parametrize("separator, name", [(",", "x.csv"), (";", "x.csv"), ("\t", "x.csv"), ("\t", "x.tsv")])
def test_what_a_spreadsheet_writes_is_read_back(tmp_path, separator, name):
    texts = TEXTS if name == "x.csv" else [text for text in TEXTS if "\n" not in text]
    with open(tmp_path / name, "w", encoding="utf-8-sig", newline="") as file:  # with the mark it puts at the front
        writer = csv.writer(file, delimiter=separator)
        writer.writerows([("text", "label"), *((text, "yes " if i % 2 else " no") for i, text in enumerate(texts))])
    expected = [{"text": text, "label": "yes" if i % 2 else "no"} for i, text in enumerate(texts)]
    assert read_examples(tmp_path / name, "classify") == expected


def test_quotation_marks_in_a_tsv_that_quotes_nothing_are_text(tmp_path):
    texts = ['"Hello," he said.', '"open', 'closed"', "plain"]
    path = tmp_path / "x.tsv"
    path.write_text("text\tlabel\n" + "".join(f"{text}\tx\n" for text in texts))
    assert read_examples(path, "classify") == [{"text": text, "label": "x"} for text in texts]
    path.write_text("text\tlabel\n" + "".join(f"{text}\tx\n" for text in texts[1:]))  # complete, if quoted
    assert read_examples(path, "classify") == [{"text": text, "label": "x"} for text in texts[1:]]


@pytest.mark.parametrize(
    "name, text, message",
    [("x.tsv", "text\tlabel\na\tb\tc\n", r"line 2 of .* has 3 columns; the first line names 2"),
     ("x.tsv", "text\tlabel\n", "holds no examples"),
     ("x.tsv", "one\ttwo\na\tb\n", "has one, two; a task of the kind classify needs text, pair, label"),
     ("x.jsonl", '{"text": 1}\n{oops\n', r"line 2 of .* is not complete JSON"),
     ("x.jsonl", "[1]\n", r"line 1 of .* is no JSON object"),
     ("x.txt", "a,b\n", r"must end in .jsonl \(JSON lines\), .csv or .tsv"),
     ("x.csv", 'text,label\n"a,b\n', r"x.csv is not complete CSV: .*; is a quotation mark not closed\?"),
     ("x.csv", "text,text\na,b\n", "line 1 of .* names a column twice: text, text"),
     ("x.csv", 'text,label\n"a\nb",x\nc,d,e\n', "line 4 of .* has 3 columns; the first line names 2"),
     ("x.csv", "text,label\na,x\nb,\n", "line 3 of .* has an empty label; fill it in, or take the line out"),
     ("x.jsonl", '{"text": " ", "label": "x"}', "line 1 of .* has an empty text"),
     ("x.tsv", b"\xff\xfe", "is not UTF-8 text .byte 0.; is it really a file of examples")],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_named(name, text, message, tmp_path):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=message):
        read_examples(path, "classify")


def test_to_ask_no_label_is_needed(tmp_path):
    (tmp_path / "x.csv").write_text("text,label\na,\n")
    assert read_examples(tmp_path / "x.csv", "classify", answered=False) == [{"text": "a", "label": ""}]
