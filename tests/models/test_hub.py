import os

import pytest

import tinytensor as tt
from models import GPT, GPTConfig
from models.hub import newest_snapshot
from models.tokenizers import ByteLevelBPE
from models.tokenizers import load as load_tokenizer
from train import checkpoint


def cached(folder, main: str | None):
    """A hub's cache with two snapshots, aaa older than bbb; refs/main names one, a third, or is not there."""
    for folders in ("blobs", "refs", "snapshots/aaa", "snapshots/bbb"):
        (folder / folders).mkdir(parents=True)
    os.utime(folder / "snapshots/aaa", (1, 1))
    if main:
        (folder / "refs/main").write_text(main)
    return folder


@pytest.mark.parametrize("main, opened", [("aaa", "aaa"), ("bbb", "bbb"), ("ccc", "bbb"), (None, "bbb")])
def test_a_cache_is_opened_at_the_snapshot_that_main_names_or_the_newest(main, opened, tmp_path):
    assert newest_snapshot(cached(tmp_path, main)) == tmp_path / "snapshots" / opened


def test_other_folders_are_themselves_and_an_empty_cache_is_named(tmp_path):
    assert newest_snapshot(tmp_path) == tmp_path
    (tmp_path / "snapshots").mkdir()
    with pytest.raises(ValueError, match=r"is a hub's cache without a snapshot; download the model again"):
        newest_snapshot(tmp_path)


def test_model_and_tokenizer_are_read_from_a_cache(tmp_path):
    tokenizer = ByteLevelBPE.train("the cat and the hat, the end", 270)
    with tt.random.seeded(0):
        model = GPT(GPTConfig(vocab_size=270, context=8, layers=1, heads=1, width=4))
    model.save_pretrained(cached(tmp_path, None) / "snapshots/bbb", tokenizer)
    read, read_with = checkpoint.load_model(tmp_path)
    for one in (read, GPT.from_pretrained(tmp_path)):
        assert (one.token_embedding.weight.data == model.token_embedding.weight.data).all()
    for one in (read_with, load_tokenizer(tmp_path)):
        assert one.encode("the hat") == tokenizer.encode("the hat")
