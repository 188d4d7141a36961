"""BERT's clean-up: how text becomes the plain words that WordPiece and GPT-1's BPE cut into pieces.

Devlin et al. 2018, google-research/bert tokenization.py (BasicTokenizer), in the order of the `tokenizers` library,
whose ids ours equal:
1. drop NUL, U+FFFD, control, format and private-use characters; all white space separates words
2. every CJK ideograph is a word of its own (kana and Hangul are not)
3. strip_accents: decompose (NFD) and drop the combining marks; Hangul stays in its letters (Jamo)
4. lowercase, character by character: no final sigma
5. every punctuation character is a word of its own; that includes all ASCII signs ($ + < = > ^ ` | ~), but no
   others that Unicode calls symbols (the euro sign)
That library has the character tables of Unicode 8. What later versions added or moved is put back by NEWER and MOVED
below, so that a new Python does not change ids.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache

from models.tokenizers.base import Frame, Special, Tokenizer
from models.tokenizers.methods import WordCache
from models.tokenizers.pairs import count_words

OTHER_SPACES = re.compile("[\x0b\x0c\x1c-\x1f\x85]")  # white space to str.split, controls to be dropped to BERT
ASCII_WORDS = re.compile("[A-Za-z0-9]+|.")
CJK = [(0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2B81F),
       (0x2B920, 0x2CEAF), (0x2F800, 0x2FA1F)]  # `tokenizers` starts Extension E at 2B920, not 2B820
NEWER = [range(int(first, 16), int(last or first, 16) + 1) for first, last in re.findall(r"(\w+)-?(\w*)", """
    61D 7FD 890-8E2 9FD-9FE A76 AFA-AFF B55 C04-C3C C77 C84 D00 D3B-D3C D81 EBA 180F-1886 1ABF-1ACE 1B7D-1B7E
    1DF6-1DFB 2E43-2E5D A82C A8C5 A8FF A9BD 10D24-10F89 11070-11074 110C2-110CD 111C9 111CF 1123E 1133B 11438-1145E
    11660-1166C 116B9 1182F-11FFF 12FF1-13438 16E97-16F4F 16FE2-16FE4 1CF00-1CF46 1E000-1E2EF 1E944-1E95F
    """)]  # marks, punctuation or format only after Unicode 8
MOVED = {0x166D: "Po", 0x111C9: "Po", 0x1734: "Mn"}  # had this category in Unicode 8
# sigma without context, and capitals newer than Python 3.11
LOWER = {0x3A3: 0x3C3, 0xA7CB: 0x264, 0xA7DC: 0x19B} | {
    code: code + step for codes, step in [((0x1C89, 0xA7CC, 0xA7CE, 0xA7D2, 0xA7D4, 0xA7DA), 1),
                                          (range(0x10D50, 0x10D66), 0x20), (range(0x16EA0, 0x16EB9), 0x1B)]
    for code in codes}


@cache
def kind(character: str) -> str:
    """"space", "drop", "mark" (an accent), "alone" (punctuation), "cjk" or "word"."""
    code = ord(character)
    category = MOVED.get(code) or unicodedata.category(character)
    if character in "\t\n\r" or category in ("Zs", "Zl", "Zp"):
        return "space"
    if code in MOVED or not any(code in newer for newer in NEWER):
        if code in (0, 0xFFFD) or category in ("Cc", "Cf", "Co"):
            return "drop"
        if category == "Mn":
            return "mark"
        if category.startswith("P") or (code < 128 and category.startswith("S")):
            return "alone"
    return "cjk" if any(first <= code <= last for first, last in CJK) else "word"


@cache
def lower(character: str) -> str:
    """In lower case, without regard to its neighbours."""
    code = LOWER.get(ord(character))
    return chr(code) if code else character.lower()


class BertText:
    """Splits text by white space into raw words, and each raw word into the words that reach the vocabulary.

    BertText().raw_words("Él dijo:") == ["Él", "dijo:"],   BertText().words("dijo:") == ["dijo", ":"]
    """

    def __init__(self, lowercase: bool = True, strip_accents: bool | None = None, handle_chinese_chars: bool = True):
        self.lowercase, self.handle_chinese_chars = lowercase, handle_chinese_chars
        self.strip_accents = lowercase if strip_accents is None else strip_accents

    def raw_words(self, text: str) -> list[str]:
        return OTHER_SPACES.sub("", text).split()

    def count_words(self, texts: str | Iterable[str]) -> Counter:
        """How often each word stands in the texts."""
        counts = Counter()
        for raw, count in count_words(texts, lambda text: [self.raw_words(text)]).items():
            for word in self.words(raw):
                counts[word] += count
        return counts

    def words(self, raw: str) -> list[str]:
        if raw.isascii() and raw.isprintable():  # every printable sign but letters and digits is alone
            return ASCII_WORDS.findall(raw.lower() if self.lowercase else raw)
        return [word for word, _ in self.words_with_places(raw)]

    def words_with_places(self, text: str) -> list[tuple[str, list[int]]]:
        """The words of a whole text, and for each of their characters the place in the text it came from."""
        words, goes_on = [], False  # whether the last word does
        for i, character in enumerate(text):
            what = kind(character)
            if what == "space":
                goes_on = False
            elif what != "drop":
                for one in self.fold(character):
                    alone = (what == "cjk" and self.handle_chinese_chars) or kind(one) == "alone"
                    if alone or not goes_on:
                        words.append(([], []))
                    words[-1][0].append(one)
                    words[-1][1].append(i)
                    goes_on = not alone
        return [("".join(word), places) for word, places in words]

    def fold(self, character: str) -> str:
        """One character without accents and in lower case: any number of characters, often just itself."""
        if self.strip_accents:
            parts = unicodedata.normalize("NFD", character)
            character = "".join([part for part in parts if kind(part) != "mark"])
        if self.lowercase:
            character = "".join(map(lower, character))
        return character


class BertWords(Tokenizer):
    """The parent of WordPiece and GPT-1's BPE: the same clean words, which each cuts into tokens by its own `match`."""

    def __init__(self, vocab: dict[str, int], special: dict[str, Special], text: BertText | None, unk_token: str,
                 frame: Frame | None, pad_token: str | None):
        super().__init__(special, frame, pad_token)
        if unk_token not in vocab:
            raise ValueError(f"the vocabulary has no {unk_token!r} for words it cannot spell; add it, or name another "
                             f"unk_token")
        self.vocab, self.text, self.unk_token, self.unk_id = vocab, text or BertText(), unk_token, vocab[unk_token]
        by_id = {i: token for token, i in vocab.items()} | {one.id: name for name, one in self.added.items()}
        self.tokens = [by_id.get(i) for i in range(max(by_id) + 1)]
        self.cache = WordCache(lambda raw: [i for word in self.text.words(raw) for i, _, _ in self.match(word)])

    def encode_plain(self, text: str) -> list[int]:
        return list(self.cache.ids(self.text.raw_words(text)))

    def spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        found = [(i, (places[start], places[end - 1] + 1)) for word, places in self.text.words_with_places(text)
                 for i, start, end in self.match(word)]
        return [i for i, _ in found], [span for _, span in found]
