"""Folders that others published, where a run is asked for: in Hugging Face's layout, of a hub's cache, or ELMo's."""

from pathlib import Path

from models import ELMo
from models.families import PUBLISHED
from models.files import read_json
from models.hub import newest_snapshot
from models.schema import shown
from models.tokenizers import ElmoCharacters, Tokenizer
from models.tokenizers import load as load_tokenizer
from nn import Module


def load(folder: Path) -> tuple[Module, Tokenizer]:
    """The model and its tokenizer."""
    folder = newest_snapshot(folder)
    if (options := folder / "options.json").exists():
        weights = sorted(folder.glob("*.hdf5"))
        if (n := len(weights)) != 1:
            raise ValueError(f"{folder} has an ELMo's options.json and {n} hdf5 files beside it; it takes one")
        return ELMo.from_pretrained(options, weights[0]), ElmoCharacters()
    kind = read_json(folder / "config.json", "the settings of a model").get("model_type")
    if not isinstance(kind, str) or kind not in PUBLISHED:
        raise ValueError(f"{folder} holds a published {shown(kind)}; known are {', '.join(PUBLISHED)}")
    return PUBLISHED[kind].model.from_pretrained(folder), load_tokenizer(folder)
