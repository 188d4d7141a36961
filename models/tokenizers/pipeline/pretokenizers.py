"""Pre-tokenizers: where a text is cut into the words that no token crosses. Each makes a list of Pieces of a Piece."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import regex

from models.schema import Count
from models.tokenizers.bert_text import kind
from models.tokenizers.methods import WHITE_SPACE
from models.tokenizers.pipeline.normalizers import visible
from models.tokenizers.pipeline.text import Behavior, Pattern, Piece, covering
from models.tokenizers.split import Splitter, places

SPACE = regex.compile(f"[{WHITE_SPACE}]")
NUMBER = regex.compile(r"[\p{N}--[\U0001246F-\U00012686]]", regex.VERSION1)
WORD_OR_SIGNS = regex.compile(r"\w+|[^\w\s]+")
GPT2_WORDS = Splitter("gpt2")
SCRIPTS = re.findall(r"\w+", """
    Adlm Aghb Ahom Arab Armi Armn Avst Bali Bamu Bass Batk Beng Bhks Bopo Brah Brai Bugi Buhd Cakm Cans Cari Cham
    Cher Copt Cprt Cyrl Deva Dsrt Dupl Egyp Elba Ethi Geor Glag Goth Gran Grek Gujr Guru Hang Hano Hatr Hebr Hluw
    Hmng Hung Ital Java Kali Khar Khmr Khoj Knda Kthi Lana Laoo Latn Lepc Limb Lina Linb Lisu Lyci Lydi Mahj Mand
    Mani Marc Mend Merc Mero Mlym Modi Mong Mroo Mtei Mult Mymr Narb Nbat Newa Nkoo Ogam Olck Orkh Orya Osge Osma
    Palm Pauc Perm Phag Phli Phlp Phnx Plrd Prti Rjng Runr Samr Sarb Saur Sgnw Shaw Shrd Sidd Sind Sinh Sora Sund
    Sylo Syrc Tagb Takr Tale Talu Taml Tang Tavt Telu Tfng Tglg Thaa Thai Tibt Tirh Ugar Vaii Wara Xpeo Xsux Yiii
    Zinh Zyyy
    """)
SCRIPT = regex.compile("|".join(rf"(\p{{Script={name}}})" for name in SCRIPTS))


def runs(piece: Piece, what: Callable[[str], bool], behavior: Behavior) -> list[Piece]:
    """Cut at every single character that is such a one."""
    spans = [(i, i + 1) for i, one in enumerate(piece.text) if what(one)]
    return piece.split(covering(spans, len(piece.text)), behavior)


def at(pattern: regex.Pattern, piece: Piece, behavior: Behavior, invert: bool = False) -> list[Piece]:
    return piece.split(covering(places(pattern, piece.text), len(piece.text)), behavior, invert)


@dataclass(frozen=True)
class ByteLevel:
    """GPT-2's: "Hello world" becomes "Hello" "Ġworld": words with the space before them, in visible bytes.

    add_prefix_space: a space goes in front of every piece that has none.   use_regex: false leaves the text in one.
    trim_offsets: says something only to a post-processor.
    """

    add_prefix_space: bool = True
    trim_offsets: bool = True
    use_regex: bool = True

    def __call__(self, piece: Piece) -> list[Piece]:
        if self.add_prefix_space and not piece.text.startswith(" "):
            piece = piece.prepend(" ")
        pieces = [piece]
        if self.use_regex:
            pieces, start = [], 0
            for words in GPT2_WORDS.blocks(piece.text):
                for word in words:
                    pieces.append(piece.cut(start, start + len(word)))
                    start += len(word)
        return [one.translate(visible) for one in pieces]


@dataclass(frozen=True)
class Split:
    """At every match of a pattern, of which the behavior says what becomes (see Piece.split)."""

    pattern: Pattern
    behavior: Behavior
    invert: bool = False

    def __post_init__(self):
        self.pattern.check()

    def __call__(self, piece: Piece) -> list[Piece]:
        return piece.split(self.pattern.find(piece.text), self.behavior, self.invert)


@dataclass(frozen=True)
class Digits:
    """Numbers apart: "a12" becomes "a" "12"; individual_digits: "a" "1" "2". Whatever Unicode calls a number is one."""

    individual_digits: bool = False

    def __call__(self, piece: Piece) -> list[Piece]:
        return runs(piece, is_number, "Isolated" if self.individual_digits else "Contiguous")


@cache
def is_number(character: str) -> bool:
    return NUMBER.match(character) is not None


@dataclass(frozen=True)
class Punctuation:
    """At the signs that BERT calls punctuation: "Hi!!" becomes "Hi" "!" "!"."""

    behavior: Behavior = "Isolated"

    def __call__(self, piece: Piece) -> list[Piece]:
        return runs(piece, lambda one: kind(one) == "alone", self.behavior)


@dataclass(frozen=True)
class Whitespace:
    """Words and runs of signs: "Hi there!!" becomes "Hi" "there" "!!"; white space vanishes."""

    def __call__(self, piece: Piece) -> list[Piece]:
        return at(WORD_OR_SIGNS, piece, "Removed", invert=True)


@dataclass(frozen=True)
class WhitespaceSplit:
    """At white space, which vanishes: "Hi there!!" becomes "Hi" "there!!"."""

    def __call__(self, piece: Piece) -> list[Piece]:
        return at(SPACE, piece, "Removed")


@dataclass(frozen=True)
class CharDelimiterSplit:
    """At one character, which vanishes: "a-b" becomes "a" "b" for "-"."""

    delimiter: str

    def __post_init__(self):
        one_character(self, "delimiter")

    def __call__(self, piece: Piece) -> list[Piece]:
        return runs(piece, self.delimiter.__eq__, "Removed")


@dataclass(frozen=True)
class BertPreTokenizer:
    """At white space, which vanishes, and around every sign: "don't!!" becomes "don" "'" "t" "!" "!"."""

    def __call__(self, piece: Piece) -> list[Piece]:
        return [part for word in at(SPACE, piece, "Removed")
                for part in runs(word, lambda one: kind(one) == "alone", "Isolated")]


@dataclass(frozen=True)
class Metaspace:
    """SentencePiece's: spaces become visible, one leads, and each begins a word: "Hi you" becomes "▁Hi" "▁you".

    prepend_scheme: "always" a mark in front; "first": only where the text itself begins, not behind an added token;
    "never".   split: false leaves the text in one.   add_prefix_space: how older files say always and never.
    """

    replacement: str = "▁"
    prepend_scheme: Literal["always", "first", "never"] | None = None
    split: bool = True
    add_prefix_space: bool | None = None

    def __post_init__(self):
        one_character(self, "replacement")
        scheme = self.prepend_scheme or ("never" if self.add_prefix_space is False else "always")
        if self.add_prefix_space is not None and self.add_prefix_space == (scheme == "never"):
            raise ValueError(f"add_prefix_space {self.add_prefix_space} contradicts prepend_scheme {scheme!r}")
        object.__setattr__(self, "prepend_scheme", scheme)
        object.__setattr__(self, "add_prefix_space", None)  # it has been said

    def __call__(self, piece: Piece) -> list[Piece]:
        if " " in piece.text:
            piece = Piece(piece.text.replace(" ", self.replacement), piece.spans, piece.start)
        wanted = self.prepend_scheme == "always" or (self.prepend_scheme == "first" and piece.start == 0)
        if wanted and not piece.text.startswith(self.replacement):
            piece = piece.prepend(self.replacement)
        return runs(piece, self.replacement.__eq__, "MergedWithNext") if self.split else [piece]


@dataclass(frozen=True)
class UnicodeScripts:
    """Where the script changes: "どこでabc" becomes "どこで" "abc". Kana are Han, a space is of no script.

    Spaces that lead a text vanish: the published cut begins with the first letter.
    """

    def __call__(self, piece: Piece) -> list[Piece]:
        starts, last = [], None
        for i, one in enumerate(piece.text):
            script = script_of(one)
            if script:
                if script != last:
                    starts.append(i)
                last = script
        return [piece.cut(start, end) for start, end in zip(starts, [*starts[1:], len(piece.text)])]


@cache
def script_of(character: str) -> str | None:
    """None of a space, and of what has no script."""
    if character == " ":
        return None
    if character == "\u30fc" or regex.match(r"\p{Script=Hira}|\p{Script=Kana}|\p{Script=Hani}", character):
        return "Han"
    found = SCRIPT.match(character)
    return SCRIPTS[found.lastindex - 1] if found else None


@dataclass(frozen=True)
class FixedLength:
    """Pieces of so many characters: "abcde" becomes "abc" "de" for 3."""

    length: Count = 5

    def __call__(self, piece: Piece) -> list[Piece]:
        return [piece.cut(start, min(start + self.length, len(piece.text)))
                for start in range(0, len(piece.text), self.length)]


@dataclass(frozen=True)
class Sequence:
    """One after another, each on the pieces of the one before."""

    pretokenizers: tuple

    def __call__(self, piece: Piece) -> list[Piece]:
        pieces = [piece]
        for step in self.pretokenizers:
            pieces = cut_all(step, pieces)
        return pieces


def cut_all(step: Callable[[Piece], list[Piece]], pieces: Iterable[Piece]) -> list[Piece]:
    return [part for piece in pieces if piece.text for part in step(piece)]


def one_character(step: object, name: str) -> None:
    """ValueError unless this field of a step is a single character."""
    if len(vars(step)[name]) != 1:
        raise ValueError(f"{name} must be one character, not {vars(step)[name]!r}")


PRETOKENIZERS = (BertPreTokenizer, ByteLevel, CharDelimiterSplit, Metaspace, Whitespace, Sequence, Split, Punctuation,
                 WhitespaceSplit, Digits, UnicodeScripts, FixedLength)
