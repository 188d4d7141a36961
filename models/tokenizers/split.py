"""The split patterns of byte-level BPE: text is cut into words first, and no merge crosses a cut.

GPT-2's pattern (Radford et al. 2019) keeps letters, digits and punctuation apart, glues one space to the word that
follows it and splits English contractions off; GPT-4's limits numbers to three digits. Both need Unicode classes,
hence the `regex` package. On ASCII text a class is a handful of ranges, which Python's own `re` matches twice as
fast, so text is cut into blocks, and each block that is all ASCII takes that road.
"""

import re
from collections.abc import Iterator

import regex

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+")
BLOCK = 1 << 16                # characters: few enough that one emoji costs little, many enough that cuts cost nothing
SAFE_CUT = re.compile(r"(?<=[A-Za-z])(?= [A-Za-z])")      # both patterns always cut here, whatever stands around it


class Splitter:
    """Cuts text into words by a pattern: "gpt2", "gpt4", or any pattern of the `regex` package whose matches tile text.

    Splitter("gpt2").words("It's 12!")  ->  ["It", "'s", " 12", "!"]
    """

    def __init__(self, pattern: str = "gpt2"):
        self.pattern = {"gpt2": GPT2, "gpt4": GPT4}.get(pattern, pattern)
        try:
            self.anywhere = regex.compile(self.pattern)
        except regex.error as error:
            raise ValueError(f"the split pattern {pattern!r} does not compile: {error}") from None
        self.ascii = re.compile(in_ascii(self.pattern), re.ASCII) if self.pattern in (GPT2, GPT4) else None

    def blocks(self, text: str) -> Iterator[list[str]]:
        """The words of the text, one list a block."""
        if self.ascii is None:
            yield [match[0] for match in self.anywhere.finditer(text)]
            return
        start = 0
        while start < len(text):
            cut = SAFE_CUT.search(text, start + BLOCK)
            end = cut.start() if cut else len(text)
            block = text[start:end]
            yield (self.ascii if block.isascii() else self.anywhere).findall(block)
            start = end

    def words(self, text: str) -> list[str]:
        return [word for block in self.blocks(text) for word in block]


def in_ascii(pattern: str) -> str:
    r"""The pattern with \p{L} and \p{N} written out as ASCII ranges, inside and outside of [...]."""
    out, inside = "", False
    for part in re.split(r"(\\p\{[LN]\}|\\.|\[|\])", pattern):
        ranges = {r"\p{L}": "A-Za-z", r"\p{N}": "0-9"}.get(part)
        if part in "[]" and part:
            inside = part == "["
        out += part if ranges is None else ranges if inside else f"[{ranges}]"
    return out
