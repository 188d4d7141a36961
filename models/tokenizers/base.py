"""What every tokenizer has in common: special tokens, batches, and sentences framed for a model.

A tokenizer turns text into ids and back. How it cuts the text is the business of the other files in this folder; this
one holds what does not depend on the scheme. Special tokens (`<|endoftext|>`, `[SEP]`) are names outside the text:
`encode` reads them as ordinary characters unless `special=True` asks otherwise, so no user can write his way out of a
prompt. `prepare` builds what an encoder model eats: `[CLS] A [SEP] B [SEP]`, cut to a length, padded to a rectangle,
with token types and a mask.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from models.files import read_json, write_json
from models.tokenizers.processes import encode_all

WHITE_SPACE = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
CACHED_WORDS = 1 << 18


@dataclass
class Special:
    """A special token's id, and whether it swallows the white space beside it (RoBERTa's <mask> does, to the left)."""
    id: int
    lstrip: bool = False
    rstrip: bool = False


@dataclass
class Frame:
    """What surrounds one text, and two: "A" and "B" stand for the texts, the rest are special tokens.

    `types` gives the token type of every item of `pair` (a single text is all type 0).
    """
    single: list[str] = field(default_factory=lambda: ["A"])
    pair: list[str] = field(default_factory=lambda: ["A", "B"])
    types: list[int] = field(default_factory=lambda: [0, 1])


@dataclass
class Batch:
    """Rows of equal length. ids, types: (B, T) int64; mask: (B, T) bool, False on padding."""
    ids: np.ndarray
    types: np.ndarray
    mask: np.ndarray


class Tokenizer:
    """The parent of all schemes. A scheme defines `encode_plain`, `spans`, `decode` and its files.

    tokens: every token as a readable string, by id (None where an id is unused).
    special: the special tokens by name.
    frame: how single texts and pairs are dressed for a model; pad_token fills up short rows.

    What its ids mean is asked of the tokenizer: pad_id, end_id, separator_id, mask_id, unk_id. Each is None where there
    is no such token, and whoever cannot do without one refuses in his own words.
    """

    unk_id: int | None = None  # stands for what no token spells; set by the schemes that need one

    def __init__(self, special: dict[str, Special] | None = None, frame: Frame | None = None,
                 pad_token: str | None = None):
        self.special = dict(special or {})
        self.frame = frame or Frame()
        self.pad_token = pad_token
        for token in {*self.frame.single, *self.frame.pair, pad_token} - {"A", "B", None}:
            if token not in self.special:
                raise ValueError(f"the frame or padding uses {token!r}, which is not a special token; add it, "
                                 f"or choose one of {sorted(self.special)}")

    # ---- text -> ids

    def encode(self, text: str, special: bool = False) -> list[int]:
        """The ids of a text. With special=True the names of special tokens in the text stand for themselves."""
        try:
            if not special:
                return self.encode_plain(text)
            ids = []
            for start, end, token in self.split_special(text):
                ids += self.encode_plain(text[start:end]) if token is None else [token.id]
            return ids
        except UnicodeEncodeError:
            raise no_text(text) from None

    def encode_with_offsets(self, text: str, special: bool = False) -> tuple[list[int], list[tuple[int, int]]]:
        """The ids, and for each the (start, end) of the characters it came from: text[start:end].

        Tokens that hold only part of a character (its bytes) report the whole character.
        """
        ids, offsets = [], []
        try:
            for start, end, token in self.split_special(text) if special else [(0, len(text), None)]:
                found, spans = self.spans(text[start:end]) if token is None else ([token.id], [(0, end - start)])
                ids += found
                offsets += [(start + a, start + b) for a, b in spans]
        except UnicodeEncodeError:
            raise no_text(text) from None
        return ids, offsets

    def encode_array(self, text: str) -> np.ndarray:
        """The ids as an array of the smallest unsigned type that holds the vocabulary."""
        return np.array(self.encode(text), dtype=self.dtype)

    def encode_batch(self, texts: Iterable[str], special: bool = False, workers: int | None = None) -> list[list[int]]:
        """The ids of many texts. Large batches are shared out over the cores; workers=1 stays in this process."""
        return encode_all(lambda text: self.encode(text, special), list(texts), workers)

    def split_special(self, text: str) -> Iterator[tuple[int, int, Special | None]]:
        """(start, end, special token or None for ordinary text), covering the text; longer names win."""
        names = sorted(self.special, key=len, reverse=True)
        done = 0
        for match in re.finditer("|".join(f"({re.escape(name)})" for name in names) or "(?!)", text):
            token = self.special[names[match.lastindex - 1]]
            start, end = match.span()
            while token.lstrip and start > done and text[start - 1] in WHITE_SPACE:
                start -= 1
            while token.rstrip and end < len(text) and text[end] in WHITE_SPACE:
                end += 1
            if start > done:
                yield done, start, None
            yield start, end, token
            done = end
        if done < len(text):
            yield done, len(text), None

    # ---- vocabulary

    @property
    def vocab_size(self) -> int:
        return len(self.tokens)

    @property
    def special_tokens(self) -> dict[str, int]:
        """The ids of the special tokens by name."""
        return {name: token.id for name, token in self.special.items()}

    @property
    def dtype(self) -> type:
        return np.uint16 if self.vocab_size <= 1 << 16 else np.uint32

    @property
    def pad_id(self) -> int | None:
        """Fills up short rows."""
        return self.special[self.pad_token].id if self.pad_token else None

    @property
    def separator_id(self) -> int | None:
        """Stands behind a text in the frame ([SEP], </s>), and so between one text and the next."""
        last = self.frame.single[-1]
        return self.special[last].id if last in self.special else None

    @property
    def end_id(self) -> int | None:
        """Ends a text that is written: what stands behind one in the frame, else <|endoftext|>."""
        return self.special_tokens.get("<|endoftext|>") if self.separator_id is None else self.separator_id

    @property
    def mask_id(self) -> int | None:
        """Stands where a token is to be guessed."""
        return next((self.special[name].id for name in ("[MASK]", "<mask>") if name in self.special), None)

    @property
    def sentinel_ids(self) -> list[int]:
        """Of T5's <extra_id_0>, <extra_id_1>, ..., which stand for what was cut out; there may be none."""
        names = (f"<extra_id_{i}>" for i in range(len(self.special)))
        return [self.special[name].id for name in names if name in self.special]

    def continues_word(self) -> np.ndarray:
        """(V,) booleans: does the token go on with the word of the token before it?

        ValueError if the tokens do not tell, as those of single characters.
        """
        raise ValueError(f"{type(self).__name__}: these tokens do not say where words begin")

    def starting_with(self, sign: str) -> np.ndarray:
        """(V,) booleans: does the token begin with this sign?"""
        return np.array([(token or "").startswith(sign) for token in self.tokens])

    def id_of(self, token: str) -> int:
        if token in self.special:
            return self.special[token].id
        try:
            return self.tokens.index(token)
        except ValueError:
            raise ValueError(f"the vocabulary of {self.vocab_size} tokens has no {token!r}") from None

    def check_ids(self, ids: Iterable[int]) -> list[int]:
        """The ids as a list; ValueError names the first one that is no token."""
        ids = np.asarray(ids).ravel().tolist() if isinstance(ids, np.ndarray) else list(ids)
        if ids and not (min(ids) >= 0 and max(ids) < self.vocab_size):
            at = next(i for i, one in enumerate(ids) if not 0 <= one < self.vocab_size)
            raise ValueError(f"id {ids[at]} at position {at} is outside the vocabulary of {self.vocab_size} tokens; "
                             f"decode with the tokenizer that made the ids")
        return ids

    def gives_back(self, text: str) -> bool:
        """Whether this text can be read from its ids, with its capitals, spaces and ends of lines."""
        return self.decode(self.encode(text)) == text

    def tokens_of(self, ids: Iterable[int]) -> list[str]:
        """The token of every id."""
        tokens = self.tokens
        found = [tokens[i] for i in self.check_ids(ids)]
        if None in found:
            raise ValueError(f"id {list(ids)[found.index(None)]} belongs to no token: the vocabulary file skips it")
        return found

    # ---- batches for a model

    def prepare(self, texts: list[str], pairs: list[str] | None = None, max_length: int | None = None,
                pad_to: int | None = None, special: bool = False) -> Batch:
        """Texts, or texts and their partners, dressed in the frame, cut to max_length and padded to one length.

        Longest first: of a pair too long for max_length the longer text is cut until both are equally long, then
        both (the second keeps the odd token, unless the first was the longer one). Rows are padded on the right to
        the longest, or to pad_to.
        """
        if pairs is not None and len(pairs) != len(texts):
            raise ValueError(f"prepare: {len(texts)} texts but {len(pairs)} partners; give one for each")
        firsts = self.encode_batch(texts, special)
        seconds = self.encode_batch(pairs, special) if pairs is not None else [None] * len(firsts)
        rows = [self.dress(*self.truncate(a, b, max_length)) for a, b in zip(firsts, seconds)]
        lengths = {len(ids) for ids, _ in rows}
        if pad_to is not None and lengths and (longest := max(lengths)) > pad_to:
            raise ValueError(f"prepare: a row has {longest} tokens, more than pad_to={pad_to}; "
                             f"set max_length={pad_to} to cut it")
        if self.pad_token is None and len(lengths | {pad_to} - {None}) > 1:
            raise ValueError("prepare: rows of unequal length need padding, but this tokenizer has no pad_token; "
                             "set tokenizer.pad_token to one of its special tokens")
        return self.batch(rows, pad_to)

    def batch(self, rows: list[tuple[list[int], list[int]]], length: int | None = None) -> Batch:
        """Dressed rows, (ids, types) each, padded on the right to the longest, or to `length`."""
        if not rows:
            empty = np.zeros((0, length or 0), int)
            return Batch(empty, empty, empty.astype(bool))
        ids, types = ([np.array(row, int) for row in part] for part in zip(*rows))
        padded = pad(ids, self.pad_id or 0, length)
        mask = np.arange(padded.shape[1]) < np.array([len(row) for row in ids])[:, None]
        return Batch(padded, pad(types, 0, length), mask)

    def dress(self, a: list[int], b: list[int] | None = None) -> tuple[list[int], list[int]]:
        """The ids and token types of one text, or of a pair, in the frame."""
        ids, types = [], []
        items, item_types = (self.frame.single, [0] * len(self.frame.single)) if b is None else \
            (self.frame.pair, self.frame.types)
        for item, item_type in zip(items, item_types):
            some = a if item == "A" else b if item == "B" else [self.special[item].id]
            ids += some
            types += [item_type] * len(some)
        return ids, types

    def truncate(self, a: list[int], b: list[int] | None, max_length: int | None) -> tuple[list[int], list[int] | None]:
        if max_length is None:
            return a, b
        room = max_length - len(self.frame.single if b is None else self.frame.pair) + (1 if b is None else 2)
        if room < 0:
            raise ValueError(f"max_length {max_length} is too short for the special tokens alone; "
                             f"use at least {max_length - room}")
        if b is None:
            return a[:room], None
        if len(a) + len(b) <= room:
            return a, b
        short, long = sorted((len(a), len(b)))
        long = max(short, room - short)
        if short + long > room:
            short, long = room // 2, room - room // 2
        keep_a, keep_b = (long, short) if len(a) > len(b) else (short, long)
        return a[:keep_a], b[:keep_b]


def distinct(special_tokens: Iterable[str], unknown: str | None = None) -> list[str]:
    """The special tokens of a vocabulary to be learnt: no name twice, and among them the one for what is unknown."""
    names = list(special_tokens)
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"the special token {twice[0]!r} is named twice; name each once")
    if unknown is not None and unknown not in names:
        raise ValueError(f"{unknown!r} is not among the special tokens {names}; it stands for what cannot be spelt")
    return names


def no_text(text: str) -> ValueError:
    at = next(i for i, character in enumerate(text) if "\ud800" <= character <= "\udfff")
    return ValueError(f"character {text[at]!r} at position {at} is half of a surrogate pair and stands for no text; "
                      f"decode the source with errors='replace'")


class WordCache(dict):
    """The ids of every word met so far: a missing word is encoded and remembered.

    Most words of a text have been seen before, so this is what makes the merging schemes fast.
    """

    def __init__(self, encode_word: Callable[[str], list[int]]):
        self.encode_word = encode_word

    def __missing__(self, word):
        ids = self[word] = self.encode_word(word)
        return ids

    def ids(self, words: list[str]) -> Iterator[int]:
        if len(self) > CACHED_WORDS:  # text with endless new words must not fill the memory
            self.clear()
        return chain.from_iterable(map(self.__getitem__, words))


def pad(rows: Sequence, fill=0, length: int | None = None, *, left: bool = False, axis: int = 0) -> np.ndarray:
    """N arrays that differ in their length along `axis` -> one array (N, ...) of the first one's dtype.

    length: of the result along that axis, if not the longest row's.   left: put the fill in front of the rows.
    """
    rows = [np.asarray(row) for row in rows]
    length = max(row.shape[axis] for row in rows) if length is None else length
    before, after = rows[0].shape[:axis], rows[0].shape[axis + 1 :]
    padded = np.full((len(rows), *before, length, *after), fill, rows[0].dtype)
    for place, row in zip(padded, rows):
        n = row.shape[axis]
        place[(slice(None),) * axis + (slice(length - n, length) if left else slice(n),)] = row
    return padded


# ---- files

def tokenizer_file(path: str | Path) -> Path:
    """The file meant by a path: itself if it ends in .json, else tokenizer.json in that folder."""
    path = Path(path)
    return path if path.suffix == ".json" else path / "tokenizer.json"


def read_own(path: str | Path, kind: str) -> dict:
    """A tokenizer.json of our own small kind, for schemes that have no published layout."""
    path = tokenizer_file(path)
    spec = read_json(path, "a tokenizer")
    if spec.get("type") != kind:
        raise ValueError(f"{path} does not hold a {kind} tokenizer; open it with models.tokenizers.load")
    return spec


def write_own(path: str | Path, kind: str, table: dict) -> None:
    """Writes such a file."""
    write_json(tokenizer_file(path), {"type": kind} | table)
