"""Random tokenizer.json files, read by us and by `tokenizers`: the same ids, offsets, types, text and file."""

import json
import random

import pytest

from models import tokenizers

pytestmark = pytest.mark.parity
PIPELINES, PARTS = 2400, 12


def compare(ours, theirs, texts):
    theirs.no_truncation()
    theirs.no_padding()
    for text in texts:
        want = theirs.encode(text, add_special_tokens=False)
        assert ours.encode(text, special=True) == want.ids, text
        assert ours.encode_with_offsets(text, special=True) == (want.ids, want.offsets), text
        assert ours.decode(want.ids) == theirs.decode(want.ids, skip_special_tokens=False), want.tokens
    known = ours.model.vocab.keys() & ours.special.keys()  # which ours never says unasked
    whole = json.loads(theirs.to_str())["model"].get("ignore_merges")  # a word that is an entry, such as <unk>
    if not known - {"<unk>"} and not (known and whole):
        theirs.encode_special_tokens = True
        for text in texts:
            assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids, text


@pytest.mark.parametrize("part", range(PARTS))
def test_random_pipelines_equal_tokenizers(part, tmp_path):
    hf = pytest.importorskip("tokenizers")
    from tests.models.tokenizers.random_pipelines import pipeline
    refused = 0
    for number in range(part, PIPELINES, PARTS):
        theirs, texts = pipeline(random.Random(number))
        file = theirs.to_str()
        (tmp_path / "tokenizer.json").write_text(file, encoding="utf-8")
        try:
            ours = tokenizers.load(tmp_path)
        except ValueError as error:
            assert "that is not supported" in str(error)
            refused += 1
            continue
        compare(ours, theirs, texts)
        theirs = hf.Tokenizer.from_str(file)
        for pairs in (None, texts[::-1]):
            want = theirs.encode_batch(texts if pairs is None else list(zip(texts, pairs)))
            got = ours.prepare(texts, pairs, special=True)
            assert got.ids.tolist() == [row.ids for row in want], number
            assert got.types.tolist() == [row.type_ids for row in want], number
            assert got.mask.astype(int).tolist() == [row.attention_mask for row in want], number
        ours.save(tmp_path / "again.json")
        assert json.loads((tmp_path / "again.json").read_text(encoding="utf-8")) == json.loads(file), number
    assert refused < 3
