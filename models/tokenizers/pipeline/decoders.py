"""Decoders: how tokens become text again. Each makes a list of strings of a list; the last list is joined."""

import re
from dataclasses import dataclass
from itertools import groupby

from models.schema import Whole
from models.tokenizers.pipeline.pretokenizers import Metaspace as MetaspaceCut
from models.tokenizers.pipeline.pretokenizers import one_character
from models.tokenizers.pipeline.text import Pattern
from models.tokenizers.split import BYTE_OF

# English as it is written, from its words and signs with a space between
TIDY = [(" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m"),
        (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re")]
BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")


def tidy(text: str) -> str:
    for apart, together in TIDY:
        text = text.replace(apart, together)
    return text


@dataclass(frozen=True)
class ByteLevel:
    """Visible bytes become bytes, and these text: "Ã©Ġ" becomes "é ". A token of other characters is text already."""

    add_prefix_space: bool = True
    trim_offsets: bool = True
    use_regex: bool = True

    def __call__(self, tokens: list[str]) -> list[str]:
        return [b"".join(map(as_bytes, tokens)).decode("utf-8", errors="replace")]


def as_bytes(token: str) -> bytes:
    try:
        return bytes([BYTE_OF[one] for one in token])
    except KeyError:
        return token.encode()


@dataclass(frozen=True)
class WordPiece:
    """A space before every token but those that go on: "un" "##able" "." becomes "unable ."; cleanup: "unable."."""

    prefix: str = "##"
    cleanup: bool = True

    def __call__(self, tokens: list[str]) -> list[str]:
        joined = [token.removeprefix(self.prefix) if token.startswith(self.prefix) else f" {token}"
                  for token in tokens[1:]]
        return [tidy(token) if self.cleanup else token for token in [*tokens[:1], *joined]]


@dataclass(frozen=True)
class Metaspace(MetaspaceCut):
    """Marks become spaces, but in the first token nothing: "▁Hi" "▁you" becomes "Hi you"."""

    def __call__(self, tokens: list[str]) -> list[str]:
        first = " " if self.prepend_scheme == "never" else ""
        return [token.replace(self.replacement, " " if number else first) for number, token in enumerate(tokens)]


@dataclass(frozen=True)
class BPEDecoder:
    """The mark of a word's end becomes a space: "low" "er</w>" "x</w>" becomes "lower x"."""

    suffix: str = "</w>"

    def __call__(self, tokens: list[str]) -> list[str]:
        last = len(tokens) - 1
        return [token.replace(self.suffix, " " if number < last else "") for number, token in enumerate(tokens)]


@dataclass(frozen=True)
class ByteFallback:
    """Runs of bytes become text: "<0xC3>" "<0xA9>" becomes "é". A run that is none: U+FFFD for each of its bytes."""

    def __call__(self, tokens: list[str]) -> list[str]:
        out = []
        for is_byte, run in groupby(tokens, lambda token: BYTE.fullmatch(token) is not None):
            run = list(run)
            if is_byte:
                data = bytes([int(token[3:5], 16) for token in run])
                try:
                    run = [data.decode()]
                except UnicodeDecodeError:
                    run = ["\ufffd"] * len(run)
            out += run
        return out


@dataclass(frozen=True)
class Fuse:
    """All tokens become one, so that what follows sees the text's ends instead of each token's."""

    def __call__(self, tokens: list[str]) -> list[str]:
        return ["".join(tokens)]


@dataclass(frozen=True)
class Strip:
    """Up to `start` of a character in front of every token vanish, and up to `stop` behind: " a" becomes "a"."""

    content: str
    start: Whole
    stop: Whole

    def __post_init__(self):
        one_character(self, "content")

    def __call__(self, tokens: list[str]) -> list[str]:
        out = []
        for token in tokens:
            left = min(self.start, len(token) - len(token.lstrip(self.content)))
            right = min(self.stop, len(token) - len(token.rstrip(self.content)), len(token) - left)
            out.append(token[left : len(token) - right])
        return out


@dataclass(frozen=True)
class Replace:
    """In every token, every match of the pattern becomes `content`."""

    pattern: Pattern
    content: str

    def __post_init__(self):
        self.pattern.check()

    def __call__(self, tokens: list[str]) -> list[str]:
        return ["".join([self.content if matches else token[start:end]
                         for start, end, matches in self.pattern.find(token)]) for token in tokens]


@dataclass(frozen=True)
class CTC:
    """What a speech recognizer says: equal neighbours are one, `pad_token` is silence, the delimiter a space."""

    pad_token: str = "<pad>"
    word_delimiter_token: str = "|"
    cleanup: bool = True

    def __call__(self, tokens: list[str]) -> list[str]:
        out = [token.replace(self.pad_token, "") if self.pad_token else token for token, _ in groupby(tokens)]
        if self.cleanup:
            out = [tidy(token).replace(self.word_delimiter_token, " ") for token in out]
        return [token for token in out if token]


@dataclass(frozen=True)
class Sequence:
    """One after another."""

    decoders: tuple

    def __call__(self, tokens: list[str]) -> list[str]:
        for step in self.decoders:
            tokens = step(tokens)
        return tokens


DECODERS = (BPEDecoder, ByteLevel, WordPiece, Metaspace, CTC, Sequence, Replace, Fuse, Strip, ByteFallback)
