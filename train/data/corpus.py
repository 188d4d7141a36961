"""A corpus: a text as two files of token ids, one to train on and one held out, read through memory maps.

Tokens are encoded once, piece by piece, into the run's folder. A memory map reads from disk only what is asked for, so
neither encoding nor training needs the corpus to fit in memory. The built-in stories come with their entropy: the
loss, in nats per character, of a model that knows all about how they were made, below which no model can get.
"""

from __future__ import annotations

import bisect
import codecs
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from models.files import read_json, write_json
from models.tokenizers import Tokenizer
from train.data import stories
from train.data.documents import SentenceEncoder

CHUNK = 4 << 20  # bytes of a text file read at a time
LOOKED_AT = 10_000  # characters that tell whether a tokenizer gives the text back
HELD_OUT = 0.1  # the share of the text, at its end, that is not trained on


@dataclass(frozen=True)
class Split:
    """The sizes of one part of the corpus, and its entropy in nats, where that is known."""

    tokens: int
    characters: int
    bytes: int
    nats: float | None = None

    @property
    def floor(self) -> float | None:
        """The entropy in nats per token: the lowest loss that any model can have on average."""
        return None if self.nats is None or not self.tokens else self.nats / self.tokens


@dataclass(frozen=True)
class Corpus:
    """The tokens of both parts, as memory maps, and their sizes."""

    train: np.ndarray
    val: np.ndarray
    train_split: Split
    val_split: Split


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
    decoder, held = codecs.getincrementaldecoder("utf-8")(), ""  # the last, unfinished line of the piece before
    try:
        with open(path, "rb") as file:
            at, stop = _next_character(file, start, size), _next_character(file, stop, size)
            file.seek(at)
            while at < stop:
                data = file.read(min(CHUNK, stop - at))
                if (zero := data.find(0)) >= 0:
                    raise ValueError(f"{path} is not text: byte {at + zero} is zero")
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
        what = f"{path} is not UTF-8 text: byte {error.object[error.start]:#04x} at position {place}"
        raise ValueError(f"{what}; convert it to UTF-8 first") from None
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


class FileSource:
    """The text of a file or folder; the last tenth of its bytes is held out."""

    def __init__(self, path: str | Path, held_out: float = HELD_OUT):
        self.files = TextFiles(path)
        self.cut = int(self.files.size * (1 - held_out))
        self.nats = (None, None)

    def parts(self) -> tuple[Iterable[str], Iterable[str]]:
        """The training text and the held-out text, each as pieces; may be called again to read them again."""
        return self.files.read(0, self.cut), self.files.read(self.cut)


class StoriesSource:
    """The built-in stories. The last tenth is held out, from the start of a story on, so its entropy is exact."""

    def __init__(self, characters: int, seed: int = 0, held_out: float = HELD_OUT):
        told = stories.corpus(characters, seed)
        first = bisect.bisect_left(told.starts, len(told.text) * (1 - held_out))
        cut, nats = told.starts[first], told.nats_before[first]
        self.texts = told.text[:cut], told.text[cut:]
        self.nats = (nats, told.nats - nats)

    def parts(self) -> tuple[Iterable[str], Iterable[str]]:
        """The training text and the held-out text, each as one piece."""
        return [self.texts[0]], [self.texts[1]]


def build_corpus(source, tokenizer: Tokenizer | SentenceEncoder, folder: Path) -> Corpus:
    """Encode a source into folder/train.bin and folder/val.bin, with their sizes in folder/corpus.json."""
    splits = {}
    for name, pieces, nats in zip(("train", "val"), source.parts(), source.nats):
        with open(folder / f"{name}.bin", "wb") as file:
            splits[name] = asdict(_encode(pieces, tokenizer, lambda ids: ids.tofile(file), nats))
    write_json(folder / "corpus.json", splits | {"dtype": np.dtype(tokenizer.dtype).name})
    return open_corpus(folder)


def open_corpus(folder: Path) -> Corpus:
    """The corpus that build_corpus left in a folder."""
    try:
        about = read_json(folder / "corpus.json", "the sizes of a corpus")
        dtype, splits = about["dtype"], [Split(**about[name]) for name in ("train", "val")]
        read = lambda file, split: np.memmap(file, dtype, "r") if split.tokens else np.zeros(0, dtype)
        maps = [read(folder / f"{name}.bin", split) for name, split in zip(("train", "val"), splits)]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} holds no readable corpus (corpus.json, train.bin, val.bin): {error}") from None
    for tokens, split in zip(maps, splits):
        if len(tokens) != split.tokens:
            raise ValueError(f"the token files in {folder} are damaged: {len(tokens)} tokens, expected {split.tokens}")
    return Corpus(*maps, *splits)


def encode_text(pieces: Iterable[str], tokenizer: Tokenizer | SentenceEncoder) -> tuple[np.ndarray, Split]:
    """A text that fits in memory as tokens, with its sizes."""
    arrays = [np.zeros(0, tokenizer.dtype)]
    split = _encode(pieces, tokenizer, arrays.append)
    return np.concatenate(arrays), split


def _encode(pieces: Iterable[str], tokenizer: Tokenizer | SentenceEncoder, keep: Callable, nats=None) -> Split:
    """Give a part's tokens to keep(ids). Its entropy bounds the loss only if the tokens say all that the text says."""
    tokens, characters, size = 0, 0, 0
    for piece in pieces:
        nats = nats if nats is not None and tokenizer.gives_back(piece[:LOOKED_AT]) else None
        ids = tokenizer.encode_array(piece).astype(tokenizer.dtype, copy=False)
        keep(ids)
        tokens, characters, size = tokens + len(ids), characters + len(piece), size + len(piece.encode())
    return Split(tokens, characters, size, nats)


def all_text(source) -> Iterator[str]:
    """The pieces of both parts of a source: what a tokenizer learns from."""
    for part in source.parts():
        yield from part
