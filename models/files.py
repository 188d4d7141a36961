"""Files that are whole at every moment: written beside their place, flushed to the disk, then renamed over the old one.

Renaming replaces a file in one step, so a kill or a full disk in the middle leaves the old content as it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import safetensors


def replace_file(path: str | Path, write: Callable[[Path], object]) -> None:
    """Write a file, and the folders above it, so that `path` always holds all of the old content or all of the new.

    write: is given the path to write to. ValueError names the file if it cannot be written.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(beside)
        with open(beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    except FileExistsError:
        raise ValueError(f"{path} cannot be written: {path.parent} is not a folder") from None
    except (OSError, safetensors.SafetensorError) as error:
        if beside.is_file():
            beside.unlink()
        raise ValueError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from None


def write_text(path: str | Path, text: str) -> None:
    """A text file in UTF-8, with the line ends it has."""
    replace_file(path, lambda beside: beside.write_text(text, encoding="utf-8", newline=""))
