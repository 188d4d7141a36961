"""What all tokenizers share: special tokens, offsets, batches, frames, and the ids decode refuses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import tokenizers
from models.tokenizers import ByteLevelBPE, Bytes, Characters, ClassicBPE, Special, Unigram, WordPiece, Words
from tests.models.tokenizers.awkward_texts import AWKWARD, CORPUS

ALL = {
    "bytelevel": ByteLevelBPE.train(CORPUS, 400, special_tokens=["<|endoftext|>", "<|end|>"]),
    "classic": ClassicBPE.train(CORPUS, 300, special_tokens=["<unk>", "<|end|>"]),
    "wordpiece": WordPiece.train(CORPUS, 300),
    "unigram": Unigram.train(CORPUS, 200, extra_ids=3),
    "bytes": Bytes(),
    "characters": Characters.train([CORPUS, *AWKWARD], special_tokens=["<|end|>"]),
}
UNKNOWN = {"[UNK]", "<unk>"}                            # the one special token that plain text may give
each = pytest.mark.parametrize("name", ALL)


@each
def test_the_name_of_a_special_token_in_plain_text_is_text(name):
    tokenizer = ALL[name]
    text = "".join(set("".join(tokenizer.special_tokens)) & set(CORPUS)) if name == "characters" else \
        " ".join(tokenizer.special_tokens)
    forbidden = {i for token, i in tokenizer.special_tokens.items() if token not in UNKNOWN}
    assert not forbidden & set(tokenizer.encode(text))


@each
def test_the_name_of_a_special_token_is_one_id_when_asked_for(name):
    tokenizer = ALL[name]
    for token, i in tokenizer.special_tokens.items():
        ids, offsets = tokenizer.encode_with_offsets(f"the{token}sea", special=True)
        assert ids == [*tokenizer.encode("the"), i, *tokenizer.encode("sea")]
        assert offsets[ids.index(i)] == (3, 3 + len(token))
        assert tokenizer.encode(f"the{token}sea", special=True) == ids


def test_longer_names_win_and_a_token_may_swallow_the_space_beside_it():
    tokenizer = ByteLevelBPE(ALL["bytelevel"].vocab, ALL["bytelevel"].merges, {
        "<a>": Special(500), "<a><a>": Special(501), "<mask>": Special(502, lstrip=True, rstrip=True)})
    assert tokenizer.encode("<a><a><a>", special=True) == [501, 500]
    assert tokenizer.encode("x \n<mask>  y", special=True) == [*tokenizer.encode("x"), 502, *tokenizer.encode("y")]
    assert tokenizer.encode_with_offsets("x \n<mask>  y", special=True)[1][1] == (1, 11)


@each
@given(text=st.text(max_size=40))
def test_offsets_are_spans_of_the_text_in_its_order_and_belong_to_the_same_ids(name, text):
    tokenizer = ALL[name]
    if name == "characters":
        text = "".join(one for one in text if one in tokenizer.characters)
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert ids == tokenizer.encode(text) == tokenizer.encode_array(text).tolist()
    starts = [start for start, _ in offsets]
    assert len(ids) == len(offsets) and starts == sorted(starts)
    assert all(0 <= start <= end <= len(text) for start, end in offsets)


@each
def test_two_processes_give_the_same_batch_as_one(name):
    texts = [CORPUS, *AWKWARD, CORPUS[::-1]]
    assert ALL[name].encode_batch(texts, workers=2) == ALL[name].encode_batch(texts, workers=1)


def test_a_large_batch_of_generated_texts_is_shared_out_by_itself(monkeypatch):
    monkeypatch.setattr("models.tokenizers.methods.PARALLEL_FROM", 1000)
    tokenizer = ALL["bytelevel"]
    assert tokenizer.encode_batch(text for text in [CORPUS] * 5) == [tokenizer.encode(CORPUS)] * 5
    assert tokenizer.encode_batch([]) == []


@each
@pytest.mark.parametrize("bad", [-1, 10**6])
def test_an_id_out_of_range_is_named_with_its_place(name, bad):
    with pytest.raises(ValueError, match=rf"id {bad} at position 1 is outside the vocabulary of"):
        ALL[name].decode(np.array([5, bad]))


@each
def test_saving_and_loading_gives_the_same_tokenizer(name, tmp_path):
    tokenizer = ALL[name]
    tokenizer.save(tmp_path / "run")
    for other in (tokenizers.load(tmp_path / "run"), type(tokenizer).load(tmp_path / "run" / "tokenizer.json"),
                  type(tokenizer).from_pretrained(tmp_path / "run")):
        assert type(other) is type(tokenizer) and other.tokens == tokenizer.tokens
        assert other.special == tokenizer.special and other.frame == tokenizer.frame
        assert other.encode_batch(AWKWARD, special=True) == tokenizer.encode_batch(AWKWARD, special=True)


@each
def test_tokens_are_found_by_name(name):
    tokenizer = ALL[name]
    token = tokenizer.tokens[tokenizer.encode("sea")[0]]
    assert tokenizer.id_of(token) == tokenizer.encode("sea")[0]
    with pytest.raises(ValueError, match=r"has no 'no such token'"):
        tokenizer.id_of("no such token")


# ---- frames, truncation, padding

def test_a_pair_is_framed_typed_padded_and_masked():
    tokenizer = ALL["wordpiece"]
    pad, cls, sep = (tokenizer.special_tokens[token] for token in ("[PAD]", "[CLS]", "[SEP]"))
    sea, song = tokenizer.encode("the"), tokenizer.encode("gulls")
    batch = tokenizer.prepare(["the", "the"], ["gulls", ""])
    row = [cls, *sea, sep, *song, sep]
    assert batch.ids.tolist() == [row, [cls, *sea, sep, sep] + [pad] * len(song)]
    assert batch.types[0].tolist() == [0] * (len(sea) + 2) + [1] * (len(song) + 1)
    assert batch.types[1].tolist() == [0] * (len(sea) + 2) + [1] + [0] * len(song)
    assert batch.mask.sum(1).tolist() == [len(row), len(sea) + 3]
    wider = tokenizer.prepare(["the", "the"], ["gulls", ""], pad_to=12)
    assert wider.ids[0].tolist() == row + [pad] * (12 - len(row)) and wider.types.shape == wider.mask.shape == (2, 12)


def test_the_longer_text_is_cut_first_then_both():
    tokenizer = ALL["bytes"]                            # the frame adds two tokens to a pair
    a, b = [1] * 10, [2] * 4
    assert [len(part) for part in tokenizer.truncate(a, b, 14)] == [8, 4]
    assert [len(part) for part in tokenizer.truncate(a, b, 9)] == [4, 3]
    assert [len(part) for part in tokenizer.truncate(b, a, 9)] == [3, 4]
    assert tokenizer.truncate(a, None, 4) == ([1] * 3, None)


def test_bad_shapes_for_a_batch_are_refused_with_the_fix():
    tokenizer = ALL["wordpiece"]
    with pytest.raises(ValueError, match=r"max_length 1 is too short for the special tokens alone; use at least 2"):
        tokenizer.prepare(["the"], max_length=1)
    with pytest.raises(ValueError, match=r"more than pad_to=3; set max_length=3"):
        tokenizer.prepare([CORPUS], pad_to=3)
    with pytest.raises(ValueError, match=r"2 texts but 1 partners"):
        tokenizer.prepare(["a", "b"], ["c"])
    with pytest.raises(ValueError, match=r"has no pad_token"):
        ALL["bytelevel"].prepare(["a", "the sea"])
    with pytest.raises(ValueError, match=r"uses '<nil>', which is not a special token"):
        Characters("ab", pad_token="<nil>")


def test_a_tokenizer_knows_what_its_ids_mean():
    ids = lambda t: (t.pad_id, t.separator_id, t.end_id, t.mask_id, t.unk_id)
    bert = WordPiece.train(CORPUS, 200)
    assert ids(bert) == (0, 3, 3, 4, 1)
    assert ids(Bytes()) == (0, 1, 1, None, None) and Bytes().sentinel_ids == list(range(259, 384))
    gpt = ByteLevelBPE.train(CORPUS, 300)
    assert ids(gpt) == (None, None, 0, None, None)
    gpt.pad_token = "<|endoftext|>"
    assert gpt.pad_id == 0
    assert ids(Words.train([CORPUS], 20)) == (None, None, None, None, 2)
    t5 = Unigram.train(CORPUS, 120, extra_ids=3)
    assert ids(t5) == (0, 1, 1, None, 2) and t5.sentinel_ids == [119, 118, 117]
    assert ids(Characters.train(CORPUS)) == (None,) * 5 and not Characters.train(CORPUS).sentinel_ids


def test_tokens_say_whether_they_go_on_with_a_word():
    for tokenizer in (WordPiece.train(CORPUS, 200), Unigram.train(CORPUS, 120)):
        ids = tokenizer.encode("the whale the whale")
        begins = [tokenizer.tokens[i][:2] != "##" for i in ids]
        if isinstance(tokenizer, Unigram):
            begins = [tokenizer.tokens[i].startswith("\u2581") for i in ids]
        assert tokenizer.continues_word()[ids].tolist() == [not one for one in begins] and sum(begins) == 4 < len(ids)
    with pytest.raises(ValueError, match="Characters: these tokens do not say where words begin"):
        Characters.train(CORPUS).continues_word()
