import os
import textwrap

import numpy as np
import pytest

import tinytensor as tt
from models import BERT, BERTConfig
from models.inputs import TextInputs
from models.tokenizers import WordPiece
from train.__main__ import main
from train.data.text import TextFiles
from train.embedding import embed, features, nearest
from train.search import passages

TEXTS = ["red cup", "a very long text about a red cup and a blue hat", "blue hat", "cup"]


@pytest.fixture
def reader():
    tokenizer = WordPiece.train([" ".join(TEXTS)], 60)
    with tt.random.seeded(1):
        body = BERT(BERTConfig(vocab_size=tokenizer.vocab_size, context=40, layers=1, heads=2, width=8, init_std=0.3))
    return body.eval(), TextInputs(tokenizer, 40)


@pytest.mark.parametrize("pool", ["mean", "cls", "max"])
def test_a_texts_vector_is_that_of_its_tokens_whatever_it_is_batched_with(pool, reader):
    body, inputs = reader
    together = embed(body, inputs, TEXTS, pool, batch=3)
    for text, vector in zip(TEXTS, together):
        arrays = inputs.text(text)
        hidden = body(arrays["ids"][None]).hidden.data[0]
        plain = {"mean": hidden.mean(axis=0), "cls": hidden[0], "max": hidden.max(axis=0)}[pool]
        np.testing.assert_allclose(vector, plain / np.linalg.norm(plain), atol=1e-5)


def test_the_nearest_come_first():
    vectors = np.array([[1, 0], [0, 1], [0.6, 0.8], [-1, 0]], np.float32)
    assert [i for i, _ in nearest(vectors[0], vectors, 3)] == [0, 2, 1]
    assert nearest(vectors[2], vectors, 9)[0] == (2, pytest.approx(1.0))
    assert nearest(vectors[0], vectors[:0], 3) == []


def test_passages_are_the_sentences_of_all_files(tmp_path):
    (tmp_path / "a.txt").write_text("One day. Two days.\n\nThree.\n")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/c.txt").write_text("Four! Three.")
    found = passages(TextFiles(tmp_path))
    assert list(found) == ["One day.", "Two days.", "Three.", "Four!"]
    assert found["Three."].endswith("a.txt") and found["Four!"].endswith("c.txt")


SENTENCES = ("Dear Mia, the parcel with the two red kites arrived on Monday, and nothing in it was broken on the way.",
             "Could you tell me whether the blue one may fly in strong wind, as it does by the sea on most days?",
             "Ben asks for more string, since ours is as short as a shoelace and full of knots that nobody can undo.")


@pytest.mark.parametrize("width", [50, 72])
def test_hard_wrapped_lines_are_joined_and_lists_and_titles_are_not(tmp_path, width):
    wrapped = textwrap.fill(" ".join(SENTENCES), width)
    (tmp_path / "mail.txt").write_bytes(f"Kites\r\n\r\n{wrapped}\r\n\r\nred kite\r\nblue kite\r\n".encode())
    assert list(passages(TextFiles(tmp_path))) == ["Kites", *SENTENCES, "red kite", "blue kite"]


def test_an_index_answers_the_next_question_without_reading_the_text_again(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = "--layers 1 --heads 2 --width 16 --workers 1 --steps 1 --eval-batches 1 --stories 20000 --vocab-size 300"
    assert main(["bert", "--context", "48", *small.split()]) == 0
    (tmp_path / "notes.txt").write_text("\n".join(SENTENCES) + "\n" + SENTENCES[0])
    ask = ["embed", "notes.txt", SENTENCES[2], "--index", "notes.npz", "--top", "3"]
    capsys.readouterr()
    assert main(ask) == 0
    first, *found = capsys.readouterr().out.splitlines()
    assert first == "3 sentences and their vectors are in notes.npz" and len(found) == 3  # none twice
    assert found[0].startswith(f"1.000  {SENTENCES[2]}")
    written, read = os.stat("notes.npz"), []
    monkeypatch.setattr("train.embedding.features", lambda body, inputs, rows, *more: read.extend(rows) or features(
        body, inputs, rows, *more))  # fmt: skip
    assert main(ask) == 0
    assert capsys.readouterr().out.splitlines() == found and len(read) == 1  # the question alone
    assert os.stat("notes.npz").st_mtime_ns == written.st_mtime_ns
    (tmp_path / "notes.txt").write_text(SENTENCES[1])
    assert main([*ask[:2], SENTENCES[1], *ask[3:]]) == 0
    told, made, found = capsys.readouterr().out.splitlines()
    assert "other files or another model" in told and made.startswith("1 sentences") and SENTENCES[1] in found
    (tmp_path / "notes.npz").write_bytes(b"PK broken")
    assert main(ask) == 2 and "is none that embed has written, or is damaged" in capsys.readouterr().err


def test_an_unknown_pool_is_named(reader):
    with pytest.raises(ValueError, match="unknown pool 'sum'; choose from mean, cls, max"):
        embed(*reader, ["x"], "sum")
