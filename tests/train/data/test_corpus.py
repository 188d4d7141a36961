import pytest

from models.tokenizers import ByteLevelBPE, Bytes, Characters, Unigram, WordPiece
from train.__main__ import main
from train.data.corpus import build_corpus, open_corpus
from train.data.told import StoriesSource


@pytest.fixture(scope="module")
def source() -> StoriesSource:
    return StoriesSource(20_000)


def test_the_parts_are_the_text_and_their_entropies_add_up(source, tmp_path):
    letters = Characters.train(source.texts)
    corpus = build_corpus(source, letters, tmp_path)
    for tokens, split, text, nats in zip(
        (corpus.train, corpus.val), (corpus.train_split, corpus.val_split), source.texts, source.nats
    ):
        assert letters.decode(tokens) == text and split.tokens == split.characters == len(text)
        assert split.bytes == len(text.encode()) and split.floor == nats / len(text)
    assert open_corpus(tmp_path).val_split == corpus.val_split
    assert 0.2 < corpus.val_split.floor < 0.35  # nats per character of any stretch of the stories


def test_an_entropy_bounds_the_loss_only_where_the_text_can_be_read_from_the_tokens(source, tmp_path):
    text = source.texts[0][:5000]
    for tokenizer, whole in (
        (ByteLevelBPE.train([text], 300), True), (Bytes(), True), (Characters.train(source.texts), True),
        (WordPiece.train([text], 200), False), (Unigram.train([text], 100), False),
    ):  # fmt: skip
        assert tokenizer.gives_back(text) == whole
        corpus = build_corpus(source, tokenizer, tmp_path)
        assert (corpus.val_split.floor is not None) == whole


def test_too_little_text_to_hold_some_out_is_a_sentence(tmp_path, capsys):
    assert main(["gpt", "--stories", "10", "--out", str(tmp_path / "run"), "--context", "16"]) == 2
    assert "the held-out part has 0 tokens" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
