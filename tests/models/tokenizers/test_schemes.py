"""Classic BPE, WordPiece, Unigram, bytes and ELMo's characters: what is particular to each, worked out by hand."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import tokenizers
from models.tokenizers import Bytes, ClassicBPE, ElmoCharacters, Special, Unigram, WordPiece
from models.tokenizers.bert_text import BertText
from models.tokenizers.sentencepiece import align
from models.tokenizers.unigram_training import LONGEST_PIECE, SEEDS, Lattice, Row, digamma
from tests.models.tokenizers.awkward_texts import CORPUS

# ---- BERT's clean-up

@given(st.text(max_size=40))
def test_words_one_raw_word_at_a_time_are_the_words_of_the_whole_text(text):
    for cleaner in (BertText(), BertText(lowercase=False)):
        piecewise = [word for raw in cleaner.raw_words(text) for word in cleaner.words(raw)]
        assert piecewise == [word for word, _ in cleaner.words_with_places(text)]


@pytest.mark.parametrize(("text", "words"), [
    ("Ça coûte €5", ["ca", "coute", "€5"]),             # accents go; the euro sign is no punctuation
    ("don't $5", ["don", "'", "t", "$", "5"]),          # but every ASCII sign is
    ("AB中文cd", ["ab", "中", "文", "cd"]),
    ("한국", ["\u1112\u1161\u11ab\u1100\u116e\u11a8"]),   # Hangul comes apart into Jamo
    ("ΟΔΟΣ", ["οδοσ"]),                                 # no final sigma
    ("a\x00b\u200dc\ufffdd\x0be\u00a0f", ["abcde", "f"]),
])
def test_uncased_clean_up(text, words):
    assert [word for word, _ in BertText().words_with_places(text)] == words


# ---- WordPiece

TINY = WordPiece({token: i for i, token in enumerate(
    ["[UNK]", "un", "##aff", "##able", "##a", "a", "##ff", "[CLS]", "[SEP]", ".", "!"])})


def test_the_longest_piece_is_taken_first():
    assert TINY.encode("unaffable un") == [1, 2, 3, 1]
    assert TINY.decode([1, 2, 3, 1, 9]) == "unaffable un."


def test_one_missing_piece_makes_the_whole_word_unknown():
    assert TINY.encode("unaffablez a") == [0, 5]


def test_words_of_more_than_100_characters_are_unknown():
    assert TINY.encode("a" * 100) == [5] + [4] * 99
    assert TINY.encode("a" * 101) == [0]


def test_the_published_score_prefers_pairs_whose_halves_are_rare_elsewhere():
    text = "ab " * 10 + "ac " * 9 + "xy " * 2
    frequent = WordPiece.train(text, 10, special_tokens=["[UNK]"])
    likely = WordPiece.train(text, 10, special_tokens=["[UNK]"], score="likelihood")
    assert frequent.tokens[-1] == "ab" and likely.tokens[-1] == "xy"
    with pytest.raises(ValueError, match=r"score 'luck' is neither"):
        WordPiece.train(text, 20, score="luck")


def test_the_alphabet_stands_in_a_fixed_order():
    tokens = WordPiece.train("ba ab c", 8, special_tokens=["[UNK]"]).tokens
    assert tokens[:6] == ["[UNK]", "a", "b", "c", "##a", "##b"]


def test_a_limited_alphabet_keeps_the_most_frequent_characters():
    tokenizer = WordPiece.train("aaaa bbb cc", 20, limit_alphabet=2)
    assert "c" not in tokenizer.vocab and tokenizer.encode("cc") == [tokenizer.unk_id]
    with pytest.raises(ValueError, match=r"vocab_size 5 is smaller than the alphabet.* or set limit_alphabet"):
        WordPiece.train("aaaa bbb cc", 5)


def test_a_vocabulary_without_the_unknown_token_is_refused():
    with pytest.raises(ValueError, match=r"has no '\[UNK\]' for words it cannot spell"):
        WordPiece({"a": 0})


# ---- classic BPE

def test_the_end_of_a_word_is_marked():
    tokenizer = ClassicBPE({"<unk>": 0, "l": 1, "o": 2, "w": 3, "w</w>": 4, "lo": 5, "low</w>": 6},
                           [("l", "o"), ("lo", "w</w>")])
    assert tokenizer.encode("low lows LOW") == [6, 5, 3, 0, 6]
    assert tokenizer.decode([6, 6]) == "low low"
    assert tokenizer.encode_with_offsets("Lów") == ([6], [(0, 3)])


def test_gpt1s_two_files_are_read_and_written(tmp_path):
    tokenizer = ClassicBPE.train(CORPUS, 300)
    tokenizer.save_vocab_and_merges(tmp_path)
    other = ClassicBPE.load(tmp_path)
    assert (other.vocab, other.merges) == (tokenizer.vocab, tokenizer.merges)
    assert other.encode(CORPUS) == tokenizer.encode(CORPUS)


# ---- Unigram

def unigram(**scores):
    pieces = [("<unk>", 0.0), *((piece.replace("_", "\u2581"), score) for piece, score in scores.items())]
    return Unigram(pieces, {"<unk>": Special(0)})


def test_the_likeliest_segmentation_wins():
    tokenizer = unigram(_a=-1.0, _ab=-3.0, b=-1.5, bc=-4.0, c=-1.0)
    assert [tokenizer.tokens[i] for i in tokenizer.encode("abc")] == ["\u2581a", "b", "c"]       # -3.5
    tokenizer = unigram(_a=-1.0, _ab=-2.0, b=-1.5, bc=-4.0, c=-1.0)
    assert [tokenizer.tokens[i] for i in tokenizer.encode("abc")] == ["\u2581ab", "c"]           # -3.0


def test_a_run_of_unknown_characters_is_one_unknown_token():
    tokenizer = unigram(_=-1.0, a=-1.0)
    assert tokenizer.encode("axyza") == [1, 2, 0, 2]
    assert tokenizer.encode_with_offsets("axyza") == ([1, 2, 0, 2], [(0, 0), (0, 1), (1, 4), (4, 5)])
    assert tokenizer.decode([1, 2, 0, 2]) == "a \u2047 a"


def test_sampling_draws_each_segmentation_with_its_probability():
    tokenizer = unigram(_a=np.log(0.5), _ab=np.log(0.2), b=np.log(0.3))
    rng = np.random.default_rng(0)
    draws = [tuple(tokenizer.sample("ab", rng, alpha=1.0)) for _ in range(2000)]
    # P(_a b) = 0.15, P(_ab) = 0.2: the split one is drawn 0.15 / 0.35 = 43% of the time, give or take 3.3 sigma
    assert abs(draws.count((1, 3)) / 2000 - 0.15 / 0.35) < 0.036
    assert tokenizer.sample("ab", rng, alpha=50.0) == [2]


def test_sampling_gives_segmentations_of_the_same_text():
    tokenizer, rng = Unigram.train(CORPUS, 250), np.random.default_rng(1)
    samples = [tokenizer.sample(CORPUS, rng) for _ in range(3)]
    assert {tokenizer.decode(ids) for ids in samples} == {tokenizer.decode(tokenizer.encode(CORPUS))}
    assert len({tuple(ids) for ids in samples}) == 3


def test_training_finds_the_words_a_text_is_made_of():
    rng = np.random.default_rng(0)
    words = ["kalo", "mi", "tersu", "bondag"]
    text = " ".join("".join(rng.choice(words, size=3)) for _ in range(400))
    tokenizer = Unigram.train(text, 3 + 13 + 2 * len(words))         # 13 letters and marks
    assert {*words} <= {token.removeprefix("\u2581") for token in tokenizer.tokens}
    assert tokenizer.vocab_size == 24


def test_sentinels_stand_at_the_end_the_first_one_last():
    tokenizer = Unigram.train(CORPUS, 200, extra_ids=2)
    assert tokenizer.tokens[:3] == ["<pad>", "</s>", "<unk>"] and tokenizer.vocab_size == 200
    assert tokenizer.tokens[-2:] == ["<extra_id_1>", "<extra_id_0>"]


def test_a_unigram_vocabulary_smaller_than_the_alphabet_is_refused():
    with pytest.raises(ValueError, match=r"17 pieces are wanted beside the special tokens, but the text has \d+ char"):
        Unigram.train(CORPUS, 20)


def test_nothing_to_learn_from_is_said():
    with pytest.raises(ValueError, match=r"the texts hold no words to learn pieces from"):
        Unigram.train(["  ", ""], 100)


@settings(max_examples=50)
@given(st.text(max_size=30))
def test_aligning_changes_no_character(text):
    normalize = Unigram.train("a", 5).normalize
    aligned, spans = align(normalize, text)
    assert aligned == normalize(text) and len(spans) == len(aligned)


def test_digamma_matches_known_values():
    # psi(1) = -gamma, psi(1/2) = -gamma - 2 log 2, psi(10) = H_9 - gamma
    gamma = 0.5772156649015329
    want = [-gamma, -gamma - 2 * np.log(2), sum(1 / k for k in range(1, 10)) - gamma]
    np.testing.assert_allclose(digamma(np.array([1, 0.5, 10])), want, atol=1e-8)


@given(st.dictionaries(st.text("abä日𝒳", min_size=1, max_size=20), st.integers(1, 3), min_size=1), st.integers(1, 4))
def test_unigrams_seeds_are_the_substrings_that_cover_most_and_a_lattice_has_each_wherever_it_stands(counts, wanted):
    found = Counter()
    for word, count in counts.items():
        cuts = [(i, j) for i in range(len(word)) for j in range(i + 1, min(len(word), i + LONGEST_PIECE) + 1)]
        found.update({piece: count * n for piece, n in Counter(word[i:j] for i, j in cuts).items()})
    longer = [piece for piece, n in found.items() if len(piece) > 1 and n > 1]
    longer.sort(key=lambda piece: (-found[piece] * len(piece), piece))
    words = Row(list(counts), np.array(list(counts.values()), float))
    pieces, first, frequency = words.seeds(wanted)
    assert pieces == sorted(piece for piece in found if len(piece) == 1) + longer[: SEEDS * wanted]
    assert frequency.tolist() == [found[piece] for piece in pieces]
    assert [words.text[a : a + len(piece)] for a, piece in zip(first, pieces)] == pieces
    lattice = Lattice(words.pieces_at, words.first, words.sizes, words.weights)
    edges = zip(lattice.word.tolist(), lattice.end.tolist(), lattice.piece.tolist())
    there = [(n, j, pieces.index(word[i:j])) for n, word in enumerate(counts) for j in range(len(word) + 1)
             for i in range(max(0, j - LONGEST_PIECE), j) if word[i:j] in pieces]  # fmt: skip
    assert sorted(edges) == sorted(there)
    assert (lattice.target - lattice.source == np.vectorize(lambda p: len(pieces[p]))(lattice.piece)).all()


# ---- bytes and ELMo's characters

@given(st.text(max_size=50))
def test_bytes_give_any_text_back(text):
    assert Bytes().decode(Bytes().encode(text)) == text


def test_bytes_are_shifted_by_three_and_sentinels_follow():
    assert Bytes().encode("hi") == [107, 108]
    assert Bytes().vocab_size == 384 and Bytes().special_tokens["<extra_id_0>"] == 259
    with pytest.raises(ValueError, match=r"always has 384 ids"):
        Bytes.train("text", vocab_size=100)


def test_elmo_words_are_bytes_between_marks():
    ids = ElmoCharacters().encode("aé " + "z" * 60)
    assert ids.shape == (4, 50)
    assert ids[0, :4].tolist() == [259, 257, 260, 261] and ids[3, :4].tolist() == [259, 258, 260, 261]
    assert ids[1, :6].tolist() == [259, 98, 196, 170, 260, 261]
    assert ids[2].tolist() == [259] + [123] * 48 + [260]
    assert ElmoCharacters().decode(ids) == ["aé", "z" * 48]


def test_elmo_characters_are_found_again_in_a_run_folder(tmp_path):
    ElmoCharacters().save(tmp_path)
    assert isinstance(tokenizers.load(tmp_path), ElmoCharacters)
    with pytest.raises(ValueError, match=r"does not hold a Bytes tokenizer"):
        Bytes.load(tmp_path)


def test_elmo_batches_are_padded_with_zeros_and_bad_ids_are_refused():
    batch = ElmoCharacters().encode_batch(["a b c", ["d"]])
    assert batch.shape == (2, 5, 50) and not batch[1, 3:].any()
    assert ElmoCharacters().decode(batch[1]) == ["d"]
    with pytest.raises(ValueError, match=r"shape \(T, 50\) and run from 0 to 261; got shape \(1, 50\) from 0 to 300"):
        ElmoCharacters().decode(np.array([[300] + [0] * 49]))
