"""Weights in files: safetensors (one file, or shards with an index) and pytorch_model.bin, as {name: array}.

Whatever the precision of a file, the model computes in float32: float16, bfloat16 and float64 arrays are converted
when they are read. Integers stay as they are (some files hold counters and position tables; the name maps drop them).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.files import read_json, read_safetensors, write_json, write_safetensors
from models.pretrained.torch_files import read_torch
from models.schema import checked, shown

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


@dataclass
class Index:
    """What the index of a model's shards says: in which file each array is."""

    weight_map: dict[str, str]


def _read_shards(index: Path) -> dict[str, np.ndarray]:
    """The files an index names, of which each must hold what the index says."""
    places = checked(Index, read_json(index, "the index of a model's shards"), index, others=True).weight_map
    arrays = {}
    for file in sorted(set(places.values())):
        if Path(file).name != file or len(file) > 200:
            raise ValueError(f"{index} names the file {shown(file)}, which is not beside it")
        if not (index.parent / file).exists():
            raise ValueError(f"{index.parent} has no {file}, which {index.name} names; fetch that shard too")
        shard = _read_file(index.parent / file)
        if absent := [name for name, place in places.items() if place == file and name not in shard]:
            raise ValueError(f"{index.parent / file} has no {absent[0]}, which {index.name} says is there")
        arrays |= shard
    return arrays


def write_folder(folder: str | Path, config: dict, arrays: Mapping[str, np.ndarray], shard_bytes: int = SHARD_BYTES):
    """Write config.json and model.safetensors; in several files where they are longer than shard_bytes together."""
    folder = Path(folder)
    write_json(folder / "config.json", dict(sorted(config.items())))
    shards, size = [{}], 0
    for name, array in arrays.items():
        if shards[-1] and size + array.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = array
        size += array.nbytes
    count = len(shards)
    files = [SINGLE] if count == 1 else [f"model-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)]
    for file, shard in zip(files, shards):
        write_safetensors(folder / file, shard, {"format": "pt"})
    if count == 1:
        (folder / SHARDED).unlink(missing_ok=True)
    else:
        about = {"total_size": sum(array.nbytes for array in arrays.values())}
        places = {name: file for file, shard in zip(files, shards) for name in shard}
        write_json(folder / SHARDED, {"metadata": about, "weight_map": places})
    for old in (folder / SINGLE, *folder.glob("model-*-of-*.safetensors")):
        if old.name not in files:
            old.unlink(missing_ok=True)  # of an earlier save with other shards
