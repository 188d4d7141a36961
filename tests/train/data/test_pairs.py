import numpy as np

from models.tokenizers import WordPiece
from tinytensor import random
from train.data import stories
from train.data.documents import Documents, SentenceEncoder, pack

END = 3  # [SEP]


def flat(*documents: list[int]) -> np.ndarray:
    """Documents given by the lengths of their sentences; every token is a number of its own, from 10 on."""
    ids, n = [], 10
    for lengths in documents:
        for length in lengths:
            ids += [*range(n, n + length), END]
            n += length
        ids.append(END)
    return np.array(ids)


def test_documents_and_their_sentences_are_found_in_the_flat_file():
    documents = Documents(flat([3, 2], [4]), END)
    assert (len(documents), documents.first, documents.lengths) == (2, [0, 2, 3], [3, 2, 4])
    assert documents.ids(0, 2).tolist() == [10, 11, 12, 13, 14]
    assert documents.ids(1, 3).tolist() == [13, 14, END, 15, 16, 17, 18]  # one mark between documents


def test_empty_documents_and_a_missing_last_mark_do_no_harm():
    tokens = np.concatenate([[END, END], flat([2], [1, 1]), [END, END, 50, 51]])
    documents = Documents(tokens, END)
    assert (len(documents), documents.lengths) == (3, [2, 1, 1, 2])
    assert len(Documents(np.array([], int), END)) == 0


def test_a_text_is_encoded_as_sentences_with_blank_lines_between_documents():
    text = "It rained. We ran.\nHome was far.\n\n\nA new day.\n"
    tokenizer = WordPiece.train([text], 60)
    ids = SentenceEncoder(tokenizer).encode_array(text)
    documents = Documents(ids, tokenizer.tokens.index("[SEP]"))
    read = [tokenizer.decode(documents.ids(s, s + 1)) for s in range(len(documents.lengths))]
    assert read == ["it rained.", "we ran.", "home was far.", "a new day."]
    assert documents.first == [0, 3, 4]


def packed(documents, room=20, task="next", short=0.0, seed=0):
    with random.seeded(seed) as draw:
        return pack(documents, room, task, short, draw)


def test_a_pass_uses_every_sentence_in_order_and_none_twice():
    documents = Documents(flat(*[[4, 3, 5, 2, 6, 3, 4]] * 30), END)
    own = []
    for pair in packed(documents):
        own += range(*pair.a)
        own += [] if pair.label else range(*pair.b)
    assert own == list(range(len(documents.lengths)))


def test_a_pair_fills_the_room_and_is_cut_to_it():
    documents = Documents(flat(*[[4, 3, 5, 2, 6, 3, 4]] * 30), END)
    pairs = packed(documents)
    assert max(pair.length for pair in pairs) <= 20
    assert np.mean([pair.length for pair in pairs]) > 14
    for pair in pairs:
        a, b = pair.ids(documents)
        assert len(a) + len(b) == pair.length and a and b
        assert a == list(range(a[0], a[0] + len(a)))  # a stretch of the text, cut at its ends only


def test_a_random_second_text_comes_from_another_document_half_the_time_or_more():
    documents = Documents(flat(*[[3] * 12] * 200), END)
    pairs = packed(documents)
    of = lambda sentence: np.searchsorted(documents.first, sentence, side="right")
    for pair in pairs:
        if pair.label:
            assert of(pair.a[0]) != of(pair.b[0])
        else:
            assert pair.b[0] == pair.a[1] and of(pair.a[0]) == of(pair.b[0])
    share = np.mean([pair.label for pair in pairs])
    assert 0.45 < share < 0.62  # above one half, as lone sentences always get a stranger: 4 deviations of 1000 draws


def test_swapped_pairs_have_their_second_text_first():
    pairs = packed(Documents(flat(*[[3] * 12] * 200), END), task="order")
    assert all(pair.a[0] == pair.b[1] if pair.label else pair.b[0] == pair.a[1] for pair in pairs)
    assert 0.42 < np.mean([pair.label for pair in pairs]) < 0.58
    assert packed(Documents(flat([5], [4]), END), task="order") == []  # a lone sentence has no order


def test_full_sentences_run_on_across_documents_and_long_ones_are_cut():
    documents = Documents(flat([4, 5], [6, 30], [2]), END)
    pairs = packed(documents, task="none")
    assert [(pair.a, pair.length) for pair in pairs] == [((0, 3), 16), ((3, 4), 20), ((4, 5), 2)]
    assert [len(pair.ids(documents)[0]) for pair in pairs] == [16, 20, 2]
    assert pairs[0].ids(documents)[0][9] == END


def test_some_documents_are_packed_short():
    documents = Documents(flat(*[[1] * 60] * 300), END)
    plain, short = packed(documents, 40), packed(documents, 40, short=0.5)
    below = lambda pairs: np.mean([pair.length < 30 for pair in pairs])
    assert below(short) > below(plain) + 0.2


def test_the_stories_make_pairs_of_whole_sentences():
    text = stories.corpus(20_000).text
    tokenizer = WordPiece.train([text], 300)
    documents = Documents(SentenceEncoder(tokenizer).encode_array(text), 3)
    assert len(documents) == text.count("\n\n")
    assert all(pair.length <= 125 for pair in packed(documents, 125))
