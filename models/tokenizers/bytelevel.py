"""Byte-level BPE: the tokenizer of GPT-2 (Radford et al. 2019), RoBERTa and, with other patterns, GPT-4.

Text is cut into words by a pattern, each word becomes its UTF-8 bytes, and byte-pair merges join those. As all 256
bytes are in the vocabulary there is no unknown text, and decoding gives back exactly what was encoded.

As published, against plain BPE (Sennrich et al. 2016):
- symbols are bytes, not characters; no end-of-word mark, a word carries the space before it
- in files every byte is written as a visible character: space is U+0120, the rest below
Against the original code: words are remembered with their ids, so each distinct word is merged once; long words
take a heap; and training keeps pair counts up to date instead of counting again (pairs.py).

GPT-2's pattern keeps letters, digits and punctuation apart, glues one space to the word that follows it and splits
English contractions off; GPT-4's limits numbers to three digits. No merge crosses a cut. Both need Unicode classes,
hence the `regex` package. On ASCII text a class is a handful of ranges, which Python's own `re` matches twice as
fast, so text is cut into blocks, and each block that is all ASCII takes that road.
"""

import base64
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Self

from models.files import read_json, read_text, write_text
from models.tokenizers.base import Frame, Special, Tokenizer, distinct, file_to_read
from models.tokenizers.methods import WHITE_SPACE, WordCache
from models.tokenizers.pairs import count_words, learn_vocabulary, merge_word, ranks_of
from models.tokenizers.patterns import compiled, matches
from models.tokenizers.tokenizer_json import BPE, TokenizerJson, framed, read_merges, write_published, write_two_files

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
# A printable character for each byte: itself where it has one, else the next of U+0100, U+0101, ...
PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
OTHERS = [byte for byte in range(256) if byte not in PRINTABLE]
BYTE_OF = {chr(byte): byte for byte in PRINTABLE} | {chr(256 + n): byte for n, byte in enumerate(OTHERS)}
VISIBLE = sorted(BYTE_OF, key=BYTE_OF.get)


class Splitter:
    """Cuts text into words by a pattern: "gpt2", "gpt4", or any pattern of the `regex` package whose matches tile text.

    list(Splitter("gpt2").blocks("It's 12!"))  ->  [["It", "'s", " 12", "!"]]
    """

    def __init__(self, pattern: str = "gpt2"):
        self.pattern = {"gpt2": GPT2, "gpt4": GPT4}.get(pattern, pattern)
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
        return [text[match.start():match.end()] for match in matches(self.anywhere, NEWER.sub(NEITHER, text))]


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
        by_id = {i: token for token, i in vocab.items()} | {one.id: name.encode() for name, one in self.special.items()}
        self.token_bytes = [by_id.get(i) for i in range(max(by_id) + 1)]
        self.cache = WordCache(self.merge)

    @cached_property
    def tokens(self) -> list[str | None]:
        names = {token.id: name for name, token in self.special.items()}
        return [names.get(i) or (token and show(token)) for i, token in enumerate(self.token_bytes)]

    # ---- training

    @classmethod
    def train(cls, texts: str | Iterable[str], vocab_size: int, special_tokens: Iterable[str] = ("<|endoftext|>",),
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
        ids, text = [], self.prefix(text) + text
        for words in self.splitter.blocks(text):
            ids.extend(self.cache.ids(words))
        return ids

    def prefix(self, text: str) -> str:
        return " " if self.add_prefix_space and text and text[0] not in WHITE_SPACE else ""

    def merge(self, word: str) -> list[int]:
        """The ids of one word."""
        data = word.encode()
        if self.whole_words and data in self.vocab:
            return [self.vocab[data]]
        return merge_word([self.byte_ids[byte] for byte in data], self.rank_of, self.joined)

    def spans(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        added = self.prefix(text)  # stands at place -1
        place = [i - len(added) for i, character in enumerate(added + text) for _ in character.encode()]
        ids, offsets, byte = self.encode_plain(text), [], 0
        for i in ids:
            end = byte + len(self.token_bytes[i])
            offsets.append((max(place[byte], 0), place[end - 1] + 1))
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
        byte_level = {"type": "ByteLevel", "add_prefix_space": self.add_prefix_space, "trim_offsets": False,
                      "use_regex": self.splitter.pattern == GPT2}
        split = {"type": "Split", "pattern": {"Regex": self.splitter.pattern}, "behavior": "Isolated", "invert": False}
        before = {"type": "Sequence", "pretokenizers": [split, byte_level]}
        write_published(
            path, self, pre_tokenizer=byte_level if byte_level["use_regex"] else before, decoder=byte_level,
            model=BPE | {"ignore_merges": self.whole_words} | self.readable())

    def save_vocab_and_merges(self, folder: str | Path) -> None:
        """Writes the two files that GPT-2 was published with: vocab.json and merges.txt."""
        write_two_files(folder, **self.readable())

    def readable(self) -> dict:
        """What both kinds of files hold."""
        return {"vocab": {token: i for i, token in enumerate(self.tokens) if token is not None},
                "merges": [[show(left), show(right)] for left, right in self.merges]}

    @classmethod
    def load(cls, path: str | Path, special_tokens: dict[str, int] | None = None, pattern: str = "gpt2"):
        """Reads tokenizer.json, a folder with it or with vocab.json + merges.txt, or tiktoken's rank file.

        special_tokens (ids by name) and pattern are for the files that do not say them: the last two kinds.
        """
        path = file_to_read(path, "vocab.json")
        if path.suffix == ".tiktoken":
            return cls.from_ranks(read_ranks(path), special_tokens, pattern)
        if path.name == "vocab.json":
            return cls.from_vocab_and_merges(path, special_tokens, pattern)
        spec = TokenizerJson(path, "BPE")
        model, steps = spec.model, spec.steps("pre_tokenizer", "pretokenizers")
        byte_level = steps.get("ByteLevel")
        if byte_level is None or model.get("end_of_word_suffix") or spec.steps("normalizer", "normalizers"):
            raise ValueError(f"{path} is a BPE, but not a plain byte-level one; open it with models.tokenizers.load")
        if "Split" in steps:
            pattern = steps["Split"]["pattern"].get("Regex", pattern)
        special = spec.special()
        return cls({as_bytes(token, path): i for token, i in spec.vocab().items() if token not in special},
                   [(as_bytes(left, path), as_bytes(right, path)) for left, right in spec.merges()],
                   special, pattern, byte_level.get("add_prefix_space", False), model.get("ignore_merges", False),
                   spec.frame(), spec.pad_token("<pad>", "<|endoftext|>"))

    @classmethod
    def from_vocab_and_merges(cls, path: Path, special_tokens: dict[str, int] | None, pattern: str):
        """vocab.json does not mark special tokens: they are the ones that are neither a byte nor made by a merge."""
        vocab, second = read_json(path, "a tokenizer"), path.with_name("merges.txt")
        merges = [(as_bytes(left, second), as_bytes(right, second)) for left, right in read_merges(second)]
        ordinary = {*VISIBLE, *(show(left + right) for left, right in merges), *(show(left) for left, _ in merges)}
        special = {name: Special(i, lstrip=name == "<mask>") for name, i in vocab.items() if name not in ordinary}
        special |= {name: Special(i) for name, i in (special_tokens or {}).items()}
        vocab = {as_bytes(token, path): i for token, i in vocab.items() if token not in special}
        if {"<s>", "</s>", "<pad>"} <= special.keys():
            return cls(vocab, merges, special, pattern, frame=framed("<s>", "</s>", doubled=True), pad_token="<pad>")
        return cls(vocab, merges, special, pattern)

    @classmethod
    def from_ranks(cls, ranks: dict[bytes, int], special_tokens: dict[str, int] | None, pattern: str):
        """A vocabulary whose ids are its merge order. Each merge is recovered by merging the token's own bytes with
        the merges before it: two pieces must be left, and they are the pair that made it."""
        rank_of, joined, merges, tokens = {}, [], [], sorted(ranks, key=ranks.get)
        for i, token in enumerate(tokens):
            if len(token) > 1:
                pieces = merge_word([ranks.get(token[k:k + 1], -1) for k in range(len(token))], rank_of, joined)
                if len(pieces) != 2 or min(pieces) < 0:
                    raise ValueError(f"rank {i}, {show(token)!r}, cannot be made by merging two tokens of lower rank: "
                                     f"the rank file is incomplete")
                rank_of[tuple(pieces)] = len(joined)
                joined.append(i)
                merges.append((tokens[pieces[0]], tokens[pieces[1]]))
        names = {"<|endoftext|>": len(ranks)} if special_tokens is None else special_tokens
        return cls(ranks, merges, {name: Special(i) for name, i in names.items()}, pattern, whole_words=True)


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


def read_ranks(path: Path) -> dict[bytes, int]:
    ranks = {}
    for number, line in enumerate(read_text(path, "a tokenizer").splitlines(), 1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except ValueError:
            raise ValueError(f"{path}, line {number}: {line[:60]!r} is not base64 bytes and a rank") from None
    if holes := sorted({*range(len(ranks))} - {*ranks.values()}):
        raise ValueError(f"{path} has {len(ranks)} tokens but none of rank {holes[0]}: the rank file has holes; "
                         f"copy it again")
    return ranks
