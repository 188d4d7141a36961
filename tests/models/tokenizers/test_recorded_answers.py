"""The ids, offsets and texts that tokenizers and SentencePiece gave for awkward texts (see record.py)."""

import json
from pathlib import Path

import pytest

from models import tokenizers
from models.tokenizers import ByteLevelBPE, ClassicBPE, WordPiece
from models.tokenizers.split import Splitter
from tests.models.tokenizers.awkward_texts import AWKWARD, CORPUS

HERE = Path(__file__).parent
RECORDED = json.loads((HERE / "recorded.json").read_text())


@pytest.fixture
def published(tmp_path):
    def load(name):
        (tmp_path / "tokenizer.json").write_text(json.dumps(RECORDED[name]["tokenizer"]))
        return tokenizers.load(tmp_path)
    return load


def plain_tokens_by_id(tokenizer, length, mark):
    """The single symbols in the order of their ids, read from a published vocabulary."""
    return [token for token in tokenizer.tokens if token not in tokenizer.special and
            len(token.replace(mark, "") or token) == length]


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4"])
def test_words_are_cut_where_the_published_patterns_cut(pattern):
    for text, words in zip(AWKWARD, RECORDED[f"{pattern}_words"]):
        assert [word for block in Splitter(pattern).blocks(text) for word in block] == words


@pytest.mark.parametrize("name", ["bytelevel", "wordpiece_uncased", "wordpiece_cased", "classic"])
def test_ids_offsets_and_decoded_text_are_the_published_ones(published, name):
    tokenizer = published(name)
    answers = RECORDED[name]
    for text, ids, offsets, decoded in zip(AWKWARD, answers["ids"], answers["offsets"], answers["decoded"]):
        assert tokenizer.encode(text, special=True) == ids
        assert tokenizer.encode_with_offsets(text, special=True) == (ids, [tuple(span) for span in offsets])
        plain = [i for i in ids if i not in tokenizer.special_tokens.values()]
        if plain == ids:
            assert tokenizer.decode(ids) == decoded


def test_byte_level_training_gives_the_published_vocabulary_and_merges(published):
    want, got = published("bytelevel"), ByteLevelBPE.train(CORPUS, 500)
    assert got.merges == want.merges and got.vocab == want.vocab


@pytest.mark.parametrize("name", ["wordpiece_uncased", "wordpiece_cased"])
def test_wordpiece_training_gives_the_published_vocabulary_once_its_alphabet_is_taken_over(published, name):
    want = published(name)
    alphabet = plain_tokens_by_id(want, 1, "##")
    got = WordPiece.train(CORPUS, 300, lowercase=name.endswith("uncased"), alphabet=alphabet)
    assert got.tokens == want.tokens
    ours = WordPiece.train(CORPUS, 300, lowercase=name.endswith("uncased"))
    assert set(plain_tokens_by_id(ours, 1, "##")) == set(alphabet)


def test_classic_training_gives_the_published_vocabulary_once_its_alphabet_is_taken_over(published):
    want = published("classic")
    got = ClassicBPE.train(CORPUS, 300, alphabet=plain_tokens_by_id(want, 1, "</w>"))
    assert got.tokens == want.tokens and got.merges == want.merges


@pytest.mark.parametrize("recorded", RECORDED["pairs"], ids=lambda one: str(one["max_length"]))
def test_pairs_are_dressed_truncated_and_padded_like_the_published_ones(published, recorded):
    batch = published("wordpiece_cased").prepare(AWKWARD[3:12], AWKWARD[11:2:-1], max_length=recorded["max_length"])
    assert batch.ids.tolist() == recorded["ids"]
    assert batch.types.tolist() == recorded["types"]
    assert batch.mask.astype(int).tolist() == recorded["mask"]


def test_a_sentencepiece_model_is_read_and_segments_as_sentencepiece_does():
    tokenizer = tokenizers.load(HERE / "tiny.model")
    texts = AWKWARD + CORPUS.splitlines()
    for text, ids, decoded in zip(texts, RECORDED["spiece"]["ids"], RECORDED["spiece"]["decoded"]):
        assert tokenizer.encode(text) == ids
        assert tokenizer.encode_with_offsets(text)[0] == ids
        assert tokenizer.decode(ids) == decoded
