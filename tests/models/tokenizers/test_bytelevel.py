"""Byte-level BPE on its own: lossless, cut where GPT-2 cuts, the merges worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import tokenizers
from models.tokenizers import ByteLevelBPE
from models.tokenizers.bytelevel import MANY

TEXT = "the theatre of the absurd; there, they're thinking: this, that & the other. " * 3
TRAINED = ByteLevelBPE.train(TEXT, 300)


def test_merges_are_the_most_frequent_pairs_and_ties_go_to_the_older_symbols():
    tokenizer = ByteLevelBPE.train("ab ab abc bc", 260, special_tokens=[])
    # a+b stands 3 times; then space+ab twice; then b+c, ab+c and space+b once each, of which b and c are the oldest
    assert tokenizer.merges == [(b"a", b"b"), (b" ", b"ab"), (b"b", b"c"), (b" ", b"bc")]


@settings(max_examples=200)
@given(st.text(max_size=200))
def test_decode_inverts_encode_on_any_text(text):
    assert TRAINED.decode(TRAINED.encode(text)) == text


@given(st.text(max_size=60))
def test_offsets_tile_the_text(text):
    ids, offsets = TRAINED.encode_with_offsets(text)
    assert ids == TRAINED.encode(text)
    for i, (start, end) in zip(ids, offsets):
        assert TRAINED.token_bytes[i] in text[start:end].encode()
    assert not text or (offsets[0][0] == 0 and offsets[-1][1] == len(text))


def test_saving_and_loading_gives_the_same_tokenizer(tmp_path):
    TRAINED.save(tmp_path)
    for other in (ByteLevelBPE.load(tmp_path), tokenizers.load(tmp_path)):
        assert other.vocab == TRAINED.vocab and other.merges == TRAINED.merges
        assert other.special_tokens == {"<|endoftext|>": 0}


def test_a_vocabulary_smaller_than_the_alphabet_is_refused():
    with pytest.raises(ValueError, match="vocab_size 200 is smaller than the alphabet: 256 bytes"):
        ByteLevelBPE.train(TEXT, 200)


def test_half_a_surrogate_pair_is_named_with_its_place():
    with pytest.raises(ValueError, match=r"character '\\ud83d' at position 3 is half of a surrogate pair"):
        TRAINED.encode("abc\ud83d")


def test_a_space_may_be_put_in_front():
    tokenizer = ByteLevelBPE(TRAINED.vocab, TRAINED.merges, add_prefix_space=True)
    assert tokenizer.encode("the") == TRAINED.encode(" the") and tokenizer.encode(" the") == TRAINED.encode(" the")
    assert tokenizer.encode_with_offsets("the")[1][-1][1] == 3 and tokenizer.encode("") == []


def test_many_new_words_get_the_ids_that_each_gets_alone():
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abcdeé "), size=random.integers(1, 12))) for _ in range(4 * MANY)]
    text = " ".join([*words, "x" * 200])
    tokenizer = ByteLevelBPE.train([text], 500)
    tokenizer.cache.clear()
    alone = [i for block in tokenizer.splitter.blocks(text) for word in block for i in tokenizer.merge(word)]
    assert tokenizer.encode(text) == alone and len(tokenizer.cache) > MANY
