"""The files beside a vocabulary: which tokens are added, which of them are special, and how the text is cleaned."""

import json

import pytest

from models import tokenizers
from models.tokenizers import ByteLevelBPE, WordPiece
from tests.models.tokenizers.awkward_texts import AWKWARD, CORPUS

BERT = WordPiece.train(CORPUS, 300, lowercase=False)


def bert_folder(folder, **files):
    BERT.save(folder / "vocab.txt")
    for name, table in files.items():
        (folder / f"{name}.json").write_text(json.dumps(table))
    return tokenizers.load(folder)


def test_added_words_are_found_in_every_text_and_special_ones_only_when_asked_for(tmp_path):
    n = BERT.vocab_size
    tokenizer = bert_folder(tmp_path, added_tokens={"newtok": n, "[USER]": n + 1},
                            special_tokens_map={"additional_special_tokens": ["[USER]"]},
                            tokenizer_config={"do_lower_case": False})
    assert tokenizer.encode("the newtok") == [*BERT.encode("the"), n]
    assert n + 1 not in tokenizer.encode("[USER]") and tokenizer.encode("[USER]", special=True) == [n + 1]
    assert tokenizer.special_tokens["[USER]"] == n + 1 and "newtok" not in tokenizer.special_tokens
    tokenizer.save(tmp_path / "again")
    again = tokenizers.load(tmp_path / "again")
    assert again.words == tokenizer.words and again.special == tokenizer.special


def test_a_word_may_name_its_options_in_added_tokens_decoder(tmp_path):
    entry = {"content": "cat", "single_word": True, "lstrip": True, "rstrip": False, "normalized": False,
             "special": False}
    tokenizer = bert_folder(tmp_path, tokenizer_config={"added_tokens_decoder": {"500": entry}, "do_lower_case": False})
    assert 500 not in tokenizer.encode("concatenate") and tokenizer.encode("a cat") == [*BERT.encode("a"), 500]
    assert tokenizer.encode_with_offsets("a  cat")[1][-1] == (1, 6)


@pytest.mark.parametrize(("options", "same"), [
    ({"do_lower_case": True}, ("CAFÉ", "cafe")), ({"do_lower_case": True, "strip_accents": False}, ("ENÉ", "ené")),
    ({"do_lower_case": False, "strip_accents": True}, ("enén", "enen"))])
def test_the_clean_up_is_the_configs(tmp_path, options, same):
    tokenizer = bert_folder(tmp_path, tokenizer_config=options)
    assert tokenizer.encode(same[0]) == tokenizer.encode(same[1])
    assert tokenizer.text.lowercase == options["do_lower_case"]


def test_chinese_characters_may_stay_together(tmp_path):
    (tmp_path / "vocab.txt").write_text("[UNK]\n中\n##文\n文\n[PAD]\n", encoding="utf-8")
    assert tokenizers.load(tmp_path).encode("中文") == [1, 3]
    (tmp_path / "tokenizer_config.json").write_text('{"tokenize_chinese_chars": false}')
    assert tokenizers.load(tmp_path).encode("中文") == [1, 2]


def test_rows_are_padded_on_the_side_that_the_config_names_and_long_ones_are_told(tmp_path):
    tokenizer = bert_folder(tmp_path, tokenizer_config={"padding_side": "left", "model_max_length": 6})
    batch = tokenizer.prepare(["the", "the sea"], max_length=6)
    assert batch.mask.tolist()[0][0] is False and batch.ids[0, 0] == tokenizer.pad_id
    with pytest.warns(UserWarning, match=r"a row has \d+ tokens, but the tokenizer's model was made for 6"):
        tokenizer.prepare([CORPUS])


def test_the_text_may_be_cut_on_the_left(tmp_path):
    tokenizer = bert_folder(tmp_path, tokenizer_config={"truncation_side": "left"})
    assert tokenizer.truncate([1, 2, 3, 4], None, 4)[0] == [3, 4]
    tokenizer.save(tmp_path / "again")
    assert json.loads((tmp_path / "again" / "tokenizer.json").read_text())["truncation"] is None


def test_gpt2s_folder_may_put_a_space_in_front_and_name_its_tokens(tmp_path):
    plain = ByteLevelBPE.train(CORPUS, 300)
    plain.save_vocab_and_merges(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({
        "add_prefix_space": True, "pad_token": {"content": "<pad>", "lstrip": False}, "add_bos_token": False}))
    (tmp_path / "added_tokens.json").write_text('{"<pad>": 300, "gulls": 301}')
    tokenizer = tokenizers.load(tmp_path)
    assert tokenizer.encode("the") == plain.encode(" the") and tokenizer.pad_id == 300
    assert tokenizer.encode("x gulls")[-1] == 301 and "<pad>" in tokenizer.special


def test_tokens_beside_a_sentencepiece_model_are_read(tmp_path, request):
    (tmp_path / "spiece.model").write_bytes((request.path.parent / "tiny.model").read_bytes())
    plain = tokenizers.load(tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"newtok": 140, "<mask>": 141}))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"mask_token": {"content": "<mask>", "lstrip": True}}))
    tokenizer = tokenizers.load(tmp_path)
    assert tokenizer.encode("the newtok") == [*plain.encode("the"), 140]
    assert tokenizer.encode("the <mask>", special=True) == [*plain.encode("the"), 141] and tokenizer.mask_id == 141


@pytest.mark.parametrize(("files", "message"), [
    ({"added_tokens": {"x": -1}}, r"added_tokens.json\['x'\] must be at least 0, not -1"),
    ({"tokenizer_config": {"do_lower_case": "no"}}, r"do_lower_case must be true or false, not 'no'"),
    ({"special_tokens_map": {"pad_token": 3}}, r"a token's name must be text, not 3"),
    ({"tokenizer_config": {"added_tokens_decoder": {"x": {"content": "a"}}}}, r"id must be a whole number, not 'x'")])
def test_a_bad_entry_is_named(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        bert_folder(tmp_path, **files)


@pytest.mark.parity
@pytest.mark.parametrize("config", [{}, {"do_lower_case": False}, {"strip_accents": False}, {"padding_side": "left"},
                                    {"tokenize_chinese_chars": False, "do_lower_case": False, "strip_accents": True}])
def test_a_bert_folder_equals_transformers(tmp_path, config):
    transformers = pytest.importorskip("transformers")
    ours = bert_folder(tmp_path, tokenizer_config=config)
    theirs = transformers.BertTokenizerFast.from_pretrained(tmp_path)
    want = theirs(AWKWARD, padding=True)
    got = ours.prepare(AWKWARD, special=True)
    assert got.ids.tolist() == want["input_ids"] and got.types.tolist() == want["token_type_ids"]
    assert got.mask.astype(int).tolist() == want["attention_mask"]


@pytest.mark.parity
def test_words_added_to_a_bert_equal_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    BERT.save(tmp_path / "vocab.txt")
    theirs = transformers.BertTokenizerFast.from_pretrained(tmp_path)
    theirs.add_tokens(["newtok", "CoViD", transformers.AddedToken("cat", single_word=True)])
    theirs.add_special_tokens({"additional_special_tokens": ["[USER]"]})
    theirs.save_pretrained(tmp_path / "saved")
    ours = tokenizers.load(tmp_path / "saved")
    texts = [*AWKWARD, "a newtok covid CoViD COVID concatenate cat. [USER] cat", "[user]newtoknewtok"]
    for text in texts:
        assert ours.dress(ours.encode(text, special=True))[0] == theirs(text)["input_ids"]
