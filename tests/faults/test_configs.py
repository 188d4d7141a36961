"""Published folders with one thing changed in config.json, or in the index of their shards."""

import json
from functools import partial
from pathlib import Path

import pytest

from models.families import PUBLISHED
from models.pretrained import read_weights, write_folder
from models.tokenizers import ByteLevelBPE, WordPiece
from tests.faults.harness import changed, outcome, trials
from train.checkpoint import load_model

pytestmark = pytest.mark.slow
TEXT = "the cat sat on the mat. "
SHAPES = {"albert": dict(embedding_width=4), "gpt2": dict(hidden=32), "t5": dict(head_width=4)}


def make_folders(folder: Path) -> list[Path]:
    """A small model of every published kind, each with a tokenizer; and one of them in shards."""
    encoders = {"bert", "roberta", "distilbert", "albert"}
    for kind in (*encoders, "gpt2", "t5"):
        family, context = PUBLISHED[kind], {} if kind == "t5" else {"context": 16}
        shape = dict(vocab_size=300, layers=2, heads=2, width=8, hidden=16) | context | SHAPES.get(kind, {})
        scheme = WordPiece if kind in encoders else ByteLevelBPE
        family.model(family.config(**shape)).save_pretrained(folder / kind)
        scheme.train([TEXT], 300).save(folder / kind)
    fields = json.loads((folder / "gpt2" / "config.json").read_text())
    write_folder(folder / "shards", fields, read_weights(folder / "gpt2"), shard_bytes=2000)
    ByteLevelBPE.train([TEXT], 300).save(folder / "shards")
    return [path for path in sorted(folder.glob("*/*.json")) if path.name != "tokenizer.json"]


def test_changed_fields_of_published_folders_are_read_or_refused_in_a_sentence(tmp_path):
    files, refused, read = make_folders(tmp_path), 0, 0
    for draw in trials(1000, 2):
        path = draw.choice(files)
        whole = path.read_text()
        try:
            path.write_text(json.dumps(changed(json.loads(whole), draw)))
            if outcome(partial(load_model, path.parent), tmp_path):
                refused += 1
            else:
                read += 1
        finally:
            path.write_text(whole)
    assert read and refused
