"""Tokenizers' files with something changed: fields of JSON, bytes of the others."""

import json
from pathlib import Path

import pytest

from models.tokenizers import (
    ByteLevelBPE,
    Bytes,
    Characters,
    ClassicBPE,
    ElmoCharacters,
    Unigram,
    WordPiece,
    Words,
    load,
)
from tests.faults.harness import changed, flipped, trials, try_damaged

pytestmark = pytest.mark.slow
TEXT = "The cat sat on the mat, and the dog (a big one) sat on 12 logs. Ünïcode 你好 🙂 naïve café!\n"


def make_files(folder: Path) -> list[Path]:
    """A tokenizer of every scheme, as tokenizer.json and in its older files."""
    trained = {"bpe": ByteLevelBPE.train([TEXT] * 5, 300), "gpt4": ByteLevelBPE.train([TEXT], 290, [], pattern="gpt4"),
               "classic": ClassicBPE.train([TEXT] * 5, 120), "wordpiece": WordPiece.train([TEXT] * 5, 120),
               "unigram": Unigram.train([TEXT] * 5, 80, extra_ids=3), "characters": Characters.train([TEXT]),
               "words": Words.train([TEXT], 20), "bytes": Bytes(), "elmo": ElmoCharacters()}
    for name, tokenizer in trained.items():
        tokenizer.save(folder / name)
    trained["wordpiece"].save(folder / "vocab.txt")
    trained["gpt4"].save(folder / "ranks.tiktoken")
    trained["bpe"].save_vocab_and_merges(folder / "two")
    trained["classic"].save_vocab_and_merges(folder / "gpt1")
    spiece = Path(__file__).parents[1] / "models" / "tokenizers" / "tiny.model"
    (folder / "spiece.model").write_bytes(spiece.read_bytes())
    return sorted(path for path in folder.rglob("*") if path.is_file())


def used(path: Path) -> None:
    """Opened, and made to read and write a text with everything in it."""
    tokenizer = load(path.parent if path.name == "merges.txt" else path)
    ids = tokenizer.encode(TEXT)
    tokenizer.decode(ids)
    if isinstance(tokenizer, ElmoCharacters):
        return
    tokenizer.encode(TEXT + "<s>[MASK]", special=True)
    if tokenizer.pad_token:
        tokenizer.prepare([TEXT], [TEXT], max_length=30)
    tokenizer.save(path.parent / "again")


def written(path: Path, draw) -> bytes:
    """The file with something changed in it, in ways that fit to it."""
    whole = path.read_bytes()
    if path.suffix == ".json" and draw.random() < 0.9:
        return json.dumps(changed(json.loads(whole), draw)).encode()
    return flipped(whole, draw)


def test_changed_tokenizers_are_used_or_refused_in_a_sentence(tmp_path):
    try_damaged(make_files(tmp_path), trials(2000, 3), written, used, tmp_path)
