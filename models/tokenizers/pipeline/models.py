"""Models: how a word that the pre-tokenizer made becomes tokens.

Each says so by `tokens(word)`: the (id, start, end) of each, places in the word's characters. The fields are the
published ones, in the order in which files have them.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Self

from models.schema import Id, Part, Whole, shown
from models.tokenizers.pairs import merge_word
from tinytensor import random

Token = tuple[int, int, int]
UNKNOWN_PENALTY = 10.0


@dataclass(frozen=True, kw_only=True)
class BPE:
    """Byte-pair encoding (pairs.py): the word's characters, joined by the merges, the first learnt first.

    unk_token: of a character that is not in the vocabulary; null: it vanishes.   fuse_unk: neighbouring ones are one.
    byte_fallback: such a character becomes its bytes, <0xC3> <0xA9>, if these are all in the vocabulary.
    ignore_merges: a word that is in the vocabulary is taken whole.   dropout: how often a merge is left out, by chance.
    continuing_subword_prefix, end_of_word_suffix: of characters that do not begin a word, that end one.
    """

    dropout: Part | None = None
    unk_token: str | None = None
    continuing_subword_prefix: str | None = None
    end_of_word_suffix: str | None = None
    fuse_unk: bool = False
    byte_fallback: bool = False
    ignore_merges: bool = False
    vocab: dict[str, Id]
    merges: list[tuple[str, str]]

    def __post_init__(self):
        if self.byte_fallback and (self.continuing_subword_prefix or self.end_of_word_suffix):
            raise ValueError("a BPE with byte_fallback and marks of a word's parts is not supported")
        self.table  # noqa: B018 (merges that name what is not in the vocabulary are refused here)
        if self.unk_token and self.parts.get(self.vocab.get(self.unk_token, -1), 1) > 1:
            raise ValueError(f"a merge makes {self.unk_token!r}, the unk_token; that is not supported")

    @cached_property
    def table(self) -> tuple[dict[tuple[int, int], int], list[int]]:
        """rank_of and joined, as merge_word takes them."""
        rank_of, joined, cut = {}, [], len(self.continuing_subword_prefix or "")
        for rank, (left, right) in enumerate(self.merges):
            for token in (left, right, left + right[cut:]):
                if token not in self.vocab:
                    merge = f"merge {rank + 1}, {shown(left)} + {shown(right)}"
                    raise ValueError(f"{merge}, names {shown(token)}, which is not in the vocabulary; are the two of "
                                     f"one tokenizer?")
            rank_of[self.vocab[left], self.vocab[right]] = rank
            joined.append(self.vocab[left + right[cut:]])
        return rank_of, joined

    @cached_property
    def parts(self) -> dict[int, int]:
        """Of how many symbols a token is made; of one, if it is not here."""
        parts: dict[int, int] = {}
        rank_of, joined = self.table
        for (left, right), rank in rank_of.items():
            parts[joined[rank]] = parts.get(left, 1) + parts.get(right, 1)
        return parts

    def tokens(self, word: str) -> list[Token]:
        if self.ignore_merges and not self.dropout and word in self.vocab:
            return [(self.vocab[word], 0, len(word))]
        symbols = self.symbols(word)
        ids = [i for i, _ in symbols]
        ids = drop_merges(ids, *self.table, self.dropout) if self.dropout else merge_word(ids, *self.table)
        found, at, start = [], 0, 0
        for i in ids:
            end = start + sum([size for _, size in symbols[at : at + self.parts.get(i, 1)]])
            at += self.parts.get(i, 1)
            found.append((i, start, end))
            start = end
        if word.isascii():
            return found
        place = [number for number, one in enumerate(word) for _ in one.encode()]  # in characters, of each byte
        return [(i, place[start], place[end - 1] + 1) for i, start, end in found]

    def symbols(self, word: str) -> list[tuple[int, int]]:
        """(id, size in bytes) of each character; several of one that falls back to its bytes."""
        symbols, unknown = [], 0  # how many bytes of unknown text are still to be said
        for number, one in enumerate(word):
            spelt = (self.continuing_subword_prefix or "") * (number > 0) + one
            spelt += (self.end_of_word_suffix or "") * (number == len(word) - 1)
            size = len(one.encode())
            if (i := self.vocab.get(spelt)) is not None:
                symbols += [*self.unknown(unknown), (i, size)]
                unknown = 0
            elif self.byte_fallback and (bytes_of := self.bytes_of(one)) is not None:
                symbols += [(i, 1) for i in bytes_of]  # before the unknown text, if any: so it is published
            elif self.unk_token is not None:
                symbols += [] if self.fuse_unk else self.unknown(unknown)
                unknown = unknown + size if self.fuse_unk else size
        return symbols + self.unknown(unknown)

    def unknown(self, size: int) -> list[tuple[int, int]]:
        return [(unknown_id(self.vocab, self.unk_token), size)] if size else []

    def bytes_of(self, character: str) -> list[int] | None:
        ids = [self.vocab.get(f"<0x{byte:02X}>") for byte in character.encode()]
        return None if None in ids else ids

    def without(self, names: set[str]) -> Self:
        """The same, but it never says these, unless merges need them."""
        return narrowed(self, names - self.needed - {self.unk_token})

    @cached_property
    def needed(self) -> set[str]:
        """The tokens that merges join, and those they make."""
        cut = len(self.continuing_subword_prefix or "")
        return {token for left, right in self.merges for token in (left, right, left + right[cut:])}


def drop_merges(ids: list[int], rank_of: dict[tuple[int, int], int], joined: list[int], share: float) -> list[int]:
    """Merges where, at each step, each possible one is passed over with a probability (BPE-dropout, Provilkov et al.
    2020): the first of the others, by rank and then from the left, is done; where none is left, it ends."""
    rng = random.generator()
    while True:
        possible = sorted((rank_of[pair], at) for at, pair in enumerate(pairwise(ids)) if pair in rank_of)
        chosen = next((one for one in possible if rng.random() >= share), None)
        if chosen is None:
            return ids
        rank, at = chosen
        ids = [*ids[:at], joined[rank], *ids[at + 2 :]]


@dataclass(frozen=True, kw_only=True)
class WordPiece:
    """The longest tokens from left to right; a word that cannot be spelt so, or is too long, is one unk_token."""

    unk_token: str = "[UNK]"
    continuing_subword_prefix: str = "##"
    max_input_chars_per_word: Whole = 100
    vocab: dict[str, Id]

    def tokens(self, word: str) -> list[Token]:
        found = longest_pieces(word, self.vocab, self.continuing_subword_prefix, self.max_input_chars_per_word)
        return [(unknown_id(self.vocab, self.unk_token), 0, len(word))] if found is None else found

    def without(self, names: set[str]) -> Self:
        return narrowed(self, names - {self.unk_token})


def longest_pieces(word: str, vocab: dict[str, int], prefix: str, most: int) -> list[Token] | None:
    """The longest token that starts the word, then the longest `##` token that starts the rest, and so on; None if
    the rest ever starts with none, or the word has more than `most` characters."""
    found, start = [], 0
    while start < len(word) <= most:
        for end in range(len(word), start, -1):
            i = vocab.get(prefix + word[start:end] if start else word[:end])
            if i is not None:
                found.append((i, start, end))
                start = end
                break
        else:
            break
    return found if start == len(word) else None


@dataclass(frozen=True)
class WordLevel:
    """A word is a token, or unk_token."""

    vocab: dict[str, Id]
    unk_token: str

    def tokens(self, word: str) -> list[Token]:
        i = self.vocab.get(word)
        return [(unknown_id(self.vocab, self.unk_token) if i is None else i, 0, len(word))]

    def without(self, names: set[str]) -> Self:
        return narrowed(self, names - {self.unk_token})


@dataclass(frozen=True)
class Unigram:
    """The likeliest segmentation, by the pieces' log probabilities (unigram.py); byte_fallback as in BPE."""

    unk_id: Id | None
    pieces: list[tuple[str, float]]
    byte_fallback: bool = False

    def __post_init__(self):
        if self.unk_id is not None and self.unk_id >= len(self.pieces):
            raise ValueError(f"unk_id {self.unk_id} is none of the {len(self.pieces)} pieces")

    @cached_property
    def vocab(self) -> dict[str, int]:
        return {piece: i for i, (piece, _) in enumerate(self.pieces)}

    @cached_property
    def table(self) -> dict[str, tuple[float, int] | None]:
        return piece_table([(piece, self.pieces[i][1], i) for piece, i in self.vocab.items() if piece])

    @cached_property
    def unknown_score(self) -> float:
        return min((score for _, score in self.pieces), default=math.inf) - UNKNOWN_PENALTY

    def tokens(self, word: str) -> list[Token]:
        found, start = [], 0
        for i, end in likeliest(word, self.table, self.unknown_score, self.unk_id):
            if i is None:
                unknown_id({}, "unk_id")
            if found and i == self.unk_id == found[-1][0]:  # a run of unknown characters is one piece
                found[-1] = (i, found[-1][1], end)
            else:
                found.append((i, start, end))
            start = end
        if not any(i == self.unk_id for i, _, _ in found):
            return found
        return [(one, start, end) for i, start, end in found for one in self.spelt(i, word[start:end])]

    def spelt(self, i: int, text: str) -> list[int]:
        """The id of a piece; of an unknown one those of its bytes, if they may stand for it and are all there."""
        if text in self.vocab:
            return [self.vocab[text]]
        ids = [self.vocab.get(f"<0x{byte:02X}>") for byte in text.encode()] if self.byte_fallback else [None]
        return [i] if None in ids else ids

    def without(self, names: set[str]) -> Self:
        unknown = {self.pieces[self.unk_id][0]} if self.unk_id is not None else set()
        names = (names & self.vocab.keys()) - unknown
        return replace(self, pieces=[("" if piece in names else piece, score) for piece, score in self.pieces])


def piece_table(pieces: list[tuple[str, float, int]]) -> dict[str, tuple[float, int] | None]:
    """(score, id) of every piece, and None of what only starts one."""
    table: dict = {piece[:end]: None for piece, _, _ in pieces for end in range(1, len(piece))}
    return table | {piece: (score, i) for piece, score, i in pieces}


def likeliest(text: str, table: dict, unknown_score: float, unk_id: int | None) -> list[tuple[int, int]]:
    """The likeliest pieces of a text: (id, end) of each. Unknown characters come one by one.

    best[end] is the score of the best segmentation of text[:end], whose last piece starts at `start`. Among equals
    the one found first stays, which is the one whose last piece is longer.
    """
    n, get = len(text), table.get
    best, start, ids = [-math.inf] * (n + 1), [0] * (n + 1), [unk_id] * (n + 1)
    best[0] = 0.0
    for i in range(n):
        here, single = best[i], False
        for end in range(i + 1, n + 1):
            found = get(text[i:end], False)
            if found is False:
                break
            if found is not None:
                single = single or end == i + 1
                score = here + found[0]
                if score > best[end]:
                    best[end], start[end], ids[end] = score, i, found[1]
        if not single and here + unknown_score > best[i + 1]:
            best[i + 1], start[i + 1], ids[i + 1] = here + unknown_score, i, unk_id
    path, end = [], n
    while end:
        path.append((ids[end], end))
        end = start[end]
    return path[::-1]


def narrowed(model, names: set[str]):
    """The model without these in its vocabulary."""
    if not names & model.vocab.keys():
        return model
    return replace(model, vocab={token: i for token, i in model.vocab.items() if token not in names})


def unknown_id(vocab: dict[str, int], unk_token: str | None) -> int:
    if unk_token not in vocab:
        raise ValueError(f"the text holds what the vocabulary cannot spell, and it has no {unk_token!r} to say so")
    return vocab[unk_token]


Model = BPE | WordPiece | WordLevel | Unigram
MODELS = (BPE, WordPiece, WordLevel, Unigram)
