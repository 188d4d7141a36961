"""XLNet's tokens: SentencePiece's, of text that is cleaned up first (zihangdai/xlnet, prepro_utils.py).

- white space becomes single spaces; `` and '' become "; accents go (NFKD, then no combining marks), unless they are to
  be kept; lower case if asked for
- a piece that ends in a digit and a comma is cut once more: "2000," is "2000" and ","
- A <sep> <cls>, of segments 0 0 2, or A <sep> B <sep> <cls>, of 0 0 1 1 2; padding stands on the left, so that <cls> is
  the last token of every row

`train` learns such a vocabulary, which is written as tokenizer.json; published ones of that form are read by their
steps (the file has none for the digits). `XLNetPieces` reads the original, spiece.model.
"""

from collections.abc import Iterable

from models.tokenizers.base import Frame
from models.tokenizers.pipeline.file import Padding
from models.tokenizers.unigram import OWN_STEPS, Unigram

TOKENS = ("<unk>", "<s>", "</s>", "<cls>", "<sep>", "<pad>", "<mask>", "<eod>", "<eop>")  # by their published ids
FRAME = Frame(["A", "<sep>", "<cls>"], ["A", "<sep>", "B", "<sep>", "<cls>"], [0, 0, 1, 1, 2], [0, 0, 2])
QUOTES = [{"type": "Replace", "pattern": {"String": two}, "content": '"'} for two in ("``", "''")]
ACCENTS = [{"type": "NFKD"}, {"type": "StripAccents"}]


def train(texts: str | Iterable[str], vocab_size: int, keep_accents: bool = False, progress=None) -> Unigram:
    """A vocabulary of the published form; vocab_size counts all tokens, TOKENS among them."""
    steps = [*QUOTES, *([] if keep_accents else ACCENTS), *OWN_STEPS]
    tokenizer = Unigram.train(texts, vocab_size, TOKENS, progress=progress, steps=steps, frame=FRAME)
    tokenizer.padding = Padding(direction="Left", pad_id=tokenizer.pad_id, pad_token="<pad>")
    return tokenizer
