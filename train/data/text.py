"""The user's text: the files behind a path, and which part of each is held out.

A file of plain text is read where it lies, in stretches of bytes; what holds records, or is packed, by
train/data/records.py. What is held out of a file is its end: whole paragraphs, or records, from the first that begins
in the last tenth on. Every file gives its share, so that neither part lacks what only one file speaks of.
"""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from models.files import ordinary
from train.data.records import PACKED, Records, files_in

CHUNK = 4 << 20  # bytes, or characters, read at a time
HELD_OUT = 0.1  # the share of every file, at its end, that is not trained on


class TextFiles:
    """The files behind a path, in order of their names, as one long text.

    A folder is searched with all its subfolders, but for names with a dot in front. passed_over: what is no text there.

    ValueError: nothing is there, or no text; a single file is not text.
    """

    def __init__(self, path: str | Path):
        self.path = path = Path(path)
        if not path.exists():
            raise ValueError(f"{path} does not exist; give a text file, or a folder of them")
        found, self.passed_over = files_in(path) if path.is_dir() else ([ordinary(path)], [])
        self.files = [opened(file) for file in found]
        self.size = sum(file.path.stat().st_size for file in self.files)  # bytes on the disk
        if not any(file.size for file in self.files):
            reason = f"none of its {len(self.passed_over)} files is UTF-8 text" if self.passed_over else "it is empty"
            raise ValueError(f"{path} holds no text: {reason}")

    def read(self) -> Iterator[str]:
        """All of the text, a few megabytes at a time."""
        for file in self.files:
            yield from file.read(0, file.size)


class PlainFile:
    """A file of UTF-8 text. Its `size` is in bytes."""

    def __init__(self, path: Path):
        self.path, self.size = path, path.stat().st_size

    def cut(self, share: float) -> int:
        """The byte where the held-out part begins: a paragraph's first, else a line's, else a character's.

        Looked for in half of that part, so that half of it at least is left.
        """
        earliest = int(self.size * (1 - share))
        with open(self.path, "rb") as file:
            file.seek(earliest)
            near = file.read((self.size - earliest) // 2)
        for gap in (rb"\n\r?\n\s*", rb"\n"):
            if (found := re.search(gap, near)) and found.end() < len(near):
                return earliest + found.end()
        return earliest

    def read(self, start: int, stop: int) -> Iterator[str]:
        """The text of the bytes [start, stop), a few megabytes at a time.

        A character that lies across `start` belongs to the stretch before, one across `stop` to this one, so that
        neighbouring stretches neither lose nor repeat any. Pieces end at the end of a line where they can.
        """
        decoder, held = codecs.getincrementaldecoder("utf-8")(), ""  # the last, unfinished line of the piece before
        at = start
        try:
            with open(self.path, "rb") as file:
                at, stop = self._character(file, start), self._character(file, stop)
                file.seek(at)
                while at < stop:
                    data = file.read(min(CHUNK, stop - at))
                    if not data:
                        raise ValueError(f"{self.path} became shorter while it was read")
                    if (zero := data.find(0)) >= 0:
                        raise ValueError(f"{self.path} is not text: byte {at + zero} is zero")
                    last = at + len(data) >= stop
                    text = held + decoder.decode(data, final=last)
                    if at == 0:
                        text = text.removeprefix("\ufeff")  # the mark some editors put at the front of a file
                    at += len(data)
                    end = len(text) if last else text.rfind("\n") + 1 or len(text)
                    held = text[end:]
                    if end:
                        yield text[:end]
        except UnicodeDecodeError as error:
            place = at + error.start - len(decoder.getstate()[0])  # the decoder held back an unfinished character
            what = f"{self.path} is not UTF-8 text: byte {error.object[error.start]:#04x} at position {place}"
            raise ValueError(f"{what}; convert it to UTF-8 first") from None
        except OSError as error:
            raise ValueError(f"{self.path} cannot be read: {error.strerror}") from None

    def _character(self, file, place: int) -> int:
        """The first position from `place` on where a UTF-8 character begins: bytes 10xxxxxx continue one."""
        while 0 < place < self.size:
            file.seek(place)
            if file.read(1)[0] & 0xC0 != 0x80:
                break
            place += 1
        return place


def opened(path: Path) -> PlainFile | Records:
    """A file of text, by the end of its name."""
    return Records(path, CHUNK) if path.suffix in PACKED else PlainFile(path)
