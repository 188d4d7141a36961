"""The folder of one of our runs (train/checkpoint.py), as far as its model goes: config.json and the weights."""

from pathlib import Path
from typing import Any

from models.files import read_json, read_safetensors
from models.schema import checked
from nn import Module, check_finite, shapes_only
from nn.compression import storage

FILES = {"last": "model.safetensors", "best": "best.safetensors"}


def family_in(folder: Path) -> str | None:
    """The family that the config.json of a run names; None of any other folder. ValueError: a task's model is there."""
    path = folder / "config.json"
    family = read_json(path, "the settings of a model").get("family") if path.exists() else None
    if family == "finetuned":
        what = "holds a model that was fine-tuned for a task"
        raise ValueError(f"{folder} {what}; use it with: python -m train ask {folder}")
    return family


def opened(model: type[Module], config: type, folder: Path, which: str = "last", inside: str = "", **changes) -> Any:
    """The run's model in evaluation mode, whatever made it smaller.

    which: the last weights, or the best.   inside: where the model stands in that of the run, such as "bert.".
    """
    where = folder / "config.json"
    fields = read_json(where)
    family, smaller = fields.pop("family"), fields.pop("smaller", True)
    if not (path := folder / FILES[which]).exists():
        raise ValueError(f"{folder} has no {path.name}: the run was stopped before it; go on with --resume {folder}")
    arrays = read_safetensors(path)
    if inside:
        arrays = {name.removeprefix(inside): array for name, array in arrays.items() if name.startswith(inside)}
    try:
        with shapes_only(most=2 * len(arrays)):
            made = model(checked(config, fields | changes, where))
        (storage.load if smaller else Module.load_state_dict)(made, arrays, True)
    except ValueError as error:
        raise ValueError(f"{folder} is the run of a {family}, not read as {model.__name__}: {error}") from None
    check_finite(made, path)
    return made.eval()
