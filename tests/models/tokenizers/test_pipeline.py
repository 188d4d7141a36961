"""The steps of a published tokenizer one by one, worked out by hand; added tokens; what is refused by name."""

import json

import numpy as np
import pytest

import tinytensor as tt
from models import tokenizers
from models.tokenizers.pipeline import decoders, normalizers, postprocessors, pretokenizers
from models.tokenizers.pipeline.models import BPE, Unigram, WordLevel, WordPiece
from models.tokenizers.pipeline.text import Piece, Regex, String

N, P, D = normalizers, pretokenizers, decoders


@pytest.mark.parametrize(("step", "text", "becomes", "spans"), [
    (N.NFD(), "é", "e\u0301", [(0, 1), (0, 1)]),
    (N.NFC(), "e\u0301x", "éx", [(0, 1), (2, 3)]),
    (N.NFKD(), "①ﬁ", "1fi", [(0, 1), (1, 2), (1, 2)]),
    (N.NFKC(), "ﬁancé", "fiancé", None),
    (N.NFC(), "a\u0302\u0327", "a\u0327\u0302".replace("a\u0327\u0302", "â\u0327"), None),
    (N.Lowercase(), "ΟΔΟΣ", "οδοσ", None),
    (N.StripAccents(), "e\u0301é", "eé", [(0, 1), (2, 3)]),
    (N.Strip(), " a b ", "a b", [(1, 2), (2, 3), (3, 4)]),
    (N.Strip(strip_right=False), " a ", "a ", None),
    (N.Replace(String(" "), "▁"), "a b", "a▁b", [(0, 1), (1, 2), (2, 3)]),
    (N.Replace(Regex(" {2,}"), "xy"), "a   b", "axyb", [(0, 1), (3, 4), (3, 4), (4, 5)]),
    (N.Prepend("▁"), "Hi", "▁Hi", [(0, 1), (0, 1), (1, 2)]),
    (N.Prepend("▁"), "", "", []),
    (N.BertNormalizer(), "Él 中\x07", "el  中 ", None),
    (N.BertNormalizer(strip_accents=False), "É", "é", None),
    (N.Nmt(), "a\x01b\u200bc", "ab c", [(0, 1), (2, 3), (3, 4), (4, 5)]),
    (N.ByteLevel(), "é ", "Ã©Ġ", [(0, 1), (0, 1), (1, 2)]),
    (N.Sequence((N.NFD(), N.StripAccents(), N.Lowercase())), "É", "e", [(0, 1)]),
])
def test_a_normalizer_changes_the_text_and_knows_where_it_came_from(step, text, becomes, spans):
    piece = step(Piece.of(text))
    assert piece.text == becomes and len(piece.spans) == len(becomes)
    assert spans is None or piece.spans == spans


@pytest.mark.parametrize(("step", "text", "words"), [
    (P.ByteLevel(add_prefix_space=False), "Hello world", ["Hello", "Ġworld"]),
    (P.ByteLevel(use_regex=False), "Hi you", ["ĠHiĠyou"]),
    (P.Split(String("-"), "Removed"), "a-b", ["a", "b"]),
    (P.Split(String("-"), "Isolated"), "a-b", ["a", "-", "b"]),
    (P.Split(String("-"), "MergedWithPrevious"), "a-b", ["a-", "b"]),
    (P.Split(String("-"), "MergedWithNext"), "a-b", ["a", "-b"]),
    (P.Split(String("-"), "Contiguous"), "a--b", ["a", "--", "b"]),
    (P.Split(Regex("[0-9]+"), "Removed", invert=True), "a12b3", ["12", "3"]),
    (P.Split(Regex(r" ?[^(\s|[.,!?])]+"), "Isolated"), "Hi (you), ok.", ["Hi", " (", "you", "),", " ok", "."]),
    (P.Digits(), "a12", ["a", "12"]), (P.Digits(individual_digits=True), "a12½", ["a", "1", "2", "½"]),
    (P.Punctuation(), "Hi!!", ["Hi", "!", "!"]), (P.Punctuation("Contiguous"), "Hi!!", ["Hi", "!!"]),
    (P.Whitespace(), "Hi there!!", ["Hi", "there", "!!"]), (P.WhitespaceSplit(), "Hi there!!", ["Hi", "there!!"]),
    (P.CharDelimiterSplit("-"), "a-b", ["a", "b"]), (P.BertPreTokenizer(), "don't!!", ["don", "'", "t", "!", "!"]),
    (P.Metaspace(), "Hi you", ["▁Hi", "▁you"]), (P.Metaspace(prepend_scheme="never"), "Hi you", ["Hi", "▁you"]),
    (P.Metaspace(split=False), "Hi you", ["▁Hi▁you"]), (P.Metaspace(add_prefix_space=False), "Hi", ["Hi"]),
    (P.UnicodeScripts(), "どこでabc", ["どこで", "abc"]), (P.FixedLength(3), "abcde", ["abc", "de"]),
    (P.Sequence((P.WhitespaceSplit(), P.Digits())), "a1 b", ["a", "1", "b"]),
])
def test_a_pre_tokenizer_cuts_the_text(step, text, words):
    pieces = step(Piece.of(text))
    assert [piece.text for piece in pieces] == words
    for piece in pieces:
        assert all(0 <= start <= end <= len(text) for start, end in piece.spans)


def test_the_mark_in_front_may_be_for_the_first_piece_only():
    first = P.Metaspace(prepend_scheme="first")
    for start, word in ((0, "▁a"), (5, "a")):
        assert [one.text for one in first(Piece.of("a", start))] == [word]


@pytest.mark.parametrize(("step", "tokens", "text"), [
    (D.ByteLevel(), ["Ã", "©Ġ", "<｜end｜>"], "é <｜end｜>"), (D.ByteLevel(), ["Ã"], "\ufffd"),
    (D.WordPiece(), ["un", "##able", "."], "unable."), (D.WordPiece(cleanup=False), ["un", "##able", "."], "unable ."),
    (D.Metaspace(), ["▁Hi", "▁you"], "Hi you"), (D.Metaspace(prepend_scheme="never"), ["▁Hi"], " Hi"),
    (D.BPEDecoder(), ["low", "er</w>", "x</w>"], "lower x"), (D.ByteFallback(), ["<0xC3>", "<0xA9>", "a"], "éa"),
    (D.ByteFallback(), ["<0xC3>", "a"], "\ufffda"), (D.Fuse(), ["a", "b"], "ab"),
    (D.Strip(" ", 1, 0), ["  a", "b "], " ab "), (D.Strip("a", 0, 1), ["baa"], "ba"),
    (D.Replace(String("▁"), " "), ["▁a", "▁"], " a "),
    (D.CTC(), ["h", "h", "<pad>", "h", "i", "|", "|", "you"], "hhi you"),
    (D.Sequence((D.Replace(String("▁"), " "), D.Fuse(), D.Strip(" ", 1, 0))), ["▁Hi", "▁you"], "Hi you"),
])
def test_a_decoder_makes_text_of_tokens(step, tokens, text):
    assert "".join(step(tokens)) == text


# ---- models

def ids(*tokens):
    return {token: i for i, token in enumerate(tokens)}


def test_bpe_falls_back_to_bytes_or_to_the_unknown_token():
    vocab = ids("<unk>", "a", "b", "ab", "<0xC3>", "<0xA9>")
    plain = {"vocab": vocab, "merges": [("a", "b")]}
    assert BPE(**plain).tokens("aéb") == [(3, 0, 2)]  # what it can't spell vanishes, its place too: so it is published
    assert BPE(**plain, unk_token="<unk>").tokens("éüab") == [(0, 0, 1), (0, 1, 2), (3, 2, 4)]
    assert BPE(**plain, unk_token="<unk>", fuse_unk=True).tokens("éüab") == [(0, 0, 2), (3, 2, 4)]
    assert BPE(**plain, byte_fallback=True).tokens("éa") == [(4, 0, 1), (5, 0, 1), (1, 1, 2)]
    assert BPE(vocab=ids("a", "b", "ab"), merges=[], ignore_merges=True).tokens("ab") == [(2, 0, 2)]


def test_bpe_marks_the_parts_of_words():
    model = BPE(vocab=ids("l", "##o", "##w</w>", "lo"), merges=[("l", "##o")], continuing_subword_prefix="##",
                end_of_word_suffix="</w>")
    assert model.tokens("low") == [(3, 0, 2), (2, 2, 3)]


def test_merges_are_dropped_with_the_probability_that_is_asked_for():
    model = BPE(vocab=ids("a", "b", "c", "ab", "abc"), merges=[("a", "b"), ("ab", "c")], dropout=0.3)
    tt.manual_seed(0)
    drawn = [tuple(i for i, _, _ in model.tokens("abc")) for _ in range(4000)]
    # (a b) is done 0.7 of the time, and then (ab c) again 0.7; 3 sigma of 4000 draws is 0.024
    for row, share in (((4,), 0.49), ((3, 2), 0.21), ((0, 1, 2), 0.3)):
        assert abs(drawn.count(row) / 4000 - share) < 0.024
    assert BPE(vocab=model.vocab, merges=model.merges, dropout=1.0).tokens("abc") == [(0, 0, 1), (1, 1, 2), (2, 2, 3)]


def test_unigram_and_the_word_models_say_what_they_cannot_spell():
    pieces = [("<unk>", 0.0), ("a", -1.0), ("<0xC3>", -5.0), ("<0xA9>", -5.0)]
    assert Unigram(0, pieces).tokens("aéüa") == [(1, 0, 1), (0, 1, 3), (1, 3, 4)]
    assert Unigram(0, pieces, True).tokens("éa") == [(2, 0, 1), (3, 0, 1), (1, 1, 2)]
    assert WordLevel(ids("[UNK]", "hi"), "[UNK]").tokens("ho") == [(0, 0, 2)]
    assert WordPiece(vocab=ids("[UNK]", "a", "##b")).tokens("ab") == [(1, 0, 1), (2, 1, 2)]
    for model in (Unigram(None, [("a", -1.0)]), WordLevel({"hi": 0}, "[UNK]"), WordPiece(vocab={"a": 0})):
        with pytest.raises(ValueError, match="the text holds what the vocabulary cannot spell, and it has no '"):
            model.tokens("é")


# ---- whole files

def file(folder, **parts):
    entry = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    spec = {"version": "1.0", "truncation": None, "padding": None, "normalizer": None, "pre_tokenizer": None,
            "post_processor": None, "decoder": None,
            "model": {"type": "WordLevel", "vocab": ids("[UNK]", "a", "b", "cat"), "unk_token": "[UNK]"}} | parts
    spec["added_tokens"] = [entry | token for token in parts.get("added_tokens", [])]
    (folder / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    return tokenizers.load(folder)


def test_added_tokens_are_found_as_their_options_say(tmp_path):
    tokenizer = file(tmp_path, pre_tokenizer={"type": "Whitespace"}, normalizer={"type": "Lowercase"}, added_tokens=[
        {"id": 3, "content": "cat", "single_word": True, "special": False},       # which is an ordinary entry, too
        {"id": 4, "content": "CoViD", "normalized": True, "special": False},
        {"id": 5, "content": "<mask>", "lstrip": True}, {"id": 6, "content": "<mask>s", "rstrip": True}])
    assert tokenizer.encode("a covid COVIDb") == [1, 4, 4, 2] and tokenizer.encode("acatb cat.b") == [0, 3, 0, 2]
    assert tokenizer.encode_with_offsets("a  <mask> b", special=True) == ([1, 5, 2], [(0, 1), (1, 9), (10, 11)])
    assert tokenizer.encode("<mask>s  b", special=True) == [6, 2] and not {5, 6} & {*tokenizer.encode("<mask>s <mask>")}
    assert tokenizer.special_tokens == {"<mask>": 5, "<mask>s": 6} and tokenizer.vocab_size == 7
    tokenizer.save(tmp_path / "again")
    again = tokenizers.load(tmp_path / "again")
    assert again.added == tokenizer.added and again.encode("covid cat") == [4, 3]


def test_a_special_name_that_the_vocabulary_spells_stays_text_unless_asked_for(tmp_path):
    tokenizer = file(tmp_path, added_tokens=[{"id": 3, "content": "cat"}])
    assert tokenizer.encode("cat") == [0] and tokenizer.encode("cat", special=True) == [3]


def test_xlnets_template_types_and_left_padding_are_followed(tmp_path):
    item = lambda name, kind, i: {kind: {"id": name, "type_id": i}}
    single = [item("A", "Sequence", 0), item("<sep>", "SpecialToken", 0), item("<cls>", "SpecialToken", 2)]
    tokenizer = file(
        tmp_path, pre_tokenizer={"type": "WhitespaceSplit"}, added_tokens=[{"id": 4, "content": "<sep>"},
                                                                           {"id": 5, "content": "<cls>"}],
        post_processor={"type": "TemplateProcessing", "single": single,
                        "pair": [*single[:2], item("B", "Sequence", 1), *single[1:]],
                        "special_tokens": {name: {"id": name, "ids": [i], "tokens": [name]}
                                           for name, i in (("<sep>", 4), ("<cls>", 5))}},
        truncation={"direction": "Left", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        padding={"strategy": {"Fixed": 5}, "direction": "Left", "pad_to_multiple_of": None, "pad_id": 9,
                 "pad_type_id": 3, "pad_token": "<pad>"})
    batch = tokenizer.prepare(["a b cat", "a"])
    assert batch.ids.tolist() == [[9, 2, 3, 4, 5], [9, 9, 1, 4, 5]]
    assert batch.types.tolist() == [[3, 0, 0, 0, 2], [3, 3, 0, 0, 2]] and batch.mask[0].tolist() == [False] + [True] * 4
    assert tokenizer.prepare(["a"], ["b cat"], max_length=9).types.tolist() == [[3] * 0 + [0, 0, 1, 1, 0, 2]]


@pytest.mark.parametrize(("strategy", "lengths"), [
    ("OnlyFirst", (2, 3)), ("OnlySecond", (4, 1)), ("LongestFirst", (3, 2))])
def test_the_file_says_which_of_two_texts_is_cut(tmp_path, strategy, lengths):
    cut = {"direction": "Right", "max_length": 5, "strategy": strategy, "stride": 0}
    tokenizer = file(tmp_path, truncation=cut)
    assert tuple(map(len, tokenizer.truncate([1] * 4, [2] * 3, 5))) == lengths
    if strategy != "LongestFirst":
        with pytest.raises(ValueError, match=f"is the only one that may be cut \\({strategy}\\)"):
            tokenizer.truncate([1] * 7, [2] * 7, 5)


def test_offsets_leave_out_the_space_that_a_token_carries():
    trim = postprocessors.ByteLevel(add_prefix_space=False).trimmed
    assert trim(["Hi", "Ġyou", "ĠĠ"], [(0, 2), (2, 6), (6, 8)]) == [(0, 2), (3, 6), (8, 8)]
    assert postprocessors.ByteLevel().trimmed(["ĠHi"], [(0, 2)]) == [(0, 2)]  # that one was put there


BERT = {"type": "BertProcessing", "sep": ["a", 1], "cls": ["b", 2]}
SPLIT = {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "Isolated", "invert": False}


@pytest.mark.parametrize(("parts", "message"), [
    ({"normalizer": {"type": "Odd"}}, "the normalizer 'Odd' is not known; known are BertNormalizer, Strip,"),
    ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "NFC"}]}}, "the pre_tokenizer 'NFC' is not kn"),
    ({"pre_tokenizer": SPLIT | {"speed": 3}}, "pre_tokenizer Split: 'speed' is not known here"),
    ({"pre_tokenizer": SPLIT | {"behavior": "Odd"}}, "behavior must be one of Removed, Isolated, Merged"),
    ({"pre_tokenizer": SPLIT | {"pattern": {"Regex": "("}}}, r"the pattern '\(' does not compile"),
    ({"pre_tokenizer": SPLIT | {"pattern": {"Regex": r"a{1,2}+"}}}, r"has '\{1,2\}\+', which is not supported"),
    ({"pre_tokenizer": SPLIT | {"pattern": {"Regex": r"\w+"}}}, r"has '\\\\w', which is not supported"),
    ({"pre_tokenizer": SPLIT | {"pattern": {"String": ""}}}, "matches nothing; leave the step out"),
    ({"pre_tokenizer": {"type": "CharDelimiterSplit", "delimiter": "ab"}}, "delimiter must be one character, not 'ab'"),
    ({"pre_tokenizer": {"type": "Metaspace", "prepend_scheme": "first", "add_prefix_space": False}}, "contradicts"),
    ({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}}, "the precompiled_charsmap"),
    ({"decoder": {"type": "Strip", "content": " ", "start": -1, "stop": 0}}, "start must be at least 0, not -1"),
    ({"model": {"type": "Magic"}}, "the model 'Magic' is not known; known are BPE, WordPiece, WordLevel, Unigram"),
    ({"model": {"type": "BPE", "vocab": ids("a"), "merges": [["a", "b"]]}}, "merge 1, 'a' \\+ 'b', names 'b', which"),
    ({"model": {"type": "BPE", "vocab": ids("a"), "merges": [], "dropout": 2}}, "dropout must be at most 1, not 2"),
    ({"model": {"type": "Unigram", "unk_id": 3, "vocab": [["a", 0.0]]}}, "unk_id 3 is none of the 1 pieces"),
    ({"post_processor": {"type": "BertProcessing", "sep": ["[S]", 1], "cls": ["[C]", 2]}}, "puts '\\[S\\]' \\(id 1\\)"),
    ({"added_tokens": [{"id": 9, "content": "a"}]}, "the added token 'a' has id 9 there, and 1 in the vocabulary"),
    ({"model": {"type": "BPE", "vocab": ids("a"), "merges": [], "byte_fallback": True, "end_of_word_suffix": "</w>"}},
     "byte_fallback and marks of a word's parts is not supported"),
    ({"model": {"type": "BPE", "vocab": ids("a", "b", "ab"), "merges": [["a", "b"]], "unk_token": "ab"}},
     "a merge makes 'ab', the unk_token; that is not supported"),
    ({"normalizer": {"type": "Strip"}, "added_tokens": [{"id": 9, "content": " ", "normalized": True}]},
     "nothing is left of the added token with id 9"),
    ({"post_processor": {"type": "Sequence", "processors": [BERT, BERT]}}, "two post-processors put special tokens"),
    ({"post_processor": {"type": "TemplateProcessing", "pair": [],
                         "single": [{"SpecialToken": {"id": "x", "type_id": 0}}], "special_tokens": {
                             "x": {"id": "x", "ids": [1, 2], "tokens": ["a", "b"]}}}},
     "the template's 'x' is neither a text, A or B, nor the name of one token"),
    ({"speed": 3}, "'speed' is not known in a tokenizer.json"),
    ({"padding": {"strategy": "Some"}}, "padding: strategy must be"),
])
def test_what_is_not_known_is_refused_by_name(tmp_path, parts, message):
    with pytest.raises(ValueError, match=message):
        file(tmp_path, **parts)


def test_text_that_the_old_reader_lost_is_there(tmp_path):
    """DeepSeek's steps: a row of Splits, of which each leaves what it does not match as it is."""
    alphabet = N.ByteLevel()(Piece.of("Hello, world! 2024 café")).text
    splits = [SPLIT | {"pattern": {"Regex": one}} for one in (r"\p{N}{1,3}", "[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+")]
    bytes_only = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    tokenizer = file(tmp_path, pre_tokenizer={"type": "Sequence", "pretokenizers": [*splits, bytes_only]},
                     decoder=bytes_only, model={"type": "BPE", "vocab": ids(*sorted(set(alphabet))), "merges": []})
    text = "Hello, world! 2024 café"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    found, offsets = tokenizer.encode_with_offsets(text)
    assert np.array(offsets)[[0, -1]].tolist() == [[0, 1], [22, 23]] and len(found) == len(text.encode())
