import numpy as np
import pytest

import tinytensor as tt
from models import BERT, BERTConfig
from models.inputs import TextInputs
from models.tokenizers import WordPiece
from train.commands.embed import passages
from train.embedding import embed, nearest

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
    (tmp_path / "b/c.txt").write_text("Four!")
    found = passages(tmp_path)
    assert [text for _, text in found] == ["One day.", "Two days.", "Three.", "Four!"]
    assert found[3][0].endswith("c.txt")


def test_an_unknown_pool_is_named(reader):
    with pytest.raises(ValueError, match="unknown pool 'sum'; choose from mean, cls, max"):
        embed(*reader, ["x"], "sum")
