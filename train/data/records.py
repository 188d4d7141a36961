"""Text as records: JSON lines and Parquet, a text each, and of text that is packed with gzip the paragraphs."""

import codecs
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

LOOKED_AT = 1 << 16  # bytes that tell whether a file holds text
PACKED = (".jsonl", ".gz", ".parquet")  # the ends of their names


class Records:
    """A file of many texts. Its `size` is their number; they are read one after the other, with a blank line between.

    ValueError: a record without a text is named, with its line or row.
    """

    def __init__(self, path: Path, chunk: int):
        self.path, self.chunk = path, chunk
        self.size = sum(1 for _ in self._texts())

    def cut(self, share: float) -> int:
        """The number of the first record that is held out."""
        return max(1, int(self.size * (1 - share)))

    def read(self, start: int, stop: int) -> Iterator[str]:
        """The texts of the records start .. stop - 1, about `chunk` characters at a time."""
        held, length = [], 0
        for text in islice(self._texts(), start, stop):
            held.append(text.rstrip("\n") + "\n\n")
            length += len(text)
            if length >= self.chunk:
                yield "".join(held)
                held, length = [], 0
        if held:
            yield "".join(held)

    def _texts(self) -> Iterator[str]:
        names = self.path.suffixes
        if names[-1] == ".parquet":
            return parquet_texts(self.path)
        lines = lines_of(self.path)
        return json_texts(lines, self.path) if ".jsonl" in names[-2:] else paragraphs(lines)


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a text file, unpacked if its name ends in .gz."""
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            for number, line in enumerate(file, 1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text in line {number + 1}; convert it to UTF-8 first") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ValueError(f"{path} cannot be read behind line {number}: {reason}") from None


def json_texts(lines: Iterable[str], path: Path) -> Iterator[str]:
    """The field "text" of the table in every line."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            raise ValueError(f"{path} line {number} is not JSON; every line must be a table with a text") from None
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            named = f"; it has {', '.join(record)[:100]}" if isinstance(record, dict) else ""
            raise ValueError(f'{path} line {number} has no text in a field "text"{named}')
        yield record["text"]


def parquet_texts(path: Path) -> Iterator[str]:
    """The column "text" of a Parquet file."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f"reading {path} needs pyarrow; in the checkout: pip install -e '.[data]'") from None
    try:
        with parquet.ParquetFile(path) as file:
            if "text" not in file.schema_arrow.names:
                raise ValueError(f'{path} has no column "text"; it has {", ".join(file.schema_arrow.names)[:100]}')
            for batch in file.iter_batches(batch_size=1024, columns=["text"]):
                for text in batch.column(0).to_pylist():
                    if not isinstance(text, str):
                        raise ValueError(f'{path} has a row without a text in its column "text"')
                    yield text
    except pyarrow.ArrowException as error:
        raise ValueError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None


def paragraphs(lines: Iterable[str]) -> Iterator[str]:
    """Lines, joined up to the blank one that ends a paragraph."""
    held = []
    for line in lines:
        if line.strip():
            held.append(line)
        elif held:
            yield "".join(held)
            held = []
    if held:
        yield "".join(held)


def files_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """(the files that hold text, all others) in a folder and those below it, in order of their names."""
    inside = (f for f in folder.rglob("*") if not any(n.startswith(".") for n in f.relative_to(folder).parts))
    found = {file: holds_text(file) for file in sorted(inside) if file.is_file()}
    return [file for file, text in found.items() if text], [file for file, text in found.items() if not text]


def passed_over(folder: Path, files: list[Path]) -> str:
    """A sentence about the files that were passed over."""
    names = ", ".join(file.name for file in files[:5]) + (", ..." if files[5:] else "")
    return f"passed over, as no UTF-8 text: {len(files)} files of {folder} ({names})"


def holds_text(path: Path) -> bool:
    """Whether a file begins like one that can be read: UTF-8 without zeros, or a known kind of packed text."""
    if path.suffix in (".jsonl", ".parquet") or path.name.endswith((".jsonl.gz", ".txt.gz")):
        return True
    with open(path, "rb") as file:
        begin = file.read(LOOKED_AT)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(begin)
    except UnicodeDecodeError:
        return False
    return 0 not in begin
