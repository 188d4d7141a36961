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
NEWER = "".join("-".join(rf"\U{int(code, 16):08X}" for code in item.split("-")) for item in re.findall(r"\S+", """
    558 58B-58C 88F C5C CDC 208F 209D-209F A7CE-A7CF A7D2 A7D4 A7DD A7E2 A7F1 AB6C-AB6D 107BB-107BF 10940-10959
    10EC5-10EC7 10ED9-10EEE 11B0A 11DB0-11DDB 11DE0-11DE9 11DF1 1246F 12475-1247F 12550-12686 16EA0-16EB8
    16EBB-16ED3 16FF2-16FF3 16FF4-16FF6 187F8-187FF 18CD6-18CDA 18D09-18D20 18D80-18DF2 18E00-19191 191A0-191D2
    1B123-1B128 1B168 1D6A6 1DF1F-1DF24 1DF2B-1DF81 1DF90-1DF96 1DFCD-1DFFF 1E6C0-1E6DE 1E6E0-1E6E2 1E6E4-1E6E5
    1E6E7-1E6ED 1E6F0-1E6F4 1E6FE-1E6FF 2B73A-2B73F 2B81E 2CEA2-2CEAD 323B0-33479 3D000-3FC3F
    """))  # letters and numbers since Unicode 16, the version that tiktoken and tokenizers know
NEWER = re.compile(f"[{NEWER}]")
NEITHER = "\uffff"  # no letter, no number, no white space: what NEWER characters count as
BLOCK = 1 << 16  # characters: few enough that one emoji costs little, many enough that cuts cost nothing
SAFE_CUT = re.compile(r"(?<=[A-Za-z])(?= [A-Za-z])")  # both patterns always cut here, whatever stands around it


class Splitter:
    """Cuts text into words by a pattern: "gpt2", "gpt4", or any pattern of the `regex` package whose matches tile text.

    list(Splitter("gpt2").blocks("It's 12!"))  ->  [["It", "'s", " 12", "!"]]
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
            yield self.cut(text)
            return
        start = 0
        while start < len(text):
            cut = SAFE_CUT.search(text, start + BLOCK)
            end = cut.start() if cut else len(text)
            block = text[start:end]
            yield self.ascii.findall(block) if block.isascii() else self.cut(block)
            start = end

    def cut(self, text: str) -> list[str]:
        return [text[match.start():match.end()] for match in self.anywhere.finditer(NEWER.sub(NEITHER, text))]


def in_ascii(pattern: str) -> str:
    r"""The pattern with \p{L} and \p{N} written out as ASCII ranges, inside and outside of [...]."""
    out, inside = "", False
    for part in re.split(r"(\\p\{[LN]\}|\\.|\[|\])", pattern):
        ranges = {r"\p{L}": "A-Za-z", r"\p{N}": "0-9"}.get(part)
        if part in "[]" and part:
            inside = part == "["
        out += part if ranges is None else ranges if inside else f"[{ranges}]"
    return out
