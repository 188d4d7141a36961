"""Normalizers: how a text is changed before it is cut. Each is called with a Piece and returns what becomes of it."""

import base64
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property

import regex

from models.tokenizers.bert_text import kind, lower
from models.tokenizers.methods import WHITE_SPACE
from models.tokenizers.pipeline.text import Pattern, Piece
from models.tokenizers.sentencepiece import NMT, Charsmap
from models.tokenizers.split import VISIBLE

# what the tables of `tokenizers` do not have: signs that Unicode can take apart since version 12, marks since 9
WHOLE = {"\u32ff", "\U0001f16c", "\U00011938", *map(chr, [*range(0xA7F2, 0xA7F5), 0xAB69, *range(0x10781, 0x107BB),
                                                         *range(0x1FBF0, 0x1FBFA)])}
NEW_MARKS = "".join(
    rf"\U{int(first, 16):08X}-\U{int(last or first, 16):08X}" for first, last in regex.findall(r"(\w+)-?(\w*)", """
    5C8-5C9 7FD 897-8D3 9FE AFA-AFF B53-B55 C04-C3C CF3-D00 D3B-D3C D81 EBA ECE 1715 180F 1ABF-1AF0 1CF7 1DF6-1DFA A82C
    A8FF 10D24-10F85 11070-11074 110C2 11145-11146 111C9 111CE-111CF 11241 1133B 113B8-113E2 1145E 1182C-11B67
    11D31-1612F 16F4F 16F7F-16F87 16FE4-16FF1 1CF00-1D128 1D250-1D281 1E08F-1E6F5
    """))
MARK = regex.compile(rf"[[\p{{M}}\u1CF2\u1CF3]--[{NEW_MARKS}]]", regex.VERSION1)


# ---- Unicode's four forms

def decompose(form: str, text: str) -> list[tuple[str, int]]:
    """The parts of every character, marks in their order; as changes (see Piece.rewrite)."""
    changes, marks = [], []
    for character in text:
        for number, part in enumerate(parts(form, character)):
            if not unicodedata.combining(part):
                changes += sorted(marks, key=lambda mark: unicodedata.combining(mark[0]))
                marks = []
                changes.append((part, int(number > 0)))
            else:
                marks.append((part, int(number > 0)))
    return changes + sorted(marks, key=lambda mark: unicodedata.combining(mark[0]))


@cache
def parts(form: str, character: str) -> str:
    return character if character in WHOLE else unicodedata.normalize(form, character)


def compose(changes: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """Letters and the marks behind them joined where there is a character for both; it takes the place of all."""
    out, base, marks, last = [], None, [], None
    for character, change in changes:
        order = unicodedata.combining(character)
        if base is None:
            base = None if order else (character, change)
            out += [(character, change)] if order else []
            continue
        both = unicodedata.normalize("NFC", base[0] + character) if last is None or last < order else ""
        if len(both) == 1 and both not in WHOLE:
            base = both, base[1] + change - 1
        elif order == 0:
            out += [base, *marks]
            base, marks, last = (character, change), [], None
        else:
            marks.append((character, change))
            last = order
    return out + ([base] if base else []) + marks


def form(name: str, piece: Piece) -> Piece:
    if unicodedata.is_normalized(name, piece.text):
        return piece
    changes = decompose(name.replace("C", "D"), piece.text)
    return piece.rewrite(compose(changes) if name.endswith("C") else changes)


@dataclass(frozen=True)
class NFD:
    """Letters and accents apart: "é" becomes "e" and U+0301."""

    def __call__(self, piece: Piece) -> Piece:
        return form("NFD", piece)


@dataclass(frozen=True)
class NFKD:
    """NFD, and what is only another shape of a sign becomes that sign: "ﬁ" becomes "fi", "①" becomes "1"."""

    def __call__(self, piece: Piece) -> Piece:
        return form("NFKD", piece)


@dataclass(frozen=True)
class NFC:
    """Letters and accents together: "e" and U+0301 become "é"."""

    def __call__(self, piece: Piece) -> Piece:
        return form("NFC", piece)


@dataclass(frozen=True)
class NFKC:
    """NFKD, then together again as in NFC: "ﬁancé" becomes "fiancé"."""

    def __call__(self, piece: Piece) -> Piece:
        return form("NFKC", piece)


# ---- letters and spaces

@dataclass(frozen=True)
class Lowercase:
    """Letter by letter: "ΟΔΟΣ" becomes "οδοσ", without the sigma of a word's end."""

    def __call__(self, piece: Piece) -> Piece:
        return piece.translate(lower)


@dataclass(frozen=True)
class StripAccents:
    """Marks vanish, if they stand by themselves (after NFD): "e" and U+0301 become "e", "é" stays."""

    def __call__(self, piece: Piece) -> Piece:
        return piece.translate(lambda one: "" if is_mark(one) else one)


@cache
def is_mark(character: str) -> bool:
    return MARK.match(character) is not None


@dataclass(frozen=True)
class Strip:
    """White space at the ends vanishes: " a b " becomes "a b"."""

    strip_left: bool = True
    strip_right: bool = True

    def __call__(self, piece: Piece) -> Piece:
        start = len(piece.text) - len(piece.text.lstrip(WHITE_SPACE)) if self.strip_left else 0
        end = len(piece.text.rstrip(WHITE_SPACE)) if self.strip_right else len(piece.text)
        return Piece(piece.text[start:end], piece.spans[start:end], piece.start)


@dataclass(frozen=True)
class Replace:
    """Every match of the pattern becomes `content`: " " by "▁" makes "a▁b" of "a b"."""

    pattern: Pattern
    content: str

    def __post_init__(self):
        self.pattern.check()

    def __call__(self, piece: Piece) -> Piece:
        found = self.pattern.find(piece.text)
        return piece.replace(found, self.content) if any(matches for _, _, matches in found) else piece


@dataclass(frozen=True)
class Prepend:
    """Text in front of every piece: "▁" makes "▁Hello" of "Hello", and nothing of nothing."""

    prepend: str

    def __call__(self, piece: Piece) -> Piece:
        return piece.prepend(self.prepend)


# ---- those of one model or library

@dataclass(frozen=True)
class BertNormalizer:
    """BERT's clean-up (bert_text.py): "Él 中文\\x07" becomes "el  中  文 ".

    clean_text: controls vanish, white space becomes spaces.   handle_chinese_chars: spaces go around an ideograph.
    strip_accents: as lowercase says, if null.
    """

    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool | None = None
    lowercase: bool = True

    def __call__(self, piece: Piece) -> Piece:
        if self.clean_text:
            piece = piece.translate(lambda one: {"drop": "", "space": " "}.get(kind(one), one))
        if self.handle_chinese_chars:
            piece = piece.translate(lambda one: f" {one} " if kind(one) == "cjk" else one)
        if self.lowercase if self.strip_accents is None else self.strip_accents:
            piece = form("NFD", piece).translate(lambda one: "" if kind(one) == "mark" else one)
        return piece.translate(lower) if self.lowercase else piece


@dataclass(frozen=True)
class Nmt:
    """The rules called Nmt of SentencePiece: some controls vanish, line ends and odd spaces become spaces."""

    def __call__(self, piece: Piece) -> Piece:
        return piece.translate(lambda one: NMT.get(ord(one), one))


@dataclass(frozen=True)
class Precompiled:
    """SentencePiece's table of replacements (Charsmap), as `tokenizers` reads it.

    A grapheme (a letter with its marks, at most 5 bytes) is looked up whole, and what starts it decides: so it may lose
    an accent. Otherwise its characters are looked up one by one. "ﬁ" becomes "fi".
    """

    precompiled_charsmap: str

    def __post_init__(self):
        self.charsmap  # noqa: B018 (a damaged one is refused here)

    @cached_property
    def charsmap(self) -> Charsmap:
        try:
            return Charsmap(base64.b64decode(self.precompiled_charsmap, validate=True))
        except ValueError as error:
            raise ValueError(f"the precompiled_charsmap cannot be read: {error}") from None

    def __call__(self, piece: Piece) -> Piece:
        if piece.text.isascii() and not self.touched & set(piece.text):
            return piece
        changes: list[list] = []
        for grapheme in regex.findall(r"\X", piece.text):
            whole = self.replacement(grapheme) if len(grapheme.encode()) < 6 else None
            for old, new in [(grapheme, whole)] if whole is not None else self.one_by_one(grapheme):
                more = len(new) - len(old)
                changes += [[one, int(number >= len(old))] for number, one in enumerate(new)]
                if more < 0 and changes:
                    changes[-1][1] += more
        return piece.rewrite(changes)

    def one_by_one(self, grapheme: str) -> Iterator[tuple[str, str]]:
        for one in grapheme:
            new = self.replacement(one)
            yield one, one if new is None else new

    @cached_property
    def touched(self) -> set[str]:
        """The characters of ASCII that start a key of the table, and \\r, which makes a grapheme with \\n."""
        return {one for one in map(chr, range(128)) if self.replacement(one) is not None} | {"\r"}

    def replacement(self, text: str) -> str | None:
        """Of the shortest key that starts the text."""
        found = next(self.charsmap.keys(text.encode(), 0), None)
        return None if found is None else self.charsmap.output(found[0]).decode()


@dataclass(frozen=True)
class ByteLevel:
    """Every byte becomes its visible character: "é " becomes "Ã©Ġ"."""

    def __call__(self, piece: Piece) -> Piece:
        return piece.translate(visible)


@cache
def visible(character: str) -> str:
    return "".join([VISIBLE[byte] for byte in character.encode()])


@dataclass(frozen=True)
class Sequence:
    """One after another."""

    normalizers: tuple

    def __call__(self, piece: Piece) -> Piece:
        for step in self.normalizers:
            piece = step(piece)
        return piece


NORMALIZERS = (BertNormalizer, Strip, StripAccents, NFC, NFD, NFKC, NFKD, Sequence, Lowercase, Nmt, Precompiled,
               Replace, Prepend, ByteLevel)
