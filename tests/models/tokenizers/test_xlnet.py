"""XLNet's tokens: the clean-up, what stands around texts, and on which side padding stands."""

import pytest

from models.tokenizers import Unigram, load
from models.tokenizers.xlnet import TOKENS, train

TEXTS = ["The fox ran off in 2000, and Mia met Tom. A café is “near”.", "He said ``yes'' to the fox."] * 20


@pytest.fixture(scope="module")
def tokenizer() -> Unigram:
    return train(TEXTS, 90)


def test_the_published_ids_come_first_and_quotes_accents_and_spaces_are_cleaned_up(tokenizer):
    assert tokenizer.tokens[:9] == list(TOKENS) and tokenizer.vocab_size == 90
    assert tokenizer.decode(tokenizer.encode(" a  café\n``yes'' ")) == 'a cafe "yes"'
    with_accents = train(["Café"] * 5, 14, keep_accents=True)
    assert with_accents.decode(with_accents.encode("Café")) == "Café"


def test_padding_is_on_the_left_and_the_segments_are_the_published_ones_also_after_a_save(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    again = load(tmp_path)
    assert isinstance(again, Unigram) and again.encode("The café ``fox''") == tokenizer.encode("The café ``fox''")
    for one in (tokenizer, again):
        batch = one.prepare(["The fox", "The"], special=True)
        assert batch.ids[:, -2:].tolist() == [[4, 3]] * 2 and batch.types[:, -3:].tolist() == [[0, 0, 2]] * 2
        assert batch.ids[1, 0] == 5 and not batch.mask[1, 0] and batch.mask[:, -1].all()
        pair, (a, b) = one.prepare(["The"], ["fox"]), (len(one.encode("The")), len(one.encode("fox")))
        assert pair.types[0].tolist() == [0] * (a + 1) + [1] * (b + 1) + [2]
        assert (one.separator_id, one.end_id, one.mask_id, one.pad_id, one.unk_id) == (4, 4, 6, 5, 0)
