"""Any folder that holds a model we read: a run's, or one that others published (Hugging Face's layout, ELMo's)."""

from pathlib import Path

from models.elmo import ELMo
from models.families import FAMILIES, PUBLISHED
from models.files import read_json
from models.hub import newest_snapshot
from models.pretrained import run
from models.schema import shown
from models.tokenizers import ElmoCharacters, Tokenizer
from models.tokenizers import load as load_tokenizer
from nn import Module


def load(folder: str | Path, which: str = "last") -> tuple[Module, Tokenizer]:
    """The model, in evaluation mode, and its tokenizer.   which: of a run's weights, the last or the best.

    The folder may be a run's, a published one, one of a hub's cache, or hold an ELMo's options.json and one hdf5 file.
    """
    folder = newest_snapshot(folder)
    if (options := folder / "options.json").exists():
        weights = sorted(folder.glob("*.hdf5"))
        if (n := len(weights)) != 1:
            raise ValueError(f"{folder} has an ELMo's options.json and {n} hdf5 files beside it; it takes one")
        return ELMo.from_pretrained(options, weights[0]), ElmoCharacters()
    if (name := run.family_in(folder)) in FAMILIES:
        return run.opened(FAMILIES[name].model, FAMILIES[name].config, folder, which), load_tokenizer(folder)
    kind = read_json(folder / "config.json", "the settings of a model").get("model_type")
    if not isinstance(kind, str) or kind not in PUBLISHED:
        held = f"the run of a {shown(name)}" if name else f"a published {shown(kind)}"
        raise ValueError(f"{folder} holds {held}; known are {', '.join(FAMILIES if name else PUBLISHED)}")
    return PUBLISHED[kind].model.from_pretrained(folder), load_tokenizer(folder)
