"""Text, JSON and arrays in files: read with errors that name the file, written so that they are whole at every moment.

A file is written beside its place, flushed to the disk, then renamed over the old one. Renaming replaces it in one
step, so a kill or a full disk in the middle leaves the old content as it was.

The folder of a run says in checksums.list what its other files hold, so that damaged ones and those of other runs are
found out when they are read.
"""

import contextlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from models.bfloat16 import read_bfloat16

CHECKSUMS = "checksums.list"  # a line for each file: its checksum and name; the last is of the lines above
GONE = "gone".rjust(8)  # in place of a checksum: the file is to be taken away
UNFINISHED = ".tinytensor"  # what is being made is called .NAME.tinytensor
WAITS = (0, 0.02, 0.1, 0.4)  # seconds, before another look at a file which a trainer may be about to put there
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
        path = intact(path)
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


def checksums(folder: Path) -> dict[str, str] | None:
    """file name -> checksum, as a folder says; None if it does not."""
    try:
        text = (folder / CHECKSUMS).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    sums = {line[10:]: line[:8] for line in text.splitlines()[:-1]}
    if text != _listing(sums):
        raise ValueError(f"{folder / CHECKSUMS} is damaged; copy it again, or delete it to use the folder as it is")
    return sums


def write_checksums(folder: Path, sums: dict[str, str]) -> None:
    write_text(folder / CHECKSUMS, _listing(sums))


def _listing(sums: dict[str, str]) -> str:
    lines = "".join(f"{crc}  {name}\n" for name, crc in sums.items())
    return f"{lines}{zlib.crc32(lines.encode()):08x}  {CHECKSUMS}\n"


def checksum(path: Path) -> str:
    """Of a file: what all its blocks give with XOR, and the sum of each, both as numbers of 64 bits, as one CRC-32.

    One or two bits cannot change unnoticed. It takes a tenth of the time that a CRC-32 of all bytes would.
    """
    folded, block, sums, size = np.zeros(1 << 15, "<u8"), np.zeros(1 << 15, "<u8"), [], 0
    with open(path, "rb") as file:
        while length := file.readinto(block):
            block.view(np.uint8)[length:] = 0
            folded ^= block
            sums.append(block.sum())
            size += length
    return f"{zlib.crc32(np.array([*sums, size], '<u8'), zlib.crc32(folded)):08x}"


def intact(path: str | Path) -> Path:
    """The path of an ordinary file, which holds what its folder says, if that says anything."""
    path = ordinary(path)
    for seconds in WAITS:
        time.sleep(seconds)
        said = (checksums(path.parent) or {}).get(path.name)
        if said is None or not path.exists() or checksum(path) == said:
            return path
    what = f"{CHECKSUMS} tells of other bytes; it may be another run's"
    raise ValueError(f"{path} is truncated or damaged: {what}; copy it again, or delete {CHECKSUMS} to use it as it is")


def beside(path: Path) -> Path:
    """Where that is made which shall become `path`."""
    return path.with_name(f".{path.name}{UNFINISHED}")


def replace_file(path: str | Path, write: Callable[[Path], object]) -> None:
    """Write a file, and the folders above it, so that `path` always holds all of the old content or all of the new.

    write: is given the path to write to. ValueError names the file if it cannot be written.
    """
    path = Path(path)
    write_beside(path, write)
    with naming(path):
        os.replace(beside(path), path)
        sync_folder(path.parent)


def write_beside(path: Path, write: Callable[[Path], object]) -> None:
    new = beside(path)
    try:
        with naming(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            new.unlink(missing_ok=True)
            with open(new, "wb") as file:
                mode = os.fstat(file.fileno()).st_mode  # as the umask has it; safetensors lets only the owner read
            write(new)
            with open(new, "rb") as file:
                os.fsync(file.fileno())
            os.chmod(new, mode & 0o777)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """ValueError with the name of the file that cannot be written."""
    try:
        yield
    except FileExistsError:
        raise ValueError(f"{path} cannot be written: {path.parent} is not a folder") from None
    except (OSError, safetensors.SafetensorError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or error
        raise ValueError(f"{path} cannot be written: {reason}") from None


def sync_folder(folder: Path) -> None:
    """See to it that names in a folder are on the disk, where the system can."""
    with contextlib.suppress(OSError):
        place = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)


def write_text(path: str | Path, text: str) -> None:
    """A text file in UTF-8, with the line ends it has."""
    replace_file(path, lambda beside: beside.write_text(text, encoding="utf-8", newline=""))


def write_json(path: str | Path, table: dict) -> None:
    """A table as JSON, a line for each of its entries; paths in it are written as their names."""
    replace_file(path, in_json(table))


def in_json(table: dict) -> Callable:
    """What writes a table to the path that it is given."""
    text = json.dumps(table, ensure_ascii=False, indent=1, default=os.fspath) + "\n"
    return lambda path: path.write_text(text, encoding="utf-8", newline="")


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a safetensors file. NumPy knows no bfloat16, so such arrays come as float32."""
    try:
        with ThreadPoolExecutor(1) as thread, safetensors.safe_open(ordinary(path), framework="numpy") as file:
            verdict = thread.submit(intact, path)  # while they are read; that every offset makes sense is known already
            names = {name: file.get_slice(name).get_dtype() for name in list(file.keys())}
            if tiny := [f"{kind} numbers ({name})" for name, kind in names.items() if kind[:3] in ("F8_", "F6_", "F4")]:
                raise ValueError(f"{path} has {tiny[0]}, which are not read; take the model's files in 16 or 32 bits")
            arrays = {name: read_bfloat16(path, name) if kind == "BF16" else file.get_tensor(name)
                      for name, kind in names.items()}
            verdict.result()
            return arrays
    except (OSError, safetensors.SafetensorError) as error:
        raise ValueError(f"{path} is truncated or damaged: {error}") from None


def read_metadata(path: Path) -> dict[str, str]:
    """The strings by name that stand beside the arrays of a safetensors file."""
    with safetensors.safe_open(path, framework="numpy") as file:
        return file.metadata() or {}


def write_safetensors(path: Path, arrays: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None) -> None:
    """The file whole or not at all."""
    replace_file(path, in_safetensors(arrays, metadata))


def in_safetensors(arrays: Mapping[str, np.ndarray], metadata: dict[str, str] | None = None) -> Callable:
    """What writes arrays to the path that it is given."""
    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    return lambda path: safetensors.numpy.save_file(arrays, path, metadata=metadata)
