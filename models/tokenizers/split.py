"""Where byte-level BPE cuts text into words, and the visible characters that it writes bytes with.

GPT-2's pattern keeps letters, digits and punctuation apart, glues one space to the word that follows it and splits
English contractions off; GPT-4's limits numbers to three digits; GPT-4o's cuts in front of capitals, too. No merge
crosses a cut. All need Unicode classes, hence the `regex` package. On ASCII text a class is a handful of ranges, which
Python's own `re` matches twice as fast, so text is cut into blocks, and each block that is all ASCII takes that road.
"""

import re
from collections.abc import Iterator

import regex

from models.tokenizers.patterns import compiled, matches

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
GPT4 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
        r"|\s+(?!\S)|\s+")
WORD, ENDING = r"[^\r\n\p{L}\p{N}]?", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
UPPER, LOWER = (rf"[{case}\p{{Lm}}\p{{Lo}}\p{{M}}]" for case in (r"\p{Lu}\p{Lt}", r"\p{Ll}"))
GPT4O = (f"{WORD}{UPPER}*{LOWER}+{ENDING}|{WORD}{UPPER}+{LOWER}*{ENDING}"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
NEWER = "".join("-".join(rf"\U{int(code, 16):08X}" for code in item.split("-")) for item in re.findall(r"\S+", """
    558 58B-58C 5C8-5C9 88F B53-B54 C5C CDC 1ACF-1AF0 208F 209D-209F 20C1-20C4 2B96 2E60-2E63 A7CE-A7CF A7D2 A7D4
    A7DD-A7F1 AB6C-AB6D FBC3-FBD2 FD90-FD91 FDC8-FDCE 107BB-107BF 10940-10959 10EC5-10EFB 11B0A-11B67 11DB0-11DF1 1246F
    12475-1247F 12550-12686 16EA0-16ED3 16FF2-16FF6 187F8-187FF 18CD6-18CDA 18D09-191D2 1B123-1B128 1B168 1CCFA-1CCFC
    1CEBA-1CEFD 1D127-1D128 1D1EB-1D1FF 1D250-1D281 1D6A6 1DB00-1DB1C 1DF1F-1DF24 1DF2B-1DFFF 1E6C0-1E6FF 1F1AE
    1F6D8-1F6D9 1F777-1F77A 1F7DA-1F7DB 1F7F1-1F7FF 1F8D0-1F8D8 1FA54-1FA57 1FA8A-1FA8E 1FAC8-1FACD 1FADD 1FAEA-1FAEF
    1FAF9-1FAFA 1FBFA 2B73A-2B73F 2B81E 2CEA2-2CEAD 323B0-3FC3F
    """))  # what came since Unicode 16, the version that tiktoken and tokenizers know
NEWER = re.compile(f"[{NEWER}]")
NEITHER = "\uffff"  # of no class at all: what NEWER characters count as
BLOCK = 1 << 16  # characters: few enough that one emoji costs little, many enough that cuts cost nothing
SAFE_CUT = re.compile(r"(?<=[A-Za-z])(?= [A-Za-z])")  # both patterns always cut here, whatever stands around it
# A printable character for each byte: itself where it has one, else the next of U+0100, U+0101, ...
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
BYTE_OF = {chr(byte): byte for byte in PRINTABLE} | {chr(256 + n): byte for n, byte in enumerate(OTHERS)}
VISIBLE = sorted(BYTE_OF, key=BYTE_OF.get)


def places(pattern: regex.Pattern, text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of each match; no empty one where the last one ended."""
    done = None
    for match in matches(pattern, text if text.isascii() else NEWER.sub(NEITHER, text)):
        start, end = match.span()
        if start < end or end != done:
            yield start, end
        done = end


class Splitter:
    """Cuts text into words by a pattern: "gpt2", "gpt4", "gpt4o", or any other. What it does not match is a word too.

    list(Splitter("gpt2").blocks("It's 12!"))  ->  [["It", "'s", " 12", "!"]]
    """

    def __init__(self, pattern: str = "gpt2"):
        self.pattern = {"gpt2": GPT2, "gpt4": GPT4, "gpt4o": GPT4O}.get(pattern, pattern)
        self.anywhere = compiled(self.pattern, "the split of a text into words")
        ascii = self.pattern.replace(r"\p{L}\p{N}", "A-Za-z0-9")  # inside of [...] the two stand together
        ascii = ascii.replace(r"\p{L}", "[A-Za-z]").replace(r"\p{N}", "[0-9]")
        self.ascii = re.compile(ascii, re.ASCII) if self.pattern in (GPT2, GPT4) else None

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
        words, done = [], 0
        for start, end in places(self.anywhere, text):
            if done < start:
                words.append(text[done:start])
            if start < end:
                words.append(text[start:end])
            done = end
        return words if done == len(text) else [*words, text[done:]]
