"""Byte-level BPE: the tokenizer of GPT-2 (Radford et al. 2019), RoBERTa and, with other patterns, GPT-4.

Text is cut into words by a pattern, each word becomes its UTF-8 bytes, and byte-pair merges join those. As all 256
bytes are in the vocabulary there is no unknown text, and decoding gives back exactly what was encoded.

As published, against plain BPE (Sennrich et al. 2016):
- symbols are bytes, not characters; no end-of-word mark, a word carries the space before it
- in files every byte is written as a visible character: space is U+0120, the rest below
Against the original code: words are remembered with their ids, so each distinct word is merged once; long words
take a heap; and training keeps pair counts up to date instead of counting again (pairs.py).
"""

import base64
from collections.abc import Iterable
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Self

import numpy as np

from models.files import read_text, write_text
from models.tokenizers.base import Frame, Special, Tokenizer, distinct, file_to_read
from models.tokenizers.methods import WordCache
from models.tokenizers.older import read_beside, read_merges, read_vocab, write_two_files
from models.tokenizers.pairs import ManyWords, count_words, learn_vocabulary, merge_word, ranks_of
from models.tokenizers.pipeline import decoders, postprocessors, pretokenizers
from models.tokenizers.pipeline.file import Published, Steps, listed, read_published, write_published
from models.tokenizers.pipeline.models import BPE
from models.tokenizers.pipeline.text import Regex
from models.tokenizers.split import BYTE_OF, GPT2, VISIBLE, Splitter

END = "<|endoftext|>"
TOGETHER = 16  # blocks of a text whose words are looked up together
MANY, SHORT = 300, 64  # new words that are merged together, if they are as many, and none has more bytes
RANK_FILES = {  # what OpenAI's rank files do not say: the pattern and the special tokens
    "p50k_base": ("gpt2", {END: 50256}),
    "cl100k_base": ("gpt4", {END: 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260,
                             "<|endofprompt|>": 100276}),
    "o200k_base": ("gpt4o", {END: 199999, "<|endofprompt|>": 200018}),
}  # fmt: skip


class ByteLevelBPE(Tokenizer):
    """vocab: id by token bytes; merges: pairs of tokens, first learnt first.

    whole_words: a word that is a token itself takes that token, even if no merges lead to it (tiktoken's rule, and
    `ignore_merges` in tokenizer.json). Vocabularies from training give the same ids either way.
    """

    opening = VISIBLE[ord(" ")]

    def __init__(self, vocab: dict[bytes, int], merges: list[tuple[bytes, bytes]],
                 special: dict[str, Special] | None = None, pattern: str = "gpt2", add_prefix_space: bool = False,
                 whole_words: bool = False, frame: Frame | None = None, pad_token: str | None = None):
        super().__init__(special, frame, pad_token)
        if missing := [byte for byte in range(256) if bytes([byte]) not in vocab]:
            raise ValueError(f"the vocabulary lacks {len(missing)} of the 256 bytes, first {VISIBLE[missing[0]]!r} "
                             f"(byte {missing[0]}); a byte-level BPE needs them all")
        self.vocab, self.merges = vocab, merges
        self.splitter, self.add_prefix_space, self.whole_words = Splitter(pattern), add_prefix_space, whole_words
        self.byte_ids = [vocab[bytes([byte])] for byte in range(256)]
        self.rank_of, self.joined = ranks_of(merges, vocab, show)
        by_id = {i: token for token, i in vocab.items()} | {one.id: name.encode() for name, one in self.added.items()}
        self.token_bytes = [by_id.get(i) for i in range(max(by_id) + 1)]
        self.cache = WordCache(self.merge)

    @cached_property
    def tokens(self) -> list[str | None]:
        names = {token.id: name for name, token in self.added.items()}
        return [names.get(i) or (token and show(token)) for i, token in enumerate(self.token_bytes)]

    # ---- training

    @classmethod
    def train(cls, texts: str | Iterable[str], vocab_size: int, special_tokens: Iterable[str] = (END,),
              pattern: str = "gpt2", min_frequency: int = 0, progress=None) -> Self:
        """Learns merges from the texts until the vocabulary has vocab_size tokens, or no pair is left to merge.

        Ids: special tokens, the 256 bytes in the order of their visible characters, then merges as they are learnt:
        the same vocabulary, id for id, as the `tokenizers` library's BpeTrainer.
        """
        special_tokens = distinct(special_tokens)
        if vocab_size < 256 + len(special_tokens):
            raise ValueError(f"vocab_size {vocab_size} is smaller than the alphabet: 256 bytes and "
                             f"{len(special_tokens)} special tokens; use at least {256 + len(special_tokens)}")
        counts = count_words(texts, Splitter(pattern).blocks)
        # the names are text, so that no merge can spell one
        tokens = [*special_tokens, *(bytes([BYTE_OF[character]]) for character in sorted(VISIBLE))]
        merges = learn_vocabulary(tokens, counts, lambda word: [bytes([byte]) for byte in word.encode()], vocab_size,
                                  min_frequency=min_frequency, progress=progress)
        vocab = {token: i for i, token in enumerate(tokens) if i >= len(special_tokens)}
        return cls(vocab, merges, {name: Special(i) for i, name in enumerate(special_tokens)}, pattern)

    # ---- encoding and decoding

    def encode_plain(self, text: str) -> list[int]:
        ids, blocks = [], self.splitter.blocks(self.prefix(text) + text)
        while words := [*chain.from_iterable(islice(blocks, TOGETHER))]:
            self.learn(words)
            ids.extend(self.cache.ids(words))
        return ids

    def learn(self, words: list[str]) -> None:
        """Merge the new ones among these words, where they are many: all at once takes half the time."""
        self.cache.make_room()
        new = {*words}.difference(self.cache)
        if len(new) < MANY:
            return  # each is merged when it is asked for
        known, spelt = self.vocab if self.whole_words else {}, {}
        for word in new:
            data = word.encode()
            if data in known:
                self.cache[word] = [known[data]]
            elif len(data) <= SHORT:
                spelt[word] = data
        ids = np.array(self.byte_ids)[np.frombuffer(b"".join(spelt.values()), np.uint8)]
        self.cache.update(zip(spelt, self.many.merge(ids, [*map(len, spelt.values())])))

    @cached_property
    def many(self) -> ManyWords:
        return ManyWords(self.rank_of, self.joined)

    def prefix(self, text: str) -> str:
        return " " if self.add_prefix_space and text and text[0] != " " else ""

    def merge(self, word: str) -> list[int]:
        """The ids of one word."""
        data = word.encode()
        if self.whole_words and data in self.vocab:
            return [self.vocab[data]]
        return merge_word([self.byte_ids[byte] for byte in data], self.rank_of, self.joined)

    def spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        added = self.prefix(text)  # is reported with the first character
        place = [max(i - len(added), 0) for i, character in enumerate(added + text) for _ in character.encode()]
        ids, offsets, byte = self.encode_plain(text), [], 0
        for i in ids:
            end = byte + len(self.token_bytes[i])
            offsets.append((place[byte], place[end - 1] + 1))
            byte = end
        return ids, offsets

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids; bytes that are no UTF-8 (a character cut in two) become U+FFFD."""
        return b"".join([self.token_bytes[i] for i in self.check_ids(ids)]).decode("utf-8", errors="replace")

    # ---- files

    def save(self, path: str | Path) -> None:
        """Writes tokenizer.json into a folder (or to a path ending in .json); a path ending in .tiktoken gets the
        rank file instead (base64 bytes and rank; special tokens have no place in it)."""
        if Path(path).suffix == ".tiktoken":
            ranks = sorted((i, token) for token, i in self.vocab.items())
            if ranks[-1][0] != len(ranks) - 1:
                raise ValueError(f"a rank file counts its {len(ranks)} tokens from 0, but here they run from "
                                 f"{ranks[0][0]} to {ranks[-1][0]}; train with special_tokens=[] or save a .json")
            return write_text(path, "".join(f"{base64.b64encode(token).decode()} {i}\n" for i, token in ranks))
        byte_level = pretokenizers.ByteLevel(self.add_prefix_space, False, self.splitter.pattern == GPT2)
        split = pretokenizers.Split(Regex(self.splitter.pattern), "Isolated")
        cut = byte_level if byte_level.use_regex else pretokenizers.Sequence((split, byte_level))
        model = self.model or BPE(ignore_merges=self.whole_words, **self.readable())
        write_published(path, self, model, Steps(None, cut, None, decoders.ByteLevel(trim_offsets=False)))

    def save_vocab_and_merges(self, folder: str | Path) -> None:
        """Writes the two files that GPT-2 was published with: vocab.json and merges.txt."""
        write_two_files(folder, **self.readable())

    def readable(self) -> dict:
        """What both kinds of files hold."""
        return {"vocab": {token: i for i, token in enumerate(self.tokens) if token is not None},
                "merges": [[show(left), show(right)] for left, right in self.merges]}

    @classmethod
    def load(cls, path: str | Path, special_tokens: dict[str, int] | None = None, pattern: str | None = None):
        """Reads tokenizer.json, a folder with it or with vocab.json + merges.txt, or tiktoken's rank file.

        special_tokens (ids by name) and pattern (GPT-2's) are for the files that do not say them: the last two kinds.
        Of OpenAI's rank files, called as published, they are known.
        """
        path = file_to_read(path, "vocab.json")
        if path.suffix == ".tiktoken":
            usual = RANK_FILES.get(path.stem, ("gpt2", None))
            special_tokens = usual[1] if special_tokens is None else special_tokens
            return cls.from_ranks(read_ranks(path, special_tokens or {}), special_tokens, pattern or usual[0])
        gpt2 = path.name == "vocab.json"
        file = read_gpt2(path, special_tokens, pattern or "gpt2") if gpt2 else read_published(path)
        file.need("BPE")
        if cls.pattern_of(file) is None:
            raise ValueError(f"{path} is a BPE, but not a plain byte-level one; open it with models.tokenizers.load")
        return cls.follow(file)

    @classmethod
    def of(cls, file: Published) -> Self | None:
        """The tokenizer of a file whose steps and vocabulary are GPT-2's kind; None of any other."""
        if cls.pattern_of(file) is None or not {*VISIBLE} <= file.model.vocab.keys():
            return None
        spelt = all(BYTE_OF.keys() >= {*token} for token in file.model.vocab if token not in file.added)
        return cls.follow(file) if spelt else None

    @staticmethod
    def pattern_of(file: Published) -> str | None:
        """The one pattern that cuts the text, before it becomes bytes and merges; None where other steps do more."""
        model, steps, cuts = file.model, file.steps, listed(file.steps.pre_tokenizer)
        if (not isinstance(model, BPE) or model.continuing_subword_prefix or model.end_of_word_suffix or model.dropout
                or steps.normalizer or not isinstance(steps.decoder, decoders.ByteLevel)
                or any(token.single_word for token in file.added.values()) or model.needed & file.added.keys()):
            return None
        match cuts:
            case [pretokenizers.ByteLevel(use_regex=True)]:
                return GPT2
            case [pretokenizers.Split(Regex(pattern), "Isolated", False), pretokenizers.ByteLevel(False, _, False)]:
                return pattern
        return None

    @classmethod
    def follow(cls, file: Published) -> Self:
        model, path = file.model, file.path
        tokenizer = cls({as_bytes(token, path): i for token, i in model.vocab.items() if token not in file.added},
                        [(as_bytes(left, path), as_bytes(right, path)) for left, right in model.merges], file.added,
                        cls.pattern_of(file), listed(file.steps.pre_tokenizer)[-1].add_prefix_space,
                        model.ignore_merges, file.steps.frame(), file.pad_token())
        tokenizer.model = model
        return file.finish(tokenizer)

    @classmethod
    def from_ranks(cls, ranks: dict[bytes, int], special_tokens: dict[str, int] | None, pattern: str):
        """A vocabulary whose ids are its merge order. Each merge is recovered by merging the token's own bytes with
        the merges before it: two pieces must be left, and they are the pair that made it."""
        rank_of, joined, merges, tokens = {}, [], [], {i: token for token, i in ranks.items()}
        for i, token in sorted(tokens.items()):
            if len(token) > 1:
                pieces = merge_word([ranks.get(token[k:k + 1], -1) for k in range(len(token))], rank_of, joined)
                if len(pieces) != 2 or min(pieces) < 0:
                    raise ValueError(f"rank {i}, {show(token)!r}, cannot be made by merging two tokens of lower rank: "
                                     f"the rank file is incomplete")
                rank_of[tuple(pieces)] = len(joined)
                joined.append(i)
                merges.append((tokens[pieces[0]], tokens[pieces[1]]))
        names = {END: len(ranks)} if special_tokens is None else special_tokens
        return cls(ranks, merges, {name: Special(i) for name, i in names.items()}, pattern, whole_words=True)


def read_gpt2(path: Path, special_tokens: dict[str, int] | None = None, pattern: str = "gpt2") -> Published:
    """vocab.json + merges.txt as tokenizer.json would say it.

    vocab.json does not mark special tokens: they are the ones that are neither a byte nor made by a merge, and
    those that the files beside it name.
    """
    vocab, merges = read_vocab(path), read_merges(path.with_name("merges.txt"))
    ordinary = {*VISIBLE, *(left + right for left, right in merges), *(left for left, _ in merges)}
    beside, processor = read_beside(path), None
    added = beside.added(vocab, [name for name in vocab if name not in ordinary])
    added |= {name: Special(i) for name, i in (special_tokens or {}).items()}
    prefix = beside.option("add_prefix_space", bool, False)
    if {"<s>", "</s>", "<pad>"} <= added.keys():
        sep, first = (("</s>", added["</s>"].id), ("<s>", added["<s>"].id))
        processor = postprocessors.RobertaProcessing(sep, first, True, prefix)
    cut = pretokenizers.ByteLevel(prefix, False, pattern == "gpt2")
    if not cut.use_regex:
        split = pretokenizers.Split(Regex(Splitter(pattern).pattern), "Isolated")
        cut = pretokenizers.Sequence((split, cut))
    steps = Steps(None, cut, processor, decoders.ByteLevel())
    return beside.finish(Published(path, steps, BPE(vocab=vocab, merges=merges), added))


def show(token: bytes) -> str:
    """Bytes as the visible characters that stand for them in vocabulary files."""
    return "".join([VISIBLE[byte] for byte in token])


def as_bytes(token: str, path: Path) -> bytes:
    """The bytes of a token in a vocabulary file; the inverse of show."""
    try:
        return bytes([BYTE_OF[character] for character in token])
    except KeyError as error:
        raise ValueError(f"{path}: token {token!r} holds {error.args[0]!r}, which stands for no byte; "
                         f"this is not a byte-level vocabulary, or the token should be a special one") from None


def read_ranks(path: Path, special_tokens: dict[str, int]) -> dict[bytes, int]:
    """Every rank is a token's, or a special one's, as p50k_base's 50256 is."""
    ranks = {}
    for number, line in enumerate(read_text(path, "a tokenizer").splitlines(), 1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except ValueError:
            raise ValueError(f"{path}, line {number}: {line[:60]!r} is not base64 bytes and a rank") from None
    if holes := sorted({*range(max(ranks.values(), default=-1) + 1)} - {*ranks.values(), *special_tokens.values()}):
        raise ValueError(f"{path} has {len(ranks)} tokens but none of rank {holes[0]}: the rank file has holes; "
                         f"copy it again")
    return ranks
