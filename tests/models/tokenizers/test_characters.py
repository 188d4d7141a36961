"""Characters: the alphabet, both directions, and what it says about text it does not know."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import tokenizers
from models.tokenizers import Characters

TEXT = "First Citizen:\nBefore we proceed any further, hear me speak. ἀρχή 🎭"


def test_ids_follow_code_points_after_the_special_tokens():
    tokenizer = Characters.train(["cab", "dab"], special_tokens=["<pad>"])
    assert tokenizer.encode("abcd") == [1, 2, 3, 4]
    assert tokenizer.special_tokens == {"<pad>": 0} and tokenizer.vocab_size == 5


@given(st.text(alphabet=sorted(set(TEXT)), max_size=50))
def test_decode_inverts_encode_on_the_alphabet(text):
    tokenizer = Characters.train(TEXT)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode_with_offsets(text)[1] == [(i, i + 1) for i in range(len(text))]


def test_an_array_of_ids_has_the_smallest_type():
    ids = Characters.train(TEXT).encode_array(TEXT)
    assert ids.dtype == np.uint16 and ids.tolist() == Characters.train(TEXT).encode(TEXT)


def test_an_unknown_character_is_named_with_its_place_and_the_fix():
    with pytest.raises(ValueError, match=r"character 'é' at position 3 is not among the 3 characters.*train it on"):
        Characters.train("caf").encode("café!")


@pytest.mark.parametrize("ids", [[0, 3], [-1], np.array([1, 99])])
def test_an_id_out_of_range_is_named_with_its_place(ids):
    with pytest.raises(ValueError, match=r"id (3|-1|99) at position [01] is outside the vocabulary of 3 tokens"):
        Characters.train("caf").decode(ids)


def test_a_vocabulary_smaller_than_the_alphabet_is_refused():
    with pytest.raises(ValueError, match="vocab_size 2 is smaller than the alphabet: the texts hold 3"):
        Characters.train("caf", vocab_size=2)


def test_special_tokens_are_read_only_when_asked_for():
    tokenizer = Characters.train("<end>x", special_tokens=["<end>"])
    assert len(tokenizer.encode("x<end>")) == 6
    assert tokenizer.encode("x<end>", special=True) == [tokenizer.tokens.index("x"), 0]


def test_saving_and_loading_gives_the_same_tokenizer(tmp_path):
    tokenizer = Characters.train(TEXT, special_tokens=["<pad>"])
    tokenizer.save(tmp_path)
    for other in (Characters.load(tmp_path), tokenizers.load(tmp_path / "tokenizer.json")):
        assert other.encode(TEXT) == tokenizer.encode(TEXT) and other.special_tokens == tokenizer.special_tokens
