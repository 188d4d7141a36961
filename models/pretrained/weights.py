"""Weights in files: safetensors (one file, or shards with an index) and pytorch_model.bin, as {name: array}.

Whatever the precision of a file, the model computes in float32: float16, bfloat16 and float64 arrays are converted
when they are read. Integers stay as they are (some files hold counters and position tables; the name maps drop them).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from models.files import read_json, replace_file, write_json
from models.pretrained.torch_files import read_torch, widen

SINGLE, SHARDED = "model.safetensors", "model.safetensors.index.json"
CANDIDATES = (SINGLE, SHARDED, "pytorch_model.bin", "pytorch_model.bin.index.json")
SHARD_BYTES = 5_000_000_000


def read_config(folder: str | Path) -> dict:
    """The published fields of a folder's config.json."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder; give one with config.json and model.safetensors")
    if not (folder / "config.json").exists():
        raise ValueError(f"{folder} has no config.json: it is not a folder in Hugging Face's layout")
    return read_json(folder / "config.json", "the settings of a published model")


def check_kind(fields: dict, *kinds: str) -> str:
    """The config's model_type, which must be one of `kinds`."""
    kind = fields.get("model_type")
    if kind not in kinds:
        raise ValueError(f"the config's model_type is {kind!r}; this model reads {' and '.join(map(repr, kinds))}")
    return kind


def read_weights(folder: str | Path) -> dict[str, np.ndarray]:
    """All arrays of a folder by their published names; floats as float32."""
    folder = Path(folder)
    found = next((folder / name for name in CANDIDATES if (folder / name).exists()), None)
    if found is None:
        raise ValueError(f"{folder} has no weights; expected {SINGLE}, its shards with {SHARDED}, or pytorch_model.bin")
    return _read_shards(found) if found.name.endswith(".index.json") else _read_file(found)


def _read_file(path: Path) -> dict[str, np.ndarray]:
    arrays = read_safetensors(path) if path.suffix == ".safetensors" else read_torch(path)
    return {name: a.astype(np.float32, copy=False) if a.dtype.kind == "f" else a for name, a in arrays.items()}


def _read_shards(index: Path) -> dict[str, np.ndarray]:
    """The files an index names, of which each must hold what the index says."""
    places = read_json(index, "the index of a model's shards").get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise ValueError(f"{index} has no weight_map from names to files")
    arrays = {}
    for file in sorted(set(places.values())):
        if Path(file).name != file:
            raise ValueError(f"{index} names the file {file!r}, which is not beside it")
        if not (index.parent / file).exists():
            raise ValueError(f"{index.parent} has no {file}, which {index.name} names; fetch that shard too")
        shard = _read_file(index.parent / file)
        if absent := [name for name, place in places.items() if place == file and name not in shard]:
            raise ValueError(f"{index.parent / file} has no {absent[0]}, which {index.name} says is there")
        arrays |= shard
    return arrays


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a safetensors file. NumPy knows no bfloat16, so such arrays come as float32."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:  # also checks every offset
            names = list(file.keys())
            brief = {name for name in names if file.get_slice(name).get_dtype() == "BF16"}
            arrays = {name: file.get_tensor(name) for name in names if name not in brief}
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} is truncated or damaged: {error}") from None
    return arrays | _read_bfloat16(path, brief)


def read_metadata(path: Path) -> dict[str, str]:
    """The strings by name that stand beside the arrays of a safetensors file."""
    with safetensors.safe_open(path, framework="numpy") as file:
        return file.metadata() or {}


def write_safetensors(path: Path, arrays: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """The file whole or not at all."""
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    replace_file(path, lambda beside: safetensors.numpy.save_file(arrays, beside, metadata=metadata))


def _read_bfloat16(path: Path, names: set[str]) -> dict[str, np.ndarray]:
    """The file: 8 bytes with the length of a JSON header, the header, then the data that its offsets count in."""
    if not names:
        return {}
    arrays = {}
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        for name in names:
            begin, end = header[name]["data_offsets"]
            file.seek(8 + length + begin)
            arrays[name] = widen(np.frombuffer(file.read(end - begin), "<u2")).reshape(header[name]["shape"])
    return arrays


def write_folder(folder: str | Path, config: dict, arrays: Mapping[str, np.ndarray], shard_bytes: int = SHARD_BYTES):
    """Write config.json and model.safetensors; in several files where they are longer than shard_bytes together."""
    folder = Path(folder)
    write_json(folder / "config.json", dict(sorted(config.items())))
    shards: list[list[str]] = [[]]
    size = 0
    for name, array in arrays.items():
        if shards[-1] and size + array.nbytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += array.nbytes
    count = len(shards)
    files = [SINGLE] if count == 1 else [f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)]
    for file, names in zip(files, shards):
        write_safetensors(folder / file, {name: arrays[name] for name in names}, {"format": "pt"})
    if count == 1:
        (folder / SHARDED).unlink(missing_ok=True)
    else:
        about = {"total_size": sum(array.nbytes for array in arrays.values())}
        places = {name: file for file, names in zip(files, shards) for name in names}
        write_json(folder / SHARDED, {"metadata": about, "weight_map": places})
    for old in (folder / SINGLE, *folder.glob("model-*-of-*.safetensors")):
        if old.name not in files:
            old.unlink(missing_ok=True)  # of an earlier save with other shards
