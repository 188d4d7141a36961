import pytest

from models.sentences import find_words, group_words, split_sentences, words_of_sentences


@pytest.mark.parametrize(
    "line, sentences",
    [("It rained. We ran home! Why? So.", ["It rained.", "We ran home!", "Why?", "So."]),
     ('"Go!" said Mia. "Where to?" asked Ben.', ['"Go!" said Mia.', '"Where to?" asked Ben.']),
     ("He said it (twice). And left.", ["He said it (twice).", "And left."]),
     ("pi is 3.14 and e.g. this goes on", ["pi is 3.14 and e.g. this goes on"]),
     ("  One.  ", ["  One.  "]), ("", [])],
)  # fmt: skip
def test_sentences_of_a_paragraph_end_where_a_new_one_begins(line, sentences):
    assert split_sentences(line) == sentences


def test_sentences_of_words_end_at_a_full_stop_or_with_their_line():
    text = 'He said "no." Then 3.5 left...\n\nROMEO:\nAy me!'
    assert words_of_sentences(text) == [
        ["He", "said", '"', "no", ".", '"'],
        ["Then", "3", ".", "5", "left", ".", ".", "."],
        ["ROMEO", ":"],
        ["Ay", "me", "!"],
    ]
    found = list(find_words(text))
    assert [[word[0] for word in words] for words in found] == words_of_sentences(text)
    assert all(text[slice(*word.span())] == word[0] for words in found for word in words)


def test_a_list_of_words_is_cut_after_full_stops_that_a_word_follows():
    words = ["He", "said", '"', "no", ".", '"', "Then", "he", "left", ".", ".", ".", "He", "did"]
    assert group_words(words) == [words[:6], words[6:12], words[12:]]
    assert group_words([]) == []
