"""Vocabulary files that are wrong: each gets one sentence that names what is wrong and where."""

import base64
import json

import pytest

from models import tokenizers
from models.tokenizers import ByteLevelBPE, Characters, ClassicBPE, Unigram, WordPiece
from tests.models.tokenizers.awkward_texts import CORPUS

TRAINED = ByteLevelBPE.train(CORPUS, 300)


def test_gpt2s_two_files_are_written_and_read(tmp_path):
    TRAINED.save_vocab_and_merges(tmp_path)
    for other in (ByteLevelBPE.load(tmp_path), tokenizers.load(tmp_path)):
        assert (other.vocab, other.merges, other.special_tokens) == (
            TRAINED.vocab, TRAINED.merges, {"<|endoftext|>": 0})


def test_rank_files_are_written_and_read(tmp_path):
    ranked = ByteLevelBPE.train(CORPUS, 300, special_tokens=[])
    ranked.save(tmp_path / "x.tiktoken")
    other = ByteLevelBPE.load(tmp_path / "x.tiktoken")
    assert (other.vocab, other.merges, other.special_tokens) == (ranked.vocab, ranked.merges, {"<|endoftext|>": 300})


def test_a_rank_file_has_no_place_for_special_tokens_in_front(tmp_path):
    with pytest.raises(ValueError, match=r"here they run from 1 to 299; train with special_tokens=\[\]"):
        TRAINED.save(tmp_path / "x.tiktoken")


def test_robertas_files_bring_its_frame_and_its_mask(tmp_path):
    names = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
    plain = ByteLevelBPE.train(CORPUS, 300, special_tokens=[])
    vocab = names | {token: i + 4 for i, token in enumerate(plain.tokens)} | {"<mask>": 304}
    TRAINED.save_vocab_and_merges(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    tokenizer = ByteLevelBPE.from_pretrained(tmp_path)
    batch = tokenizer.prepare(["a <mask>", "b"], ["c", "d"], special=True)
    a, c = tokenizer.encode("a"), tokenizer.encode("c")
    assert batch.ids[0].tolist() == [0, *a, 304, 2, 2, *c, 2] and batch.ids[1, -1] == 1


def test_vocab_txt_says_by_its_config_whether_it_is_cased(tmp_path):
    tokenizer = WordPiece.train(CORPUS, 300, lowercase=False)
    tokenizer.save(tmp_path / "vocab.txt")
    assert WordPiece.load(tmp_path).encode("When") != tokenizer.encode("When")
    (tmp_path / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    for other in (WordPiece.from_pretrained(tmp_path), tokenizers.load(tmp_path)):
        assert other.encode(CORPUS) == tokenizer.encode(CORPUS)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def changed(tmp_path, change, tokenizer=TRAINED):
    tokenizer.save(tmp_path)
    spec = json.loads((tmp_path / "tokenizer.json").read_text())
    change(spec)
    return write(tmp_path / "tokenizer.json", json.dumps(spec))


def test_truncated_json(tmp_path):
    TRAINED.save(tmp_path)
    text = (tmp_path / "tokenizer.json").read_text()
    for end in (0, 1, len(text) // 2, len(text) - 2):
        write(tmp_path / "tokenizer.json", text[:end])
        with pytest.raises(ValueError, match=r"tokenizer.json is not complete JSON: .* at line \d+ column \d+"):
            tokenizers.load(tmp_path)


@pytest.mark.parametrize("text", ["[]", "3", "{}", '{"model": 7}', '{"model": {"type": "Magic"}}', '{"type": "Odd"}'])
def test_json_that_is_no_tokenizer(tmp_path, text):
    message = r"tokenizer.json(: the model 'Magic' is not known| has no model| does not hold a tokenizer)"
    with pytest.raises(ValueError, match=message):
        tokenizers.load(write(tmp_path / "tokenizer.json", text))


def test_a_file_that_is_missing_or_not_text(tmp_path):
    with pytest.raises(ValueError, match=r"nothing.json cannot be read: No such file"):
        tokenizers.load(tmp_path / "nothing.json")
    with pytest.raises(ValueError, match=r"has no tokenizer.json, spiece.model, tokenizer.model, vocab.txt or"):
        tokenizers.load(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(ValueError, match=r"is not UTF-8 text \(byte 0\)"):
        tokenizers.load(tmp_path)


def test_a_merge_that_names_a_token_outside_the_vocabulary(tmp_path):
    path = changed(tmp_path, lambda spec: spec["model"]["merges"].insert(2, ["Q", "Z"]))
    with pytest.raises(ValueError, match=r"merge 3, 'Q' \+ 'Z', names 'QZ', which is not in the vocabulary"):
        ByteLevelBPE.load(path)


@pytest.mark.parametrize("line", ["a", "a b c", "a  b"])
def test_a_merges_file_with_a_bad_line(tmp_path, line):
    TRAINED.save_vocab_and_merges(tmp_path)
    lines = (tmp_path / "merges.txt").read_text().split("\n")
    write(tmp_path / "merges.txt", "\n".join([*lines[:4], line, *lines[4:]]))
    with pytest.raises(ValueError, match=r"merges.txt, line 5: .* is not two tokens with a space between"):
        ByteLevelBPE.load(tmp_path)


def test_a_vocabulary_that_lacks_bytes(tmp_path):
    path = changed(tmp_path, lambda spec: spec["model"]["vocab"].pop("ÿ"))
    with pytest.raises(ValueError, match=r"lacks 1 of the 256 bytes, first 'ÿ' \(byte 255\)"):
        ByteLevelBPE.load(path)


def test_a_token_that_no_bytes_spell(tmp_path):
    path = changed(tmp_path, lambda spec: spec["model"]["vocab"].update({"中": 999}))
    with pytest.raises(ValueError, match=r"token '中' holds '中', which stands for no byte"):
        ByteLevelBPE.load(path)


def test_an_id_that_the_vocabulary_skips(tmp_path):
    path = changed(tmp_path, lambda spec: spec["model"]["vocab"].update({"Zq": 400}))
    with pytest.raises(ValueError, match=r"id 350 belongs to no token: the vocabulary file skips it"):
        ByteLevelBPE.load(path).decode([70, 350])


RANKS = [bytes([byte]) for byte in range(256)] + [b"ab", b"abc"]


def rank_file(path, ranks):
    return write(path, "".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks))


def test_a_rank_file_with_holes(tmp_path):
    holes = [(token, rank + (rank > 256)) for rank, token in enumerate(RANKS)]
    with pytest.raises(ValueError, match=r"has 258 tokens but none of rank 257: the rank file has holes"):
        ByteLevelBPE.load(rank_file(tmp_path / "x.tiktoken", holes))


def test_a_rank_file_whose_tokens_cannot_be_made(tmp_path):
    ranks = [(token, rank) for rank, token in enumerate([*RANKS[:256], b"wxyz"])]
    with pytest.raises(ValueError, match=r"rank 256, 'wxyz', cannot be made by merging two tokens of lower rank"):
        ByteLevelBPE.load(rank_file(tmp_path / "x.tiktoken", ranks))


def test_a_rank_file_with_a_bad_line(tmp_path):
    path = rank_file(tmp_path / "x.tiktoken", [(b"a", 0)])
    write(path, path.read_text() + "no base64 here\n")
    with pytest.raises(ValueError, match=r"line 2: 'no base64 here' is not base64 bytes and a rank"):
        ByteLevelBPE.load(path)


def test_the_wrong_scheme_is_named_with_the_right_door(tmp_path):
    TRAINED.save(tmp_path)
    for scheme in (WordPiece, Unigram):
        with pytest.raises(ValueError, match=r"holds a BPE model, not \w+; open it with models.tokenizers.load"):
            scheme.load(tmp_path)
    with pytest.raises(ValueError, match=r"a BPE without '</w>' marks, or .* GPT-1's; open it with"):
        ClassicBPE.load(tmp_path)
    with pytest.raises(ValueError, match=r"does not hold a Characters tokenizer; open it with"):
        Characters.load(tmp_path)


def test_normalizers_and_split_patterns_that_are_not_known(tmp_path):
    path = changed(tmp_path, lambda spec: spec.update(normalizer={"type": "NFC"}))
    with pytest.raises(ValueError, match=r"not a plain byte-level one"):
        ByteLevelBPE.load(path)
    path = changed(tmp_path, lambda spec: spec.update(normalizer={"type": "NFC"}), WordPiece.train(CORPUS, 300))
    with pytest.raises(ValueError, match=r"a WordPiece, but cleaned and cut otherwise than BERT's; open it with"):
        WordPiece.load(path)
    path = changed(tmp_path, lambda spec: spec.update(normalizer={"type": "Odd"}), Unigram.train(CORPUS, 200))
    with pytest.raises(ValueError, match=r"the normalizer 'Odd' is not known; known are BertNormalizer, Strip"):
        Unigram.load(path)
    with pytest.raises(ValueError, match=r"the pattern '\(' does not compile"):
        ByteLevelBPE.train(CORPUS, 300, pattern="(")


@pytest.mark.parametrize("keep", [0, 1, 2, 7, 1000])
def test_a_damaged_sentencepiece_model(tmp_path, keep, request):
    data = (request.path.parent / "tiny.model").read_bytes()
    (tmp_path / "spiece.model").write_bytes(data[:keep] + b"\xff" * (keep == 2))
    with pytest.raises(ValueError, match=r"spiece.model(: 0 of its pieces stand for what is unknown| is damaged)"):
        Unigram.load(tmp_path)


def test_a_unigram_file_with_a_bad_vocabulary_or_unknown_id(tmp_path):
    tokenizer = Unigram.train(CORPUS, 200)
    with pytest.raises(ValueError, match=r"unk_id 500 is none of the 200 pieces"):
        Unigram.load(changed(tmp_path, lambda spec: spec["model"].update(unk_id=500), tokenizer))
    with pytest.raises(ValueError, match=r"model Unigram: pieces must be a list, not \{'a': 1\}"):
        Unigram.load(changed(tmp_path, lambda spec: spec["model"].update(vocab={"a": 1}), tokenizer))
    with pytest.raises(ValueError, match=r"falls back to bytes"):
        Unigram.load(changed(tmp_path, lambda spec: spec["model"].update(byte_fallback=True), tokenizer))
