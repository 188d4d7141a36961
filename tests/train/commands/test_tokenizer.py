"""python -m train tokenizer: every kind from a file or a folder, and what it says to bad input."""

import argparse

import pytest

from models import tokenizers
from tests.models.tokenizers.awkward_texts import CORPUS
from train.commands import tokenizer as command


def run(*arguments):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.main(parser.parse_args([str(one) for one in arguments]))


@pytest.fixture
def data(tmp_path):
    (tmp_path / "data.txt").write_text(CORPUS)
    return tmp_path / "data.txt"


@pytest.mark.parametrize("kind", ["bpe", "classic", "wordpiece", "unigram", "characters"])
def test_every_kind_is_learnt_and_loads_again(kind, data, tmp_path, capsys):
    run("--kind", kind, "--data", data, "--vocab-size", 300, "--out", tmp_path / "out.json")
    tokenizer = tokenizers.load(tmp_path / "out.json")
    assert type(tokenizer) is command.KINDS[kind] and tokenizer.encode(CORPUS)
    assert f"out.json: {kind}, {tokenizer.vocab_size} tokens," in capsys.readouterr().out


def test_a_folder_is_read_whole_and_gives_the_same_as_the_texts_themselves(tmp_path):
    lines = CORPUS.splitlines(keepends=True)
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.txt").write_text("".join(lines[:3]))
    (tmp_path / "in" / "deep" / "b.txt").write_text("".join(lines[3:]))
    run("--data", tmp_path / "in", "--vocab-size", 400, "--out", tmp_path / "run")
    want = tokenizers.ByteLevelBPE.train(["".join(lines[:3]), "".join(lines[3:])], 400)
    assert tokenizers.load(tmp_path / "run").merges == want.merges


def test_wordpiece_and_bpe_are_also_written_in_their_own_files(data, tmp_path):
    run("--kind", "wordpiece", "--data", data, "--vocab-size", 200, "--out", tmp_path / "new" / "vocab.txt")
    assert tokenizers.load(tmp_path / "new").vocab_size == 200
    run("--data", data, "--vocab-size", 300, "--out", tmp_path / "x.tiktoken", "--special")
    assert tokenizers.load(tmp_path / "x.tiktoken").vocab_size == 301       # with <|endoftext|>


def test_places_that_cannot_be_written_are_named_before_learning(data, tmp_path):
    with pytest.raises(ValueError, match=r"--kind unigram is written to a .json file, or to a folder"):
        run("--kind", "unigram", "--data", data, "--vocab-size", 200, "--out", tmp_path / "vocab.txt")
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(ValueError, match=r"file/deep cannot be made: Not a directory"):
        run("--data", data, "--vocab-size", 300, "--out", tmp_path / "file" / "deep")


def test_bad_input_is_one_sentence(data, tmp_path):
    out = tmp_path / "out.json"
    (tmp_path / "none").mkdir()
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "bad.txt").write_bytes(b"caf\xe9")
    for arguments, message in (
            (["--data", tmp_path / "missing", "--vocab-size", 300], "missing does not exist"),
            (["--data", tmp_path / "none", "--vocab-size", 300], "none holds no text: it is empty"),
            (["--data", tmp_path / "empty.txt", "--vocab-size", 300], "holds no text: it is empty"),
            (["--data", tmp_path / "bad.txt", "--vocab-size", 300], "is not UTF-8 text: byte 0xe9 at position 3"),
            (["--data", data], "--kind bpe needs --vocab-size"),
            (["--data", data, "--vocab-size", 100], "smaller than the alphabet"),
            (["--kind", "characters", "--data", data, "--vocab-size", 9], "smaller than the alphabet"),
            (["--kind", "wordpiece", "--data", data, "--vocab-size", 9], "smaller than the alphabet"),
            (["--kind", "unigram", "--data", data, "--vocab-size", 9], "smaller than the alphabet")):
        with pytest.raises(ValueError, match=message):
            run(*arguments, "--out", out)
    assert not out.exists()
