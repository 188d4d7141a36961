"""A corpus: a text as two files of token ids, one to train on and one held out, read through memory maps.

Tokens are encoded once, piece by piece, into the run's folder. A memory map reads from disk only what is asked for, so
neither encoding nor training needs the corpus to fit in memory. The built-in stories come with their entropy: the
loss, in nats per character, of a model that knows all about how they were made, below which no model can get.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from models.files import intact, read_json, replace_file, write_json
from models.schema import NotNegative, Size, checked
from models.tokenizers import Tokenizer
from train.data.documents import SentenceEncoder
from train.data.records import passed_over
from train.data.text import HELD_OUT, TextFiles
from train.report import bar

LOOKED_AT = 10_000  # characters that tell whether a tokenizer gives the text back


@dataclass(frozen=True)
class Split:
    """The sizes of one part of the corpus, and its entropy in nats, where that is known."""

    tokens: Size
    characters: Size
    bytes: Size
    nats: NotNegative | None = None

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


class FileSource:
    """The text of a file or folder; of every file the end is held out, or instead all of the text behind `val`."""

    def __init__(self, path: str | Path, val: str | Path | None = None, held_out: float = HELD_OUT):
        self.files, self.val = TextFiles(path), val and TextFiles(val)
        self.nats = (None, None)
        if val:
            apart = {file.path.resolve() for file in self.val.files}
            self.files.files = [file for file in self.files.files if file.path.resolve() not in apart]
            if not self.files.files:
                raise ValueError(f"--data {path} holds no other text than --val {val}; name two different ones")
        self.cuts = [file.size if val else file.cut(held_out) for file in self.files.files]

    def parts(self) -> tuple[Iterable[str], Iterable[str]]:
        """The training text and the held-out text, each as pieces; may be called again to read them again."""
        files = list(zip(self.files.files, self.cuts))
        trained_on = (piece for file, cut in files for piece in file.read(0, cut))
        ends = (piece for file, cut in files for piece in file.read(cut, file.size))
        return trained_on, self.val.read() if self.val else ends

    def said(self) -> str:
        """What is held out, and which files were no text, a sentence a line."""
        many = f"each of {len(self.cuts)} files" if len(self.cuts) > 1 else str(self.files.files[0].path)
        held = f"all of {self.val.path}" if self.val else f"the last tenth of {many}, from the start of a paragraph"
        texts = (text for text in (self.files, self.val) if text and text.passed_over)
        told = [passed_over(text.path, text.passed_over) for text in texts]
        return "\n".join([f"held out, not trained on: {held}", *told])


def build_corpus(source, tokenizer: Tokenizer | SentenceEncoder, folder: Path) -> Corpus:
    """Encode a source into folder/train.bin and folder/val.bin, with their sizes in folder/corpus.json."""
    splits = {}
    for name, pieces, nats in zip(("train", "val"), source.parts(), source.nats):

        def write(path: Path, name=name, pieces=pieces, nats=nats) -> None:
            with open(path, "wb") as file:
                splits[name] = asdict(encode(pieces, tokenizer, file.write, nats))

        replace_file(folder / f"{name}.bin", write)
    write_json(folder / "corpus.json", splits | {"dtype": np.dtype(tokenizer.dtype).name})
    return open_corpus(folder)


@dataclass(frozen=True)
class About:
    """What corpus.json says of the token files beside it."""

    train: Split
    val: Split
    dtype: Literal["uint16", "uint32"]


def open_corpus(folder: Path, known: int | None = None) -> Corpus:
    """The corpus that build_corpus left in a folder.

    known: how many tokens the tokenizer has that made it; no other may be there. (Memory is read faster than a disk.)
    """
    about = checked(About, read_json(folder / "corpus.json", "the sizes of a corpus"), folder / "corpus.json")
    maps = []
    for path, split in ((folder / "train.bin", about.train), (folder / "val.bin", about.val)):
        if (size := intact(path).stat().st_size) != split.tokens * np.dtype(about.dtype).itemsize:
            raise ValueError(f"{path} is damaged: {split.tokens} tokens do not have {size} bytes")
        tokens = np.memmap(path, about.dtype, "r") if split.tokens else np.zeros(0, about.dtype)
        if known is not None and len(tokens) and (most := tokens.max()) >= known:
            raise ValueError(f"{path} holds the token {most}, and the tokenizer beside it knows {known} tokens")
        maps.append(tokens)
    return Corpus(*maps, about.train, about.val)


def encode(pieces: Iterable[str], tokenizer: Tokenizer | SentenceEncoder, keep: Callable, nats=None) -> Split:
    """Give a part's tokens to keep(ids). Its entropy bounds the loss only if the tokens say all that the text says."""
    tokens, characters, size = 0, 0, 0
    for piece in bar(pieces, "encoding", unit=" pieces"):
        nats = nats if nats is not None and tokenizer.gives_back(piece[:LOOKED_AT]) else None
        ids = tokenizer.encode_array(piece).astype(tokenizer.dtype, copy=False)
        keep(ids)
        tokens, characters, size = tokens + len(ids), characters + len(piece), size + len(piece.encode())
    return Split(tokens, characters, size, nats)
