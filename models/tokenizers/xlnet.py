"""XLNet's tokens: SentencePiece's, of text that is cleaned up first (zihangdai/xlnet, prepro_utils.py).

- white space becomes single spaces; `` and '' become "; accents go (NFKD, then no combining marks), unless they are to
  be kept; lower case if asked for
- a piece that ends in a digit and a comma is cut once more: "2000," is "2000" and ","
- A <sep> <cls>, of segments 0 0 2, or A <sep> B <sep> <cls>, of 0 0 1 1 2; padding stands on the left, so that <cls> is
  the last token of every row

`train` learns such a vocabulary, which is written as tokenizer.json; published ones of that form are read by their
steps (the file has none for the digits). `XLNetPieces` reads the original, spiece.model.
"""

import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType

from models.tokenizers.base import Frame, Special
from models.tokenizers.older import read_beside
from models.tokenizers.pipeline.file import Padding
from models.tokenizers.sentencepiece import MARK, align
from models.tokenizers.spiece import SentencePiece
from models.tokenizers.unigram import OWN_STEPS, Unigram

TOKENS = ("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>")  # by their published ids
FRAME = Frame(["A", "<sep>", "<cls>"], ["A", "<sep>", "B", "<sep>", "<cls>"], [0, 0, 1, 1, 2], [0, 0, 2])
QUOTES = [{"type": "Replace", "pattern": {"String": two}, "content": '"'} for two in ("``", "''")]
SPACES = re.compile(r"\s+")
ACCENTS = [{"type": "NFKD"}, {"type": "StripAccents"}]


def train(texts: str | Iterable[str], vocab_size: int, keep_accents: bool = False, progress=None) -> Unigram:
    """A vocabulary of the published form; vocab_size counts all tokens, TOKENS among them."""
    steps = [*QUOTES, *([] if keep_accents else ACCENTS), *OWN_STEPS]
    tokenizer = Unigram.train(texts, vocab_size, TOKENS, progress=progress, steps=steps, frame=FRAME)
    tokenizer.padding = Padding(direction="Left", pad_id=tokenizer.pad_id, pad_token="<pad>")
    return tokenizer


class XLNetPieces(SentencePiece):
    """Of spiece.model, with what the code around it does to texts and pieces."""

    options = MappingProxyType({"lower": False, "keep_accents": False})

    def __init__(self, data: bytes, added: dict[str, Special] | None = None, path: str | Path = "the model",
                 lower: bool = False, keep_accents: bool = False):
        super().__init__(data, added, path)
        self.frame, self.options = FRAME, {"lower": lower, "keep_accents": keep_accents}
        self.padding = Padding(direction="Left", pad_id=self.pad_id, pad_token="<pad>")

    @classmethod
    def options_beside(cls, path: Path) -> dict[str, bool]:
        option = read_beside(path).option
        return {"lower": option("do_lower_case", bool, False), "keep_accents": option("keep_accents", bool, False)}

    def clean(self, text: str) -> str:
        """What SentencePiece is given to see of a text."""
        text = SPACES.sub(" ", text).replace("``", '"').replace("''", '"')
        if not self.options["keep_accents"]:
            text = "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))
        return text.lower() if self.options["lower"] else text

    def encode_plain(self, text: str) -> list[int]:
        return [i for i, _, _ in self._pieces(super().normalized(self.clean(text).strip())[0])]

    def normalized(self, text: str) -> tuple[str, list[tuple[int, int]]]:
        cleaned, spans = align(self.clean, text)
        first = len(cleaned) - len(cleaned.lstrip())
        seen, places = super().normalized(cleaned.strip())
        back = lambda place: spans[first + place][0] if first + place < len(spans) else len(text)
        return seen, [(back(start), spans[first + end - 1][1] if end > start else back(start)) for start, end in places]

    def _pieces(self, text: str) -> list[tuple[int, int, int]]:
        """(id, start, end) of each piece; one of a digit and a comma at its end is cut anew, without the comma."""
        found = []
        for i, start, end in super()._pieces(text):
            piece = text[start:end]
            if len(piece) < 2 or piece[-1] != "," or not piece[-2].isdigit():
                found.append((i, start, end))
                continue
            again, moved = MARK + piece[:-1].replace(MARK, ""), start - (not piece.startswith(MARK))
            parts = super()._pieces(again)
            if moved < start:  # the mark in front is not the text's
                _, _, first = parts.pop(0)
                parts = [(self.ids.get(again[1:first], self.unk_id), 1, first)][: first - 1] + parts
            found += [(part, moved + a, moved + b) for part, a, b in parts]
            found.append((self.ids.get(",", self.unk_id), end - 1, end))
        return found
