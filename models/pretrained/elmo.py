"""ELMo as published: options.json (the shape) and an hdf5 file (the weights), in both directions.

The file was written by TensorFlow, whose layout differs from ours in four ways:
- matrices are (in, out), a filter of the convolution (1, width, characters, filters)
- an LSTM's W_0 holds both its matrices, the input's rows first; its gates stand in the order i, g, f, o
- a forget gate adds 1 to what the file has as its bias
- there is no row for padded words, whose character vectors are 0

No softmax is in the file: what was published can read, not predict.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from models.files import ordinary, read_json, replace_file, write_json
from models.schema import Count, Few, FewOrNone, NotNegative, Range, checked

UNPACKED = 100  # times its size a compressed dataset may take in memory


def read_published(options: str | Path, weights: str | Path) -> tuple[dict, dict[str, np.ndarray]]:
    """(the fields of an ELMoConfig, its state dict without softmax and mix) from options.json and the hdf5 file."""
    fields, arrays = read_options(options), read_hdf5(weights)
    fields["char_projection"] = "CNN_proj/W_proj" in arrays
    try:
        return fields, from_published(arrays, fields)
    except KeyError as error:
        raise ValueError(f"{weights} has no dataset {error.args[0]}, which {options} asks for") from None
    except (ValueError, IndexError) as error:  # of arrays that have too few axes, or none that fit
        raise ValueError(f"{weights} does not fit {options}: {error}") from None


def read_hdf5(path: str | Path) -> dict[str, np.ndarray]:
    """The datasets of a file by name, as float32. Those whose numbers stand in other files are refused: they would
    show whatever file of the machine they name."""
    h5py, arrays, size = _h5py(), {}, ordinary(path).stat().st_size

    def keep(name: str, item) -> None:
        if not isinstance(item, h5py.Dataset):
            return
        if item.is_virtual or item.external:
            raise ValueError(f"{path}: the numbers of {name!r} stand in other files, which are not read")
        if item.dtype.kind != "f" or item.nbytes > UNPACKED * size:
            raise ValueError(f"{path}: {name!r} holds no weights, or more than the file has room for")
        arrays[name] = item[...].astype(np.float32, copy=False)

    try:
        with h5py.File(path, "r") as file:
            file.visititems(keep)  # which follows no link, so none into another file
    except (OSError, RuntimeError, KeyError, TypeError) as error:  # KeyError and so on: of damaged parts of the file
        raise ValueError(f"{path} cannot be read as hdf5: {error}") from None
    return arrays


def write_published(options: str | Path, weights: str | Path, fields: dict, state: dict[str, np.ndarray]) -> None:
    """Write both files, from the config's fields and the state dict."""
    h5py, arrays = _h5py(), to_published(state, fields)

    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = np.ascontiguousarray(array)

    write_json(options, write_options(fields))
    replace_file(weights, write)


@dataclass
class Vector:
    dim: Count


@dataclass
class Characters:
    """The part char_cnn of options.json."""

    embedding: Vector
    filters: list[tuple[Few, Count]]  # (width, how many)
    n_characters: Annotated[int, Range(261, 262)]  # one more where padding is counted
    max_characters_per_token: Few
    n_highway: FewOrNone | None = None
    activation: Literal["relu", "tanh"] = "relu"


@dataclass
class Cells:
    """The part lstm."""

    projection_dim: Count
    dim: Count
    n_layers: Few = 1
    cell_clip: NotNegative | None = None
    proj_clip: NotNegative | None = None
    use_skip_connections: bool = False


@dataclass
class Options:
    lstm: Cells
    char_cnn: Characters


def read_options(path: str | Path) -> dict:
    """The fields of an ELMoConfig, but for those that the weights tell."""
    read = checked(Options, read_json(path, "the options.json of an ELMo"), path, others=True)
    lstm, characters = read.lstm, read.char_cnn
    return {"width": lstm.projection_dim, "hidden": lstm.dim, "layers": lstm.n_layers,
            "cell_clip": lstm.cell_clip or 0.0, "proj_clip": lstm.proj_clip or 0.0, "skip": lstm.use_skip_connections,
            "char_width": characters.embedding.dim,
            "filters": ",".join(f"{width}x{count}" for width, count in characters.filters),
            "activation": characters.activation, "highways": characters.n_highway or 0,
            "characters": characters.max_characters_per_token}


def write_options(fields: dict) -> dict:
    lstm = {"projection_dim": fields["width"], "dim": fields["hidden"], "n_layers": fields["layers"],
            "cell_clip": fields["cell_clip"] or None, "proj_clip": fields["proj_clip"] or None,
            "use_skip_connections": fields["skip"]}
    characters = {"activation": fields["activation"], "embedding": {"dim": fields["char_width"]},
                  "filters": [[int(n) for n in pair.split("x")] for pair in fields["filters"].split(",")],
                  "n_highway": fields["highways"], "n_characters": 262,
                  "max_characters_per_token": fields["characters"]}
    return {"bidirectional": True, "lstm": lstm, "char_cnn": characters}


def from_published(arrays: dict[str, np.ndarray], fields: dict) -> dict[str, np.ndarray]:
    """Our state dict from the file's datasets."""
    state = {"encoder.embedding.weight": np.pad(arrays["char_embed"], ((1, 0), (0, 0)))}
    for ours, theirs in _turned(fields):
        array = arrays[theirs]
        state[ours] = (array[0] if array.ndim == 4 else array).T
    for ours, cell in _cells(fields):
        W = arrays[f"{cell}/W_0"]
        state[f"{ours}.weight_ih_l0"] = _regate(W[: fields["width"]].T)
        state[f"{ours}.weight_hh_l0"] = _regate(W[fields["width"] :].T)
        state[f"{ours}.bias_ih_l0"] = _regate(arrays[f"{cell}/B"]) + _one_for_the_forget_gate(len(W.T))
        state[f"{ours}.bias_hh_l0"] = np.zeros(len(W.T), np.float32)
    return state


def to_published(state: dict[str, np.ndarray], fields: dict) -> dict[str, np.ndarray]:
    """The file's datasets from our state dict. The file has one bias where an LSTM of ours has two: their sum."""
    arrays = {"char_embed": state["encoder.embedding.weight"][1:]}
    for ours, theirs in _turned(fields):
        array = state[ours].T
        arrays[theirs] = array[None] if array.ndim == 3 else array
    for ours, cell in _cells(fields):
        W = np.concatenate([state[f"{ours}.weight_ih_l0"].T, state[f"{ours}.weight_hh_l0"].T])
        bias = state[f"{ours}.bias_ih_l0"] + state[f"{ours}.bias_hh_l0"] - _one_for_the_forget_gate(len(W.T))
        arrays[f"{cell}/W_0"], arrays[f"{cell}/B"] = _regate(W.T).T, _regate(bias)
    return arrays


def _turned(fields: dict) -> Iterator[tuple[str, str]]:
    """(our parameter, the dataset) of those that differ in the order of their axes only."""
    layers = {f"encoder.convolutions.convolutions.{n}": (f"CNN/W_cnn_{n}", f"CNN/b_cnn_{n}")
              for n, _ in enumerate(fields["filters"].split(","))}
    layers |= {f"encoder.highways.{n}.{part}": (f"CNN_high_{n}/W_{part}", f"CNN_high_{n}/b_{part}")
               for n in range(fields["highways"]) for part in ("carry", "transform")}
    if fields["char_projection"]:
        layers["encoder.projection"] = "CNN_proj/W_proj", "CNN_proj/b_proj"
    for ours, names in layers.items():
        yield from zip((f"{ours}.weight", f"{ours}.bias"), names)
    if fields["width"] < fields["hidden"]:
        for ours, cell in _cells(fields):
            yield f"{ours}.weight_hr_l0", f"{cell}/W_P_0"


def _cells(fields: dict) -> Iterator[tuple[str, str]]:
    """(our LSTM, its folder in the file)."""
    for direction, lstms in enumerate(("forward", "backward")):
        for n in range(fields["layers"]):
            yield f"{lstms}.{n}", f"RNN_{direction}/RNN/MultiRNNCell/Cell{n}/LSTMCell"


def _regate(a: np.ndarray) -> np.ndarray:
    """Gates in the order i, f, g, o as i, g, f, o, along the first axis; and back, as the same two change places."""
    i, f, g, o = np.split(a, 4)
    return np.concatenate([i, g, f, o])


def _one_for_the_forget_gate(rows: int) -> np.ndarray:
    """What TensorFlow adds to the second of our four gates."""
    return np.repeat(np.array([0, 1, 0, 0], np.float32), rows // 4)


def _h5py():
    try:
        import h5py
    except ImportError:
        raise ValueError("ELMo's published weights are hdf5 files; to read them: pip install h5py") from None
    return h5py
