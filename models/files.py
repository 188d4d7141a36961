"""Text, JSON and arrays in files: read with errors that name the file, written so that they are whole at every moment.

A file is written beside its place, flushed to the disk, then renamed over the old one. Renaming replaces it in one
step, so a kill or a full disk in the middle leaves the old content as it was.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from models.bfloat16 import read_bfloat16

JSON_BYTES, JSON_DEPTH = 48 * 2**20, 50  # the longest published vocabularies have 34 MB and nest 6 deep


def ordinary(path: str | Path) -> Path:
    """The path of a file that has an end: a pipe may never have one, /dev/random has none."""
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} cannot be read: it is {'a folder' if path.is_dir() else 'no ordinary file'}")
    return path


def read_bytes(path: str | Path, most: int | None = None) -> bytes:
    """What a file holds. most: bytes; a longer file is refused before it takes memory."""
    try:
        path = ordinary(path)
        if most is not None and (size := path.stat().st_size) > most:
            raise ValueError(f"{path} has {size:,} bytes, more than the {most:,} that such a file may have")
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def read_text(path: str | Path, what: str = "a text file", most: int | None = None) -> str:
    """The text of a UTF-8 file, with the line ends it has.

    what: the kind of file that is wanted, for the ValueError if it is none.   most: see read_bytes.
    """
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text (byte {error.start}); is it really {what}?") from None


def read_json(path: str | Path, what: str = "a JSON file") -> dict:
    """The table that a JSON file holds; all those that are read here have names and values at the top."""
    value = parse_json(read_text(path, what, JSON_BYTES), path)
    if not isinstance(value, dict):
        raise ValueError(f"{path} does not hold {what}")
    return value


def parse_json(text: str, where: object):
    """What a JSON text says. where: the file, or the line of it, for the ValueError."""
    try:
        value = json.loads(text)
        if _depth(value) > JSON_DEPTH:
            raise RecursionError
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise ValueError(f"{where} is not complete JSON: {error.msg} at {place}; copy the file again") from None
    except RecursionError:
        raise ValueError(f"{where} nests its lists and tables more than {JSON_DEPTH} deep") from None
    except UnicodeEncodeError:
        raise ValueError(f"{where} holds half of a character (a lone surrogate such as \\ud800)") from None
    except ValueError:  # of int(): more than 4300 digits
        raise ValueError(f"{where} holds a number with thousands of digits") from None


def _depth(value: object) -> int:
    """How many lists and tables stand within each other, counted level by level, without recursion."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, (list, dict))]:
        level = [inner for one in level for inner in (one if isinstance(one, list) else one.values())]
        depth += 1
    return depth


def replace_file(path: str | Path, write: Callable[[Path], object]) -> None:
    """Write a file, and the folders above it, so that `path` always holds all of the old content or all of the new.

    write: is given the path to write to. ValueError names the file if it cannot be written.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.unlink(missing_ok=True)
        open(beside, "wb").close()
        mode = beside.stat().st_mode  # as the umask has it; safetensors makes files that nobody else may read
        write(beside)
        os.chmod(beside, mode)
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except FileExistsError:
        raise ValueError(f"{path} cannot be written: {path.parent} is not a folder") from None
    except (OSError, safetensors.SafetensorError) as error:
        if beside.is_file():
            beside.unlink()
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise ValueError(f"{path} cannot be written: {reason}") from None


def write_text(path: str | Path, text: str) -> None:
    """A text file in UTF-8, with the line ends it has."""
    replace_file(path, lambda beside: beside.write_text(text, encoding="utf-8", newline=""))


def write_json(path: str | Path, table: dict) -> None:
    """A table as JSON, a line for each of its entries; paths in it are written as their names."""
    write_text(path, json.dumps(table, ensure_ascii=False, indent=1, default=os.fspath) + "\n")


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a safetensors file. NumPy knows no bfloat16, so such arrays come as float32."""
    try:
        with safetensors.safe_open(ordinary(path), framework="numpy") as file:  # also checks every offset
            names = {name: file.get_slice(name).get_dtype() for name in list(file.keys())}
            if tiny := [f"{kind} numbers ({name})" for name, kind in names.items() if kind[:3] in ("F8_", "F6_", "F4")]:
                raise ValueError(f"{path} has {tiny[0]}, which are not read; take the model's files in 16 or 32 bits")
            return {name: read_bfloat16(path, name) if kind == "BF16" else file.get_tensor(name)
                    for name, kind in names.items()}
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} is truncated or damaged: {error}") from None


def read_metadata(path: Path) -> dict[str, str]:
    """The strings by name that stand beside the arrays of a safetensors file."""
    with safetensors.safe_open(path, framework="numpy") as file:
        return file.metadata() or {}


def write_safetensors(path: Path, arrays: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """The file whole or not at all."""
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    replace_file(path, lambda beside: safetensors.numpy.save_file(arrays, beside, metadata=metadata))
