"""Classic BPE: byte-pair encoding with end-of-word marks, the tokenizer of GPT-1 (Radford et al. 2018).

Sennrich, Haddow & Birch 2016: a word is spelt in characters, the last one marked `</w>`, and the learnt merges are
replayed. So `est</w>` (a word's end) and `est` differ, and decoding puts a space where a mark stands. A character
the vocabulary lacks becomes <unk>, each one by itself.

GPT-1 cleaned its text with ftfy and spaCy. Like the `tokenizers` library, whose ids ours equal, we take BERT's
clean-up with lower-casing instead (bert_text.py): every punctuation character is a word of its own.
Training gives ids to the characters by code point, then to the marked ones by code point.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Self

from models.tokenizers.base import Frame, Special, distinct, file_to_read
from models.tokenizers.bert_steps import bert_steps, bert_text_of
from models.tokenizers.bert_text import BertText, BertWords
from models.tokenizers.older import read_beside, read_merges, read_vocab, write_two_files
from models.tokenizers.pairs import first_symbols, learn_vocabulary, merge_word, ranks_of
from models.tokenizers.pipeline import decoders
from models.tokenizers.pipeline.file import Published, read_published, write_published
from models.tokenizers.pipeline.models import BPE

END = "</w>"


class ClassicBPE(BertWords):
    """vocab: id by token, with `</w>` on those that end a word; merges: pairs of tokens, first learnt first."""

    def __init__(self, vocab: dict[str, int], merges: list[tuple[str, str]], special: dict[str, Special] | None = None,
                 text: BertText | None = None, unk_token: str = "<unk>", frame: Frame | None = None,
                 pad_token: str | None = None):
        special = special or {token: Special(vocab[token]) for token in (unk_token,) if token in vocab}
        super().__init__(vocab, special, text, unk_token, frame, pad_token)
        self.merges = merges
        self.rank_of, self.joined = ranks_of(merges, vocab)

    @classmethod
    def train(cls, texts: str | Iterable[str], vocab_size: int, special_tokens: Iterable[str] = ("<unk>",),
              lowercase: bool = True, min_frequency: int = 0, alphabet: Iterable[str] | None = None,
              limit_alphabet: int | None = None, progress=None) -> Self:
        """Learns merges from the texts until the vocabulary has vocab_size tokens, or no pair is left to merge.

        alphabet: the single symbols in the order of their ids, if not the order above; symbols outside it, or
        outside the limit_alphabet most frequent characters, are left out of words.
        """
        text, special_tokens = BertText(lowercase), distinct(special_tokens, "<unk>")
        counts = text.count_words(texts)
        tokens = first_symbols(counts, spell, special_tokens, alphabet, limit_alphabet)
        merges = learn_vocabulary(tokens, counts, spell, vocab_size, min_frequency=min_frequency, progress=progress)
        vocab = {token: i for i, token in enumerate(tokens)}
        return cls(vocab, merges, {token: Special(vocab[token]) for token in special_tokens}, text)

    # ---- encoding and decoding

    def match(self, word: str) -> list[tuple[int, int, int]]:
        """(id, start, end) of each token in the word."""
        found, start = [], 0
        for i in merge_word([self.vocab.get(symbol, self.unk_id) for symbol in spell(word)], self.rank_of, self.joined):
            end = start + (1 if i == self.unk_id else len(self.tokens[i].removesuffix(END)))
            found.append((i, start, end))
            start = end
        return found

    def decode(self, ids: Iterable[int]) -> str:
        """The words with a space between. Case, accents and the spaces around punctuation stay lost."""
        return "".join(decoders.BPEDecoder(END)(self.tokens_of(ids)))

    # ---- files

    def save(self, path: str | Path) -> None:
        """Writes tokenizer.json into a folder, or to a path ending in .json."""
        model = BPE(unk_token=self.unk_token, end_of_word_suffix=END, vocab=self.vocab, merges=self.merges)
        write_published(path, self, self.model or model, bert_steps(self.text, decoders.BPEDecoder(END)))

    def save_vocab_and_merges(self, folder: str | Path) -> None:
        """Writes the two files that GPT-1 was published with in `transformers`: vocab.json and merges.txt."""
        write_two_files(folder, self.vocab, self.merges)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads tokenizer.json, or a folder with it or with GPT-1's vocab.json + merges.txt."""
        path = file_to_read(path, "vocab.json")
        file = read_gpt1(path) if path.name == "vocab.json" else read_published(path)
        file.need("BPE")
        tokenizer = cls.of(file)
        if tokenizer is None:
            raise ValueError(f"{path} is a BPE without {END!r} marks, or cleaned and cut otherwise than GPT-1's; "
                             f"open it with models.tokenizers.load")
        return tokenizer

    @classmethod
    def of(cls, file: Published) -> Self | None:
        """The tokenizer of a file whose steps are GPT-1's; None of any other."""
        model = file.model
        if (not isinstance(model, BPE) or model.end_of_word_suffix != END or model.continuing_subword_prefix
                or model.fuse_unk or model.byte_fallback or model.ignore_merges or model.dropout
                or model.unk_token not in model.vocab or file.steps.decoder != decoders.BPEDecoder(END)
                or model.needed & file.added.keys() or (text := bert_text_of(file)) is None):
            return None
        tokenizer = cls(model.vocab, model.merges, file.added, text, model.unk_token, file.steps.frame(),
                        file.pad_token())
        tokenizer.model = model
        return file.finish(tokenizer)


def read_gpt1(path: Path) -> Published:
    """GPT-1's vocab.json + merges.txt as tokenizer.json would say it; and what the files beside them say."""
    vocab, beside = read_vocab(path), read_beside(path)
    model = BPE(unk_token=beside.name("unk_token", "<unk>"), end_of_word_suffix=END, vocab=vocab,
                merges=read_merges(path.with_name("merges.txt")))
    text = BertText(beside.option("do_lower_case", bool, True))
    return beside.finish(Published(path, bert_steps(text, decoders.BPEDecoder(END)), model,
                                   beside.added(vocab, [model.unk_token])))


def spell(word: str) -> list[str]:
    return [*word[:-1], word[-1:] + END]
