"""Ids equal to tokenizers', tiktoken's, transformers' and sentencepiece's, live, on arbitrary Unicode.

Real vocabularies come from TINYTENSOR_GPT2_RANKS and TINYTENSOR_BERT_VOCAB (see published.py) and the text from
TINYTENSOR_SHAKESPEARE; without them these tests are skipped, and the rest run on vocabularies trained here.
"""

import io
import json
import os
import random
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tokenizers import ByteLevelBPE, ClassicBPE, Unigram, WordPiece, sentencepiece
from models.tokenizers.split import GPT2, GPT4
from tests.models.tokenizers.awkward_texts import AWKWARD, CORPUS

pytestmark = pytest.mark.parity
BERT_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

# runs of white space, long words, scripts, joiners, marks, controls: denser in hard places than uniform characters
HARD = st.lists(st.one_of(
    st.sampled_from(AWKWARD), st.text(max_size=20), st.text("  \t\n\r\u00a0\u3000\u2028", max_size=6),
    st.text("ab'sSTmd1.,!?-_", max_size=12), st.text("\u200d\ufe0f👩👧👍🏽❤🏳🌈", max_size=6),
    st.text("e\u0301\u0327\u0345\u05d0\u05b7\u0e31\u1100\u1161", max_size=8),
    st.text("\x00\x01\x7f\x85\x1c\ufffd\ue000", max_size=4),
    st.integers(1, 300).map(lambda n: "ab" * n)), max_size=6).map("".join)


def every_character():
    """All of Unicode but surrogates and the insides of blocks that are all alike (ideographs, private use, nothing)."""
    alike = [range(0x3410, 0x4DB0), range(0x4E10, 0x9F00), range(0xAC10, 0xD790), range(0xD800, 0xE010),
             range(0xE010, 0xF8F0), range(0x20010, 0x2A6D0), range(0x2CEC0, 0x2F7F0), range(0x2FB00, 0x31340),
             range(0x33490, 0x3CFF0), range(0x3FC50, 0xE0000), range(0xE0200, 0xF0000), range(0xF0010, 0x10FFF0)]
    return [chr(code) for code in range(sys.maxunicode + 1) if not any(code in block for block in alike)]


def path_from(variable):
    if not os.environ.get(variable):
        pytest.skip(f"{variable} is not set; tests/models/tokenizers/published.py fetches the vocabularies")
    return Path(os.environ[variable])


@pytest.fixture(scope="module")
def shakespeare():
    return path_from("TINYTENSOR_SHAKESPEARE").read_text()


@pytest.fixture(scope="module")
def hf():
    return pytest.importorskip("tokenizers")


@pytest.fixture(scope="module")
def reread(hf, tmp_path_factory):
    """Our tokenizer as the tokenizers library reads it from our tokenizer.json."""
    def read(tokenizer):
        path = tmp_path_factory.mktemp("saved") / "tokenizer.json"
        tokenizer.save(path)
        return hf.Tokenizer.from_file(str(path))
    return read


def same(ours, theirs, text, special=False):
    encoding = theirs.encode(text, add_special_tokens=False)
    assert ours.encode(text, special=special) == encoding.ids
    assert ours.encode_with_offsets(text, special=special) == (encoding.ids, encoding.offsets)


# ---- GPT-2

@pytest.fixture(scope="module")
def gpt2():
    return ByteLevelBPE.load(path_from("TINYTENSOR_GPT2_RANKS"))


@pytest.fixture(scope="module")
def gpt2_tiktoken(gpt2):
    tiktoken = pytest.importorskip("tiktoken")
    return tiktoken.Encoding("gpt2", pat_str=GPT2, mergeable_ranks=gpt2.vocab, special_tokens=gpt2.special_tokens)


def test_gpt2_ranks_give_the_published_merges(gpt2):
    assert gpt2.vocab_size == 50257 and len(gpt2.merges) == 50000
    assert gpt2.merges[:3] == [(b" ", b"t"), (b" ", b"a"), (b"h", b"e")]
    assert gpt2.encode("Hello world") == [15496, 995]


def test_gpt2_equals_tiktoken_and_tokenizers_on_tinyshakespeare(gpt2, gpt2_tiktoken, reread, shakespeare):
    ids = gpt2.encode(shakespeare)
    assert ids == gpt2_tiktoken.encode_ordinary(shakespeare) == reread(gpt2).encode(shakespeare).ids
    assert len(ids) == 338025 and gpt2.decode(ids) == shakespeare


def test_gpt2_equals_tiktoken_and_tokenizers_on_hard_texts(gpt2, gpt2_tiktoken, reread):
    merging = ByteLevelBPE(gpt2.vocab, gpt2.merges, gpt2.special)          # no short cut for words that are tokens
    theirs = reread(merging)

    @settings(max_examples=400, deadline=None)
    @given(HARD)
    def check(text):
        ids = gpt2.encode(text)
        assert ids == merging.encode(text) == gpt2_tiktoken.encode_ordinary(text)
        assert gpt2.encode(text, special=True) == gpt2_tiktoken.encode(text, allowed_special="all")
        assert gpt2.decode(ids) == text
        same(merging, theirs, text, special=True)
    check()


def test_gpt2_equals_tiktoken_on_words_of_any_length(gpt2, gpt2_tiktoken):
    rng = random.Random(0)
    for letters in ("a", "ab", "theinger", "abcdefghijklmnopqrstuvwxyz", "é中👍", "=", " "):
        for length in (255, 256, 257, 3000):
            word = "".join(rng.choice(letters) for _ in range(length))
            assert gpt2.encode(word) == gpt2_tiktoken.encode_ordinary(word)


def test_gpt2_equals_transformers(gpt2, tmp_path):
    transformers = pytest.importorskip("transformers")
    gpt2.save_vocab_and_merges(tmp_path)
    ours, theirs = ByteLevelBPE.from_pretrained(tmp_path), transformers.GPT2TokenizerFast.from_pretrained(tmp_path)
    assert ours.encode_batch(AWKWARD, special=True) == theirs(AWKWARD)["input_ids"]


def test_letters_and_numbers_are_those_of_the_published_versions(gpt2, gpt2_tiktoken):
    text = "".join(f"-{one}a1" for one in every_character())
    assert gpt2.encode(text) == gpt2_tiktoken.encode_ordinary(text)


def test_the_gpt4_pattern_cuts_like_tiktoken_and_tokenizers(reread):
    tiktoken = pytest.importorskip("tiktoken")
    ours = ByteLevelBPE.train(CORPUS, 500, special_tokens=[], pattern="gpt4")
    theirs, saved = tiktoken.Encoding("x", pat_str=GPT4, mergeable_ranks=ours.vocab, special_tokens={}), reread(ours)

    @settings(max_examples=200, deadline=None)
    @given(HARD)
    def check(text):
        assert ours.encode(text) == theirs.encode_ordinary(text)
        same(ours, saved, text)
    check()


# ---- training

def train_hf(hf, texts, trainer, model, pre_tokenizer, normalizer=None):
    tokenizer = hf.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def byte_level(hf, texts, size, **options):
    trainer = hf.trainers.BpeTrainer(vocab_size=size, show_progress=False, special_tokens=["<|endoftext|>"],
                                     initial_alphabet=hf.pre_tokenizers.ByteLevel.alphabet(), **options)
    return train_hf(hf, texts, trainer, hf.models.BPE(), hf.pre_tokenizers.ByteLevel(add_prefix_space=False))


def same_byte_level(hf, texts, size, **options):
    ours, theirs = ByteLevelBPE.train(texts, size, **options), byte_level(hf, texts, size, **options)
    assert {token: i for i, token in enumerate(ours.tokens)} == theirs.get_vocab()
    assert [[theirs.id_to_token(a), theirs.id_to_token(b)] for a, b in merges_by_id(ours)] == merges_of(theirs)


def merges_by_id(tokenizer):
    return [(tokenizer.vocab[left], tokenizer.vocab[right]) for left, right in tokenizer.merges]


def merges_of(theirs):
    return json.loads(theirs.to_str())["model"]["merges"]


def test_byte_level_training_equals_tokenizers_on_tinyshakespeare(hf, shakespeare):
    same_byte_level(hf, [shakespeare], 4096)


def test_byte_level_training_equals_tokenizers_on_small_corpora_full_of_ties(hf):
    @settings(max_examples=80, deadline=None)
    @given(st.lists(st.one_of(st.text("ab ", max_size=40), st.text(max_size=30)), max_size=4), st.integers(0, 3))
    def check(texts, min_frequency):
        same_byte_level(hf, texts, 290, min_frequency=min_frequency)
    check()


def marked_alphabet(theirs, special, mark):
    vocab = theirs.get_vocab()
    by_id = sorted(vocab, key=vocab.get)[len(special):]
    return [token for token in by_id if len(token.replace(mark, "")) == 1 or token == mark]


def same_wordpiece(hf, texts, size, lowercase=True):
    theirs = train_hf(hf, texts, hf.trainers.WordPieceTrainer(vocab_size=size, show_progress=False,
                                                              special_tokens=BERT_TOKENS),
                      hf.models.WordPiece(unk_token="[UNK]"), hf.pre_tokenizers.BertPreTokenizer(),
                      hf.normalizers.BertNormalizer(lowercase=lowercase))
    alphabet = marked_alphabet(theirs, BERT_TOKENS, "##")
    if len(alphabet) + len(BERT_TOKENS) <= size:
        assert WordPiece.train(texts, size, lowercase=lowercase, alphabet=alphabet).vocab == theirs.get_vocab()


def same_classic(hf, texts, size):
    theirs = train_hf(hf, texts, hf.trainers.BpeTrainer(vocab_size=size, show_progress=False, special_tokens=["<unk>"],
                                                        end_of_word_suffix="</w>"),
                      hf.models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"),
                      hf.pre_tokenizers.BertPreTokenizer(), hf.normalizers.BertNormalizer())
    alphabet = marked_alphabet(theirs, ["<unk>"], "</w>")
    if len(alphabet) + 1 <= size:
        ours = ClassicBPE.train(texts, size, alphabet=alphabet)
        assert ours.vocab == theirs.get_vocab() and [list(merge) for merge in ours.merges] == merges_of(theirs)
        for text in [*texts, *AWKWARD]:
            same(ours, theirs, text, special=True)


def test_wordpiece_and_classic_training_equal_tokenizers_on_tinyshakespeare(hf, shakespeare):
    same_wordpiece(hf, [shakespeare], 4096)
    same_classic(hf, [shakespeare], 4096)


def test_wordpiece_and_classic_training_equal_tokenizers_on_small_corpora_full_of_ties(hf):
    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.one_of(st.text("abC ", max_size=40), HARD), max_size=4))
    def check(texts):
        same_wordpiece(hf, texts, 120)
        same_wordpiece(hf, texts, 120, lowercase=False)
        same_classic(hf, texts, 120)
    check()


# ---- BERT

@pytest.fixture(scope="module", params=["uncased", "cased"])
def bert(request, reread):
    ours = WordPiece.load(path_from("TINYTENSOR_BERT_VOCAB"), lowercase=request.param == "uncased")
    return ours, reread(ours)


def test_bert_equals_tokenizers_on_tinyshakespeare(bert, shakespeare):
    same(*bert, shakespeare)


def test_bert_equals_tokenizers_on_hard_texts(bert):
    @settings(max_examples=400, deadline=None)
    @given(HARD)
    def check(text):
        same(*bert, text, special=True)
        ids = bert[0].encode(text)
        assert bert[0].decode(ids) == bert[1].decode(ids, skip_special_tokens=False)
    check()


def test_bert_equals_tokenizers_on_every_character(bert):
    ours, theirs = bert
    every = every_character()
    for start in range(0, len(every), 1 << 12):
        text = " ".join(f"a{one}b" for one in every[start:start + (1 << 12)])
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


def test_bert_pairs_equal_transformers(bert, tmp_path):
    transformers = pytest.importorskip("transformers")
    bert[0].save(tmp_path)
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json"), pad_token="[PAD]",
                                                  model_input_names=["input_ids", "token_type_ids", "attention_mask"])
    texts = [*AWKWARD, CORPUS]
    for pairs in (None, texts[::-1]):
        for length in (5, 8, 13, 64):
            want = theirs(texts, pairs, truncation="longest_first", max_length=length, padding=True)
            got = bert[0].prepare(texts, pairs, max_length=length, special=True)
            assert got.ids.tolist() == want["input_ids"]
            assert got.types.tolist() == want["token_type_ids"]
            assert got.mask.astype(int).tolist() == want["attention_mask"]


def test_vocab_txt_equals_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    ours = WordPiece.load(path_from("TINYTENSOR_BERT_VOCAB"))
    ours.save(tmp_path / "vocab.txt")
    theirs = transformers.BertTokenizerFast.from_pretrained(tmp_path)
    batch = ours.prepare(AWKWARD, special=True)
    assert [ids[mask].tolist() for ids, mask in zip(batch.ids, batch.mask)] == theirs(AWKWARD)["input_ids"]


# ---- GPT-1

def test_classic_bpe_equals_tokenizers_on_hard_texts(reread):
    ours = ClassicBPE.train(CORPUS, 300)
    theirs = reread(ours)

    @settings(max_examples=200, deadline=None)
    @given(HARD)
    def check(text):
        same(ours, theirs, text, special=True)
        assert ours.decode(ours.encode(text)) == theirs.decode(ours.encode(text), skip_special_tokens=False)
    check()


# ---- Unigram

def test_unigram_equals_tokenizers_on_text_with_single_spaces(reread):
    ours = Unigram.train(CORPUS, 220, extra_ids=2)
    theirs = reread(ours)

    @settings(max_examples=200, deadline=None)
    @given(HARD)
    def check(text):
        assert ours.encode(text, special=True) == theirs.encode(text, add_special_tokens=False).ids
    check()


@pytest.fixture(scope="module")
def spiece_model(tmp_path_factory):
    """A model with T5's special tokens and SentencePiece's own table of replacements."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS.splitlines()), model_writer=model, vocab_size=130, model_type="unigram",
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2, character_coverage=0.98)
    path = tmp_path_factory.mktemp("t5") / "spiece.model"
    path.write_bytes(model.getvalue())
    return path, sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def test_unigram_equals_sentencepiece(spiece_model):
    path, theirs = spiece_model
    ours = Unigram.load(path)
    assert ours.special_tokens["<extra_id_0>"] == ours.vocab_size - 1 == 229

    @settings(max_examples=300, deadline=None)
    @given(HARD)
    def check(text):
        ids = theirs.encode(text)
        assert ours.encode(text) == ids and ours.encode_with_offsets(text)[0] == ids
        assert ours.decode(ids) == theirs.decode(ids)
    check()


def test_a_t5_model_gives_the_same_from_all_its_files(hf, spiece_model, tmp_path):
    ours = Unigram.load(spiece_model[0])
    theirs = hf.Tokenizer(hf.models.Unigram(ours.pieces, ours.unk_id, False))
    theirs.normalizer = hf.normalizers.Sequence([               # as transformers converts spiece.model for T5
        hf.normalizers.Precompiled(sentencepiece.read(spiece_model[0]).charsmap),
        hf.normalizers.Strip(left=False, right=True), hf.normalizers.Replace(hf.Regex(" {2,}"), "\u2581")])
    theirs.pre_tokenizer = hf.pre_tokenizers.Metaspace(prepend_scheme="always")
    theirs.add_special_tokens(list(ours.special))
    theirs.post_processor = hf.processors.TemplateProcessing(
        single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"], special_tokens=[("</s>", 1)])
    theirs.save(str(tmp_path / "tokenizer.json"))
    again = Unigram.from_pretrained(tmp_path)
    assert again.tokens == ours.tokens and again.special_tokens == ours.special_tokens
    for text in [*CORPUS.splitlines(), *CORPUS.split(), "a <extra_id_0> b <extra_id_99>", "</s>"]:
        ids = theirs.encode(text).ids
        assert again.dress(again.encode(text, special=True))[0] == ids == ours.dress(ours.encode(text, special=True))[0]
