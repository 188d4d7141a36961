"""ELMo's hdf5 files and options, and SentencePiece's models, with bits turned and parts lost."""

import json
from pathlib import Path

import pytest

from models import ELMo, ELMoConfig
from models.tokenizers import load
from tests.faults.harness import changed, flipped, trials, try_damaged

pytestmark = pytest.mark.slow
TEXT = "The cat sat on the mat. Ünïcode 你好 naïve café!"
MODELS = Path(__file__).parents[1] / "models" / "tokenizers"


def make_files(folder: Path) -> list[Path]:
    """A small ELMo, and a model of every kind that SentencePiece knows of which there is a small one."""
    config = ELMoConfig(vocab_size=0, width=4, hidden=6, layers=1, char_width=3, filters="1x4,2x4", characters=10)
    ELMo(config).save_pretrained(folder / "options.json", folder / "weights.hdf5")
    for path in MODELS.glob("*.model"):
        (folder / path.name).write_bytes(path.read_bytes())
    return [path for path in sorted(folder.iterdir()) for _ in range(2 if path.suffix == ".hdf5" else 1)]


def used(path: Path) -> None:
    if path.suffix != ".model":
        ELMo.from_pretrained(path.parent / "options.json", path.parent / "weights.hdf5")([["The", "cat"]])
        return
    tokenizer = load(path)
    tokenizer.decode(tokenizer.encode(TEXT))


def written(path: Path, draw) -> bytes:
    whole = path.read_bytes()
    if path.suffix == ".json" and draw.random() < 0.9:
        return json.dumps(changed(json.loads(whole), draw)).encode()
    return flipped(whole, draw)


def test_damaged_files_are_used_or_refused_in_a_sentence(tmp_path):
    pytest.importorskip("h5py")
    try_damaged(make_files(tmp_path), trials(1000, 4), written, used, tmp_path)
