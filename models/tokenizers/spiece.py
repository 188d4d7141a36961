"""SentencePiece models of every kind, followed as its library does: Llama's, Gemma's, mT5's (Kudo & Richardson 2018).

The text is normalized from left to right, by the longest rule that fits, white space is written as U+2581, and the
whole is cut into pieces: by the likeliest segmentation (unigram.py), or, in a BPE model, by joining the neighbours
whose piece has the best score, the leftmost first among equals. What no piece spells is <unk>, or its bytes: <0xC3>
<0xA9>. User-defined symbols stay as they are: no rule changes them, no merge takes one apart.

T5's and other plain models are read as Unigram, which is faster and is written as tokenizer.json. These are written as
what they were read from.
"""

import base64
import heapq
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Self

import numpy as np

from models.files import read_bytes
from models.schema import Whole
from models.tokenizers.base import Frame, Special, Tokenizer, file_to_read, read_own, write_own
from models.tokenizers.methods import WordCache
from models.tokenizers.pipeline.file import Padding, Truncation
from models.tokenizers.pipeline.models import UNKNOWN_PENALTY, likeliest, piece_table
from models.tokenizers.sentencepiece import (
    BYTE,
    CONTROL,
    MARK,
    NORMAL,
    UNKNOWN,
    UNUSED,
    USER_DEFINED,
    Charsmap,
    parsed,
)
from models.tokenizers.unigram import T5_FRAME, added_to

ALBERT_FRAME = Frame(["[CLS]", "A", "[SEP]"], ["[CLS]", "A", "[SEP]", "B", "[SEP]"], [0, 0, 0, 1, 1])


@dataclass(frozen=True)
class Saved:
    """What `save` writes: the model's file in base64, what stood beside it, and the options of its class."""

    model: str
    added: dict[str, Special] = field(default_factory=dict)
    truncation: Truncation | None = None
    padding: Padding | None = None
    longest: Whole | None = None
    options: dict[str, bool] = field(default_factory=dict)


class SentencePiece(Tokenizer):
    """data: of a model's file.   added: tokens besides its own special ones, which are its control pieces and <unk>."""

    opening = MARK
    options: Mapping[str, bool] = MappingProxyType({})  # keywords that a class of its kind takes besides

    def __init__(self, data: bytes, added: dict[str, Special] | None = None, path: str | Path = "the model"):
        self.data, self.rules, added = data, parsed(data, path), added or {}
        self.charsmap = Charsmap(self.rules.charsmap) if self.rules.charsmap else None
        by_id = {i: piece for i, (piece, _, _) in enumerate(self.rules.pieces)}
        by_id |= {token.id: name for name, token in added.items()}
        self.tokens = [by_id.get(i) for i in range(max(by_id) + 1)]
        ids = {wanted: {piece: i for i, (piece, _, kind) in enumerate(self.rules.pieces) if kind == wanted}
               for wanted in (NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE)}  # fmt: skip
        special, self.control = self.rules.special | added, set(ids[CONTROL].values())
        frame = T5_FRAME if "</s>" in special and "<s>" not in special else None
        frame = ALBERT_FRAME if {"[CLS]", "[SEP]"} <= special.keys() else frame
        super().__init__(special, frame, next((one for one in ("<pad>", "[PAD]") if one in special), None))
        self.unk_id, self.byte_of = self.rules.unk_id, {i: int(piece[3:5], 16) for piece, i in ids[BYTE].items()}
        self.bytes = {byte: i for i, byte in self.byte_of.items()} if self.rules.byte_fallback else {}
        self.ids, self.unused = ids[NORMAL] | ids[USER_DEFINED] | ids[UNUSED], ids[UNUSED]
        scores = {piece: self.rules.pieces[i][1] for piece, i in self.ids.items()}
        normal = [scores[piece] for piece in ids[NORMAL]] or [0.0]
        self.unknown_score = np.float32(min(normal)) - np.float32(UNKNOWN_PENALTY)
        if self.rules.kind == "unigram":  # a symbol wins over a cut through it, a longer one over a shorter
            scores |= {piece: 0.1 * (len(piece.encode()) - 1) for piece in ids[USER_DEFINED]}
        self.scores, self.mark = scores, MARK if self.rules.escape else " "
        self.table = piece_table([(piece, np.float32(score), self.ids[piece]) for piece, score in scores.items()
                                  if piece not in self.unused])  # fmt: skip
        self.symbols, longest_first = ids[USER_DEFINED], sorted(ids[USER_DEFINED], key=len, reverse=True)
        self.symbol = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        self.letters = re.compile(f"{self.symbol.pattern}|.", re.DOTALL)
        self.cache = WordCache(self.merge)
        self.word = re.compile(f"{self.mark}*[^{self.mark}]+|{self.mark}+")
        if self.rules.kind == "unigram" or any(re.search(f"[^{self.mark}]{self.mark}", piece) for piece in self.ids):
            self.word = re.compile(r".+", re.DOTALL)  # sums go on through a text, and pieces may

    # ---- encoding and decoding

    def encode_plain(self, text: str) -> list[int]:
        return [i for i, _, _ in self._pieces(self.normalized(text)[0])]

    def spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        text, places = self.normalized(text)
        found = self._pieces(text)
        return [i for i, _, _ in found], [(places[start][0], places[end - 1][1]) for _, start, end in found]

    def normalized(self, text: str) -> tuple[str, list[tuple[int, int]]]:
        """What the pieces are to spell, and where in the text each of its characters came from."""
        rules, parts = self.rules, self.replaced(text)
        if rules.collapse:  # runs of spaces become one, and none stands at the ends
            spaces = next((n for n, (new, _, _) in enumerate(parts) if new != " "), len(parts))
            parts = parts[spaces:]
        if not parts:
            return "", []
        out, places, after_space = [], [], rules.collapse
        if rules.prefix and not rules.suffix:
            out, places = [self.mark], [(parts[0][1], parts[0][1])]
        for new, start, end in parts:
            if new := new.lstrip(" ") if after_space else new:
                out.append(new)
                places += [(start, end)] * len(new)
                after_space = rules.collapse and new[-1] == " "
        text = "".join(out).replace(" ", self.mark)
        text = text.rstrip(self.mark) if rules.collapse else text
        if rules.prefix and rules.suffix:
            end = places[len(text) - 1][1] if text else parts[0][1]
            text, places = text + self.mark, [*places[: len(text)], (end, end)]
        return text, places

    def replaced(self, text: str) -> list[tuple[str, int, int]]:
        """The text in parts: (what each is replaced by, its start, its end)."""
        if not self.charsmap and " " not in self.symbol.pattern:
            return list(zip(text, range(len(text)), range(1, len(text) + 1)))
        data, parts, start, at = text.encode(), [], 0, 0
        while start < len(text):
            if symbol := self.symbol.match(text, start):
                new, end = symbol[0], symbol.end()
            else:
                found, length = self.charsmap.longest(data, at) if self.charsmap else (b"", 0)
                end = start + (len(data[at : at + length].decode()) or 1)
                new = found.decode() if length else text[start]
            parts.append((new, start, end))
            at += len(text[start:end].encode())
            start = end
        return parts

    def _pieces(self, text: str) -> list[tuple[int, int, int]]:
        """(id, start, end) of each piece of normalized text."""
        self.cache.make_room()
        cut, found, start = self.segment if self.rules.kind == "unigram" else self.cache.__getitem__, [], 0
        for word in self.word.findall(text):
            for i, size in cut(word):
                end = start + size
                if i != self.unk_id:
                    found.append((i, start, end))
                elif self.bytes:
                    found += [(self.bytes[byte], start, end) for byte in text[start:end].encode()]
                elif found and found[-1][0] == i:  # neighbouring unknowns become one
                    found[-1] = (i, found[-1][1], end)
                else:
                    found.append((i, start, end))
                start = end
        return found

    def segment(self, word: str) -> list[tuple[int, int]]:
        """(id, length) of the likeliest pieces."""
        found, start = [], 0
        for i, end in likeliest(word, self.table, self.unknown_score, self.unk_id):
            found.append((i, end - start))
            start = end
        return found

    def merge(self, word: str) -> list[tuple[int, int]]:
        """(id, length) of what is left when no two neighbours are a piece any more.

        A heap holds the pairs that could be joined. One is out of date if its halves are no longer what they were.
        """
        parts = self.letters.findall(word)
        fixed = {n for n, part in enumerate(parts) if part in self.symbols}
        after, before = [*range(1, len(parts)), None], [None, *range(len(parts) - 1)]
        heap, made_of = [], {}

        def offer(left: int | None, right: int | None) -> None:
            if left is not None and right is not None and not {left, right} & fixed:
                whole = parts[left] + parts[right]
                if whole in self.scores:
                    heapq.heappush(heap, (-self.scores[whole], left, right, whole))
                    if whole in self.unused:
                        made_of[whole] = parts[left], parts[right]

        for left in range(len(parts) - 1):
            offer(left, left + 1)
        while heap:
            _, left, right, whole = heapq.heappop(heap)
            if parts[left] and parts[right] and parts[left] + parts[right] == whole and after[left] == right:
                parts[left], parts[right] = whole, ""
                after[left] = after[right]
                if after[right] is not None:
                    before[after[right]] = left
                offer(before[left], left)
                offer(left, after[left])
        return [one for part in parts if part for one in self.apart(part, made_of)]

    def apart(self, part: str, made_of: dict[str, tuple[str, str]]) -> list[tuple[int, int]]:
        """(id, length) of a part. Unused pieces are merged like others, and then taken apart again."""
        if part in made_of:
            return [one for half in made_of[part] for one in self.apart(half, made_of)]
        return [(self.unk_id if part in self.unused else self.ids.get(part, self.unk_id), len(part))]

    def decode(self, ids: Iterable[int]) -> str:
        """The normalized text. Bytes that make no character are U+FFFD, one each."""
        rules, texts, data, begins = self.rules, [], b"", True
        for i in self.check_ids(ids):
            if i in self.byte_of:
                data += bytes([self.byte_of[i]])
                continue
            texts.append(readable(data))
            data, piece = b"", self.tokens[i]
            begins = begins and not any(texts)
            if i == self.unk_id:
                texts.append(rules.unk_surface)
            elif i not in self.control:
                if begins and (rules.prefix or rules.collapse):
                    begins = rules.collapse or not piece.startswith(MARK)
                    piece = piece.removeprefix(MARK)
                texts.append(piece.replace(MARK, " "))
        return "".join([*texts, readable(data)])

    # ---- files

    def save(self, path: str | Path) -> None:
        """Writes tokenizer.json into a folder, or to a path ending in .json."""
        model = base64.b64encode(self.data).decode()
        saved = Saved(model, self.added, self.truncation, self.padding, self.longest, dict(self.options))
        write_own(path, type(self).__name__, asdict(saved))

    @classmethod
    def options_beside(cls, path: Path) -> dict[str, bool]:
        """What the files beside a model's say of the options."""
        return {}

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a model's file, with those beside it (older.py), or what `save` has written."""
        path = file_to_read(path, "tokenizer.model", "spiece.model")
        if path.suffix == ".model":
            data = read_bytes(path)
            saved, options = added_to(parsed(data, path), path), cls.options_beside(path)
        else:
            saved = read_own(path, cls.__name__, Saved)
            options = {name: one for name, one in saved.options.items() if name in cls.options}
            try:
                data = base64.b64decode(saved.model, validate=True)
            except ValueError as error:
                raise ValueError(f"{path}: its model is not in base64: {error}") from None
        tokenizer = cls(data, saved.added, path, **options)
        tokenizer.truncation, tokenizer.longest = saved.truncation, saved.longest
        tokenizer.padding = saved.padding or tokenizer.padding
        return tokenizer


def readable(data: bytes) -> str:
    """UTF-8 as text; each byte that is none as U+FFFD."""
    text, at = "", 0
    while at < len(data):
        for size in (1, 2, 3, 4):
            try:
                text += data[at : at + size].decode()
                break
            except UnicodeDecodeError:
                continue
        else:
            text, size = text + "\ufffd", 1
        at += size
    return text
