"""Classic BPE: byte-pair encoding with end-of-word marks, the tokenizer of GPT-1 (Radford et al. 2018).

Sennrich, Haddow & Birch 2016: a word is spelt in characters, the last one marked `</w>`, and the learnt merges are
replayed. So `est</w>` (a word's end) and `est` differ, and decoding puts a space where a mark stands. A character
the vocabulary lacks becomes <unk>, each one by itself.

GPT-1 cleaned its text with ftfy and spaCy. Like the `tokenizers` library, whose ids ours equal, we take BERT's
clean-up with lower-casing instead (bert_text.py): every punctuation character is a word of its own.
Training gives ids to the characters by code point, then to the marked ones by code point.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from models.files import read_json
from models.tokenizers.base import Frame, Special, Tokenizer, WordCache, distinct
from models.tokenizers.bert_text import BertText
from models.tokenizers.pairs import first_symbols, learn_vocabulary, merge_word, ranks_of
from models.tokenizers.tokenizer_json import TokenizerJson, read_merges, write_published, write_vocab_and_merges

END = "</w>"


class ClassicBPE(Tokenizer):
    """vocab: id by token, with `</w>` on those that end a word; merges: pairs of tokens, first learnt first."""

    def __init__(self, vocab: dict[str, int], merges: list[tuple[str, str]], special: dict[str, Special] | None = None,
                 text: BertText | None = None, unk_token: str = "<unk>", frame: Frame | None = None,
                 pad_token: str | None = None):
        if unk_token not in vocab:
            raise ValueError(f"the vocabulary has no {unk_token!r} for characters it lacks; add it, or name another "
                             f"unk_token")
        super().__init__(special or {unk_token: Special(vocab[unk_token])}, frame, pad_token)
        self.vocab, self.merges, self.text = vocab, merges, text or BertText()
        self.unk_token, self.unk_id = unk_token, vocab[unk_token]
        self.rank_of, self.joined = ranks_of(merges, vocab)
        by_id = {i: token for token, i in vocab.items()} | {one.id: name for name, one in self.special.items()}
        self.tokens = [by_id.get(i) for i in range(max(by_id) + 1)]
        self.cache = WordCache(self.encode_raw_word)

    @classmethod
    def train(cls, texts: str | Iterable[str], vocab_size: int, special_tokens: Iterable[str] = ("<unk>",),
              lowercase: bool = True, min_frequency: int = 0, alphabet: Iterable[str] | None = None,
              limit_alphabet: int | None = None, progress=None) -> ClassicBPE:
        """Learns merges from the texts until the vocabulary has vocab_size tokens, or no pair is left to merge.

        alphabet: the single symbols in the order of their ids, if not the order above; symbols outside it, or
        outside the limit_alphabet most frequent characters, are left out of words.
        """
        text, special_tokens = BertText(lowercase), distinct(special_tokens, "<unk>")
        counts = text.count_words(texts)
        tokens = first_symbols(counts, spell, special_tokens, alphabet, limit_alphabet)
        words = ((spell(word), count) for word, count in counts.items())
        merges = learn_vocabulary(tokens, words, vocab_size, min_frequency=min_frequency, progress=progress)
        vocab = {token: i for i, token in enumerate(tokens)}
        return cls(vocab, merges, {token: Special(vocab[token]) for token in special_tokens}, text)

    # ---- encoding and decoding

    def encode_plain(self, text: str) -> list[int]:
        return list(self.cache.ids(self.text.raw_words(text)))

    def encode_raw_word(self, raw: str) -> list[int]:
        return [i for word in self.text.words(raw) for i in self.merge(word)]

    def merge(self, word: str) -> list[int]:
        ids = [self.vocab.get(symbol, self.unk_id) for symbol in spell(word)]
        return merge_word(ids, self.rank_of, self.joined)

    def spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        ids, offsets = [], []
        for word, places in self.text.words_with_places(text):
            start = 0
            for i in self.merge(word):
                end = start + (1 if i == self.unk_id else len(self.tokens[i].removesuffix(END)))
                ids.append(i)
                offsets.append((places[start], places[end - 1] + 1))
                start = end
        return ids, offsets

    def decode(self, ids: Iterable[int]) -> str:
        """The words with a space between. Case, accents and the spaces around punctuation stay lost."""
        return "".join([token.replace(END, " ") for token in self.tokens_of(ids)]).removesuffix(" ")

    # ---- files

    def save(self, path: str | Path) -> None:
        """Writes tokenizer.json into a folder, or to a path ending in .json."""
        write_published(
            path, self, normalizer=self.text.to_json(), pre_tokenizer={"type": "BertPreTokenizer"},
            decoder={"type": "BPEDecoder", "suffix": END},
            model={"type": "BPE", "dropout": None, "unk_token": self.unk_token, "continuing_subword_prefix": None,
                   "end_of_word_suffix": END, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                   "vocab": self.vocab, "merges": self.merges})

    def save_vocab_and_merges(self, folder: str | Path) -> None:
        """Writes the two files that GPT-1 was published with in `transformers`: vocab.json and merges.txt."""
        write_vocab_and_merges(folder, self.vocab, self.merges)

    @classmethod
    def load(cls, path: str | Path) -> ClassicBPE:
        """Reads tokenizer.json, or a folder with it or with GPT-1's vocab.json + merges.txt."""
        path = Path(path)
        if path.suffix != ".json" and not (path / "tokenizer.json").exists() and (path / "vocab.json").exists():
            return cls(read_json(path / "vocab.json", "a tokenizer"), read_merges(path / "merges.txt"))
        spec = TokenizerJson(path, "BPE")
        if spec.model.get("end_of_word_suffix") != END:
            raise ValueError(f"{spec.path} is a BPE without {END!r} marks; open it with models.tokenizers.load")
        text = BertText.from_json(spec.only_step("normalizer", "normalizers", "BertNormalizer"))
        return cls(spec.vocab(), spec.merges(), spec.special(), text, spec.model.get("unk_token") or "<unk>",
                   spec.frame(), spec.pad_token(("<pad>",)))

    from_pretrained = load


def spell(word: str) -> list[str]:
    return [*word[:-1], word[-1:] + END]
