"""WordPiece: the tokenizer of BERT (Devlin et al. 2018; Schuster & Nakajima 2012).

Text is cleaned and cut into words (bert_text.py). A word becomes the longest token that starts it, then the longest
`##` token that starts the rest, and so on; if the rest ever starts with none, or the word has more than 100
characters, the whole word is [UNK].

Training in the `tokenizers` library, and so here by default, is byte-pair encoding over characters that keeps the
vocabulary and throws the merges away. The papers choose pairs by likelihood instead: train(..., score="likelihood").
Symbols get ids in a fixed order: characters that start words by code point, then `##` characters by code point
(`tokenizers` gives the latter ids in an order that changes from run to run).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Self

from models.files import read_text, write_text
from models.tokenizers.base import Frame, Special, distinct, file_to_read
from models.tokenizers.bert_steps import bert_steps, bert_text_of
from models.tokenizers.bert_text import BertText, BertWords
from models.tokenizers.older import read_beside
from models.tokenizers.pairs import first_symbols, learn_vocabulary
from models.tokenizers.pipeline import decoders, postprocessors
from models.tokenizers.pipeline import models as pieces
from models.tokenizers.pipeline.file import Published, read_published, write_published
from models.tokenizers.pipeline.models import longest_pieces
from models.tokenizers.pipeline.postprocessors import framed

BERT_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class WordPiece(BertWords):
    """vocab: id by token, `##` in front of those that continue a word."""

    def __init__(self, vocab: dict[str, int], special: dict[str, Special] | None = None, text: BertText | None = None,
                 unk_token: str = "[UNK]", prefix: str = "##", max_characters: int = 100, frame: Frame | None = None,
                 pad_token: str | None = None):
        if special is None:
            special = {token: Special(vocab[token]) for token in BERT_TOKENS if token in vocab}
        if frame is None and {"[CLS]", "[SEP]"} <= special.keys():
            frame = framed("[CLS]", "[SEP]")
        pad_token = pad_token or ("[PAD]" if "[PAD]" in special else None)
        super().__init__(vocab, special, text, unk_token, frame, pad_token)
        self.prefix = self.continuing = prefix
        self.max_characters = max_characters
        self.pieces = {token: i for token, i in vocab.items() if token not in self.special}

    @classmethod
    def train(cls, texts: str | Iterable[str], vocab_size: int, special_tokens: Iterable[str] = BERT_TOKENS,
              lowercase: bool = True, min_frequency: int = 0, score: str = "frequency",
              alphabet: Iterable[str] | None = None, limit_alphabet: int | None = None, progress=None) -> Self:
        """Learns a vocabulary: special tokens, single characters, then joined pieces as they are found.

        score: "frequency" (as `tokenizers`) or "likelihood" (the papers). alphabet: the single symbols in the order
        of their ids, if not the order above; symbols outside it, or outside the limit_alphabet most frequent
        characters, are left out of words.
        """
        text, special_tokens = BertText(lowercase), distinct(special_tokens, "[UNK]")
        counts = text.count_words(texts)
        tokens = first_symbols(counts, spell, special_tokens, alphabet, limit_alphabet)
        learn_vocabulary(tokens, counts, spell, vocab_size, lambda left, right: left + right.removeprefix("##"),
                         min_frequency, score, progress)
        vocab = {token: i for i, token in enumerate(tokens)}
        return cls(vocab, {token: Special(vocab[token]) for token in special_tokens}, text)

    # ---- encoding and decoding

    def match(self, word: str) -> list[tuple[int, int, int]]:
        """The longest tokens from left to right: (id, start, end) of each in the word."""
        found = longest_pieces(word, self.pieces, self.prefix, self.max_characters)
        return [(self.unk_id, 0, len(word))] if found is None else found

    def decode(self, ids: Iterable[int]) -> str:
        """Words with a space between; `##` pieces and . ? ! , follow without one. Case and accents stay lost."""
        return "".join(decoders.WordPiece(self.prefix)(self.tokens_of(ids)))

    # ---- files

    def save(self, path: str | Path) -> None:
        """Writes tokenizer.json into a folder (or to a path ending in .json); a path ending in .txt gets BERT's
        vocab.txt instead, one token a line."""
        if Path(path).suffix == ".txt":
            if None in self.tokens:
                raise ValueError(f"vocab.txt has no way to skip id {self.tokens.index(None)}; save tokenizer.json")
            return write_text(path, "".join(f"{token}\n" for token in self.tokens))
        model = pieces.WordPiece(unk_token=self.unk_token, continuing_subword_prefix=self.prefix,
                                 max_input_chars_per_word=self.max_characters, vocab=self.vocab)
        write_published(path, self, self.model or model, bert_steps(self.text, decoders.WordPiece(self.prefix)))

    @classmethod
    def load(cls, path: str | Path, lowercase: bool | None = None) -> Self:
        """Reads tokenizer.json, vocab.txt, or a folder with either.

        vocab.txt does not say whether text is lower-cased: tokenizer_config.json beside it may (do_lower_case), or
        lowercase=False for the cased models. The default is True.
        """
        path = file_to_read(path, "vocab.txt")
        file = read_vocab_txt(path, lowercase) if path.suffix == ".txt" else read_published(path)
        file.need("WordPiece")
        tokenizer = cls.of(file)
        if tokenizer is None:
            raise ValueError(f"{path} is a WordPiece, but cleaned and cut otherwise than BERT's; "
                             f"open it with models.tokenizers.load")
        return tokenizer

    @classmethod
    def of(cls, file: Published) -> Self | None:
        """The tokenizer of a file whose steps are BERT's; None of any other."""
        model, steps = file.model, file.steps
        if not isinstance(model, pieces.WordPiece) or steps.decoder != decoders.WordPiece(
                model.continuing_subword_prefix) or (text := bert_text_of(file)) is None:
            return None
        tokenizer = cls(model.vocab, file.added, text, model.unk_token, model.continuing_subword_prefix,
                        model.max_input_chars_per_word, steps.frame(), file.pad_token())
        tokenizer.model = model
        return file.finish(tokenizer)


def read_vocab_txt(path: Path, lowercase: bool | None = None) -> Published:
    """BERT's vocab.txt, one token a line, as tokenizer.json would say it; and what the files beside it say."""
    lines = read_text(path, "a tokenizer").removesuffix("\n").split("\n")
    vocab, beside = {line.rstrip("\r"): i for i, line in enumerate(lines)}, read_beside(path)
    lowercase = beside.option("do_lower_case", bool, True) if lowercase is None else lowercase
    cleaner = BertText(lowercase, beside.option("strip_accents", bool, None),
                       beside.option("tokenize_chinese_chars", bool, True))
    added = beside.added(vocab, BERT_TOKENS)
    cls, sep = ((name, added[name].id) if name in added else None
                for name in (beside.name("cls_token", "[CLS]"), beside.name("sep_token", "[SEP]")))
    steps = bert_steps(cleaner, decoders.WordPiece(), postprocessors.BertProcessing(sep, cls) if cls and sep else None)
    model = pieces.WordPiece(unk_token=beside.name("unk_token", "[UNK]"), vocab=vocab)
    return beside.finish(Published(path, steps, model, added))


def spell(word: str) -> list[str]:
    return [word[:1], *("##" + character for character in word[1:])]
