"""What every tokenizer does beside encoding one text: special tokens and offsets, frames, batches.

`prepare` builds what an encoder model eats: `[CLS] A [SEP] B [SEP]`, cut to a length, padded to a rectangle, with token
types and a mask. The functions are attached to Tokenizer as methods, so that base.py stays what one text needs.
"""

import multiprocessing
import os
import re
import warnings
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain

import numpy as np
import regex

from models.tokenizers.base import Special, Tokenizer, no_text
from models.tokenizers.padding import pad

WHITE_SPACE = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
WORD = regex.compile(r"\w")
CACHED_WORDS, LONG_WORD = 1 << 18, 1000
PARALLEL_FROM = 2_000_000  # characters in a batch from which starting a second process pays for itself


# ---- one text

def split_special(tokenizer: Tokenizer, text: str,
                  special: bool = True) -> Iterator[tuple[int, int, Special | None]]:
    """(start, end, added token or None for ordinary text), covering the text. special=False: only words are found."""
    for wanted in (False, True):  # first those of the text as it is written
        names = {name: token for name, token in tokenizer.added.items() if token.normalized == wanted}
        if not wanted:
            parts = list(find_added(text, names, special))
        elif names:
            parts = [(start + a, start + b, found) for start, end, token in parts for a, b, found in
                     ([(0, end - start, token)] if token else find_added(text[start:end], names, special))]
    yield from parts


def find_added(text: str, names: dict[str, Special], special: bool) -> Iterator[tuple[int, int, Special | None]]:
    """The same for one lot of added tokens; where several begin, the longest name wins."""
    done = 0
    for match in any_of(tuple(names)).finditer(text):
        token, (start, end) = names[match[0]], match.span()
        if token.special and not special:
            continue
        if token.single_word and (WORD.match(text[start - 1:start]) or WORD.match(text[end:end + 1])):
            continue
        if token.lstrip:
            start = max(done, len(text[:start].rstrip(WHITE_SPACE)))
        if token.rstrip:
            end = len(text) - len(text[end:].lstrip(WHITE_SPACE))
        if start > done:
            yield done, start, None
        if start < end:
            yield start, end, token
        done = end
    if done < len(text):
        yield done, len(text), None


@lru_cache(64)
def any_of(names: tuple[str, ...]) -> re.Pattern:
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or "(?!)")


def encode_with_offsets(tokenizer: Tokenizer, text: str,
                        special: bool = False) -> tuple[list[int], list[tuple[int, int]]]:
    """The ids, and for each the (start, end) of the characters it came from: text[start:end].

    Tokens that hold only part of a character (its bytes) report the whole character.
    """
    ids, offsets, tokens = [], [], []
    try:
        for start, end, token in tokenizer.split_special(text, special):
            found, spans = tokenizer.spans(text[start:end]) if token is None else ([token.id], [(0, end - start)])
            ids += found
            offsets += [(start + a, start + b) for a, b in spans]
            tokens += [tokenizer.tokens[i] for i in found] if token is None else [text[start:end]]
    except UnicodeEncodeError:
        raise no_text(text) from None
    # the file's post-processor may want them without the space that a token carries
    return ids, tokenizer.steps.trimmed(tokens, offsets) if tokenizer.steps else offsets


# ---- the vocabulary

def continues_word(tokenizer: Tokenizer) -> np.ndarray:
    """(V,) booleans: does the token go on with the word of the token before it?

    ValueError if the tokens do not tell, as those of single characters.
    """
    if (sign := tokenizer.opening or tokenizer.continuing) is None:
        raise ValueError(f"{type(tokenizer).__name__}: these tokens do not say where words begin")
    begins = np.array([(token or "").startswith(sign) for token in tokenizer.tokens])
    return begins if tokenizer.continuing else ~begins


def id_of(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token by its readable string; ValueError if there is none."""
    if token in tokenizer.added:
        return tokenizer.added[token].id
    if token not in tokenizer.tokens:
        raise ValueError(f"the vocabulary of {tokenizer.vocab_size} tokens has no {token!r}")
    return tokenizer.tokens.index(token)


# ---- many texts, over processes

def encode_batch(tokenizer: Tokenizer, texts: Iterable[str], special: bool = False,
                 workers: int | None = None) -> list[list[int]]:
    """The ids of many texts. Large batches are shared out over the cores; workers=1 stays in this process."""
    texts = list(texts)
    if workers is None:
        large = len(texts) > 1 and sum(map(len, texts)) >= PARALLEL_FROM
        workers = len(os.sched_getaffinity(0)) if large and hasattr(os, "sched_getaffinity") else 1
    workers = min(workers, len(texts))
    if workers < 2 or multiprocessing.current_process().daemon:
        return [tokenizer.encode(text, special) for text in texts]
    # forked processes inherit the tokenizer: nothing is copied to them
    with multiprocessing.get_context("fork").Pool(workers, initializer=inherit, initargs=(tokenizer, special)) as pool:
        return [row.tolist() for row in pool.map(encode_here, texts)]


def inherit(*tokenizer_and_special):
    global inherited
    inherited = tokenizer_and_special


def encode_here(text: str) -> array:
    """Ids travel back as an array, which is many times cheaper than a list."""
    tokenizer, special = inherited
    return array("I", tokenizer.encode(text, special))


# ---- rows for a model

@dataclass
class Batch:
    """Rows of equal length. ids, types: (B, T) int64; mask: (B, T) bool, False on padding."""
    ids: np.ndarray
    types: np.ndarray
    mask: np.ndarray


def prepare(tokenizer: Tokenizer, texts: list[str], pairs: list[str] | None = None, max_length: int | None = None,
            pad_to: int | None = None, special: bool = False) -> Batch:
    """Texts, or texts and their partners, dressed in the frame, cut to max_length and padded to one length.

    Longest first: of a pair too long for max_length the longer text is cut until both are equally long, then
    both (the second keeps the odd token, unless the first was the longer one). Rows are padded on the right to the
    longest, or to pad_to. Where the tokenizer's file says it otherwise (truncation, padding), that is done.
    """
    if max_length is None and tokenizer.truncation:
        max_length = tokenizer.truncation.max_length
    if pairs is not None and len(pairs) != len(texts):
        raise ValueError(f"prepare: {len(texts)} texts but {len(pairs)} partners; give one for each")
    firsts = tokenizer.encode_batch(texts, special)
    seconds = tokenizer.encode_batch(pairs, special) if pairs is not None else [None] * len(firsts)
    rows = [tokenizer.dress(*tokenizer.truncate(a, b, max_length)) for a, b in zip(firsts, seconds)]
    lengths = {len(ids) for ids, _ in rows}
    if tokenizer.longest and max(lengths, default=0) > tokenizer.longest:
        warnings.warn(f"a row has {max(lengths)} tokens, but the tokenizer's model was made for {tokenizer.longest}; "
                      f"give max_length to cut it", stacklevel=2)
    if pad_to is not None and (longest := max(lengths, default=0)) > pad_to:
        raise ValueError(f"prepare: a row has {longest} tokens, more than pad_to={pad_to}; "
                         f"set max_length={pad_to} to cut it")
    if tokenizer.pad_token is None and not tokenizer.padding and len(lengths | {pad_to} - {None}) > 1:
        raise ValueError("prepare: rows of unequal length need padding, but this tokenizer has no pad_token; "
                         "set tokenizer.pad_token to one of its special tokens")
    return tokenizer.batch(rows, pad_to)


def batch(tokenizer: Tokenizer, rows: list[tuple[list[int], list[int]]], length: int | None = None) -> Batch:
    """Dressed rows, (ids, types) each, padded to the longest, or to `length`."""
    if not rows:
        empty = np.zeros((0, length or 0), int)
        return Batch(empty, empty, empty.astype(bool))
    ids, types = ([np.array(row, int) for row in part] for part in zip(*rows))
    fill, fill_type, left = tokenizer.pad_id or 0, 0, False
    if padding := tokenizer.padding:
        fill, fill_type = padding.pad_id if tokenizer.pad_token is None else fill, padding.pad_type_id
        left = padding.direction == "Left"
        length = length or padding.length(max(map(len, ids)))
    mask = pad([np.ones(len(row), bool) for row in ids], False, length, left=left)
    return Batch(pad(ids, fill, length, left=left), pad(types, fill_type, length, left=left), mask)


def dress(tokenizer: Tokenizer, a: list[int], b: list[int] | None = None) -> tuple[list[int], list[int]]:
    """The ids and token types of one text, or of a pair, in the frame."""
    ids, types, frame, added = [], [], tokenizer.frame, tokenizer.added
    single_types = frame.single_types or [0] * len(frame.single)
    for item, kind in zip(frame.single, single_types) if b is None else zip(frame.pair, frame.types):
        some = a if item == "A" else b if item == "B" else [added[item].id]
        ids += some
        types += [kind] * len(some)
    return ids, types


def truncate(tokenizer: Tokenizer, a: list[int], b: list[int] | None,
             max_length: int | None) -> tuple[list[int], list[int] | None]:
    """The texts cut so that they and their frame have max_length tokens."""
    if max_length is None:
        return a, b
    room = max_length - (len(tokenizer.frame.single) - 1 if b is None else len(tokenizer.frame.pair) - 2)
    if room < 0:
        raise ValueError(f"max_length {max_length} is too short for the special tokens alone; "
                         f"use at least {max_length - room}")
    keep_a, keep_b = lengths_kept(len(a), None if b is None else len(b), room,
                                  tokenizer.truncation.strategy if tokenizer.truncation else "LongestFirst")
    if tokenizer.truncation and tokenizer.truncation.direction == "Left":
        return a[max(0, len(a) - keep_a):], b if b is None else b[max(0, len(b) - keep_b):]
    return a[:keep_a], b if b is None else b[:keep_b]


def lengths_kept(a: int, b: int | None, room: int, strategy: str) -> tuple[int, int]:
    """How much of two texts of so many tokens is kept, where there is room for `room`."""
    if strategy != "LongestFirst" and a + (b or 0) > room:
        if strategy == "OnlySecond" and b is None:
            raise ValueError("this tokenizer cuts only the second of two texts (OnlySecond); give a pair")
        first = strategy == "OnlyFirst"
        left = room - (b or 0 if first else a)
        if left <= 0:
            raise ValueError(f"the {'first' if first else 'second'} text is the only one that may be cut ({strategy}), "
                             f"and the other leaves it no room")
        return (left, b or 0) if first else (a, left)
    if b is None:
        return room, 0
    short = min(a, b, room // 2)
    return (room - short, short) if a > b else (short, room - short)


Tokenizer.split_special, Tokenizer.encode_with_offsets = split_special, encode_with_offsets
Tokenizer.continues_word, Tokenizer.id_of = continues_word, id_of
Tokenizer.encode_batch, Tokenizer.prepare, Tokenizer.batch = encode_batch, prepare, batch
Tokenizer.dress, Tokenizer.truncate = dress, truncate


# ---- words remembered

class WordCache(dict):
    """The ids of every word met so far: a missing word is encoded and remembered.

    Most words of a text have been seen before, so this is what makes the merging schemes fast.
    """

    def __init__(self, encode_word: Callable[[str], list[int]]):
        self.encode_word = encode_word

    def __missing__(self, word):
        ids = self.encode_word(word)
        if len(word) < LONG_WORD:  # whole texts, where nothing cuts them, come but once
            self[word] = ids
        return ids

    def make_room(self) -> None:
        """Text with endless new words must not fill the memory."""
        if len(self) > CACHED_WORDS:
            self.clear()

    def ids(self, words: list[str]) -> Iterator[int]:
        self.make_room()
        return chain.from_iterable(map(self.__getitem__, words))
