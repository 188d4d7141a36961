"""The vocabulary of words: its order and counts, its sentences, and the ids of words too rare to be predicted."""

import numpy as np
import pytest

from models import tokenizers
from models.tokenizers import Words

TEXT = "The cat sat. The cat ran!\nA dog's life, isn't it?\nThe end"


def test_a_vocabulary_begins_with_its_marks_and_falls_in_frequency():
    words = Words.train([TEXT], 8)
    assert words.tokens[:5] == ["<S>", "</S>", "<UNK>", "The", "cat"]
    assert words.counts[:5] == [4, 4, 9, 3, 2]  # the nine words beyond the first eight entries are unknown
    assert words.counts[3:] == sorted(words.counts[3:], reverse=True)
    assert words.vocab_size == 8 and len(words.tokens) == 3 + 14


def test_every_sentence_is_dressed_in_its_marks():
    words = Words.train([TEXT], 8)
    ids = words.encode("The cat sat. A flea!")
    spelled = [words.tokens[id] for id in ids]
    assert spelled == ["<S>", "The", "cat", "sat", ".", "</S>", "<S>", "A", "<UNK>", "!", "</S>"]
    assert words.decode(ids) == "The cat sat.\nA <UNK>!"


def test_words_beyond_the_predicted_ones_keep_ids_of_their_own():
    words = Words.train([TEXT], 8)
    (end,) = words.encode("end")[1:-1]
    assert end >= words.vocab_size and words.tokens[end] == "end"


def test_offsets_are_the_words_places():
    words = Words.train([TEXT], 100)
    ids, spans = words.encode_with_offsets(TEXT)
    assert ids == words.encode(TEXT)
    for id, (start, end) in zip(ids, spans):
        assert TEXT[start:end] == ("" if id < 2 else words.tokens[id])


def test_it_reads_back_what_it_saved(tmp_path):
    words = Words.train([TEXT], 8)
    words.save(tmp_path)
    again = tokenizers.load(tmp_path)
    assert isinstance(again, Words)
    assert (again.tokens, again.counts, again.vocab_size) == (words.tokens, words.counts, 8)
    assert again.encode(TEXT) == words.encode(TEXT)


def test_text_without_words_has_no_sentences():
    assert Words.train([TEXT], 8).encode(" \n\n ") == []


def test_arrays_hold_every_id_however_few_are_predicted():
    words = Words(["<S>", "</S>", "<UNK>", *map(str, range(70_000))], [1] * 70_003, 10)
    assert words.encode_array("69999").tolist() == [0, 70_002, 1]
    assert words.encode_array("69999").dtype == np.uint32


def test_a_damaged_file_is_named(tmp_path):
    (tmp_path / "tokenizer.json").write_text('{"type": "Words", "tokens": ["<S>", "</S>", "<UNK>"]}')
    with pytest.raises(ValueError, match=r"tokenizer.json: counts is missing"):
        Words.load(tmp_path)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="vocab_size 3 has no room for a word"):
        Words.train([TEXT], 3)
    with pytest.raises(ValueError, match="a vocabulary of words begins with <S>, </S> and <UNK>"):
        Words(["the"], [1])
    with pytest.raises(ValueError, match="id 99 at position 0 is outside the vocabulary of 17 tokens"):
        Words.train([TEXT], 8).decode([99])
