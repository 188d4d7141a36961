"""Text files as a stream of characters: any UTF-8 file, or a folder of them, of any size.

Nothing here holds more than a few megabytes at a time, so a corpus may be larger than memory.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

CHUNK = 4 << 20  # bytes read at a time


class TextFiles:
    """The files behind a path, in order of their names, as one long text of `size` bytes.

    A folder is searched with all its subfolders; names beginning with a dot are left out.
    """

    def __init__(self, path: str | Path):
        path = Path(path)
        if not path.exists():
            raise ValueError(f"{path} does not exist; --data takes a text file or a folder of them")
        files = [path]
        if path.is_dir():
            inside = (f for f in path.rglob("*") if not any(n.startswith(".") for n in f.relative_to(path).parts))
            files = sorted(f for f in inside if f.is_file())
        self.path = path
        self.files = [(f, f.stat().st_size) for f in files]
        self.size = sum(size for _, size in self.files)
        if self.size == 0:
            raise ValueError(f"{path} holds no text: it is empty")

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[str]:
        """The text of the bytes [start, stop), a few megabytes at a time.

        A character that lies across `start` belongs to the stretch before, one across `stop` to this one, so that
        neighbouring stretches neither lose nor repeat any. Pieces end at the end of a line where they can.
        """
        stop = self.size if stop is None else stop
        begin = 0
        for path, size in self.files:
            if begin < stop and start < begin + size:
                yield from _read_file(path, size, max(0, start - begin), min(size, stop - begin))
            begin += size


def _read_file(path: Path, size: int, start: int, stop: int) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    held = ""  # the last, unfinished line of the piece before
    try:
        with open(path, "rb") as file:
            start = _next_character(file, start, size)
            stop = _next_character(file, stop, size)
            file.seek(start)
            at = start
            while at < stop:
                data = file.read(min(CHUNK, stop - at))
                if (zero := data.find(0)) >= 0:
                    raise ValueError(f"{path} is not text: byte {at + zero} is zero")
                text = held + decoder.decode(data, final=at + len(data) >= stop)
                if at == 0:
                    text = text.removeprefix("\ufeff")  # the mark some editors put at the front of a file
                at += len(data)
                end = text.rfind("\n") + 1 or len(text)
                if at >= stop:
                    end = len(text)
                held = text[end:]
                if end:
                    yield text[:end]
    except UnicodeDecodeError as error:
        place = at + error.start - len(decoder.getstate()[0])  # the decoder held back an unfinished character
        raise ValueError(
            f"{path} is not UTF-8 text: byte {error.object[error.start]:#04x} at position {place}; "
            "convert it to UTF-8 first"
        ) from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None


def _next_character(file, place: int, size: int) -> int:
    """The first position from `place` on where a UTF-8 character begins: bytes 10xxxxxx continue one."""
    while 0 < place < size:
        file.seek(place)
        if file.read(1)[0] & 0xC0 != 0x80:
            break
        place += 1
    return place
