"""What SentencePiece does around its model (Kudo & Richardson 2018): the text it sees, and its file, spiece.model.

Text is normalized, white space squeezed, each word led by U+2581. A published model brings its own table of
replacements (precompiled_charsmap: NFKC with some exceptions), which is read here as SentencePiece reads it
(`tokenizers` drops an accent that follows a replaced character); a model trained here uses Unicode's NFKC after the
rules called Nmt. tokenizer.json may name other steps before those (ALBERT's accents and lower case).
"""

import base64
import struct
import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path

from models.files import read_bytes
from models.tokenizers.base import Special

MARK = "\u2581"  # leads a word: SentencePiece writes spaces this way
NMT = dict.fromkeys([*range(1, 9), 0xB, *range(0xE, 0x20), 0x7F, 0x8F, 0x9F], "") | dict.fromkeys(
    [9, 0xA, 0xC, 0xD, 0x1680, *range(0x200B, 0x2010), 0x2028, 0x2029, 0x2581, 0xFEFF, 0xFFFD], " ")
STEPS = {
    "Nmt": lambda text: text.translate(NMT),
    "StripAccents": lambda text: "".join([one for one in text if unicodedata.category(one) != "Mn"]),
    "Lowercase": lambda text: "".join([one.lower() for one in text]),  # one by one: no final sigma
} | {form: partial(unicodedata.normalize, form) for form in ("NFC", "NFD", "NFKC", "NFKD")}
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)  # the kinds of a piece
MODEL_KINDS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
UNKNOWN_TEXT = " \u2047 "  # how an unknown is shown


# ---- the text

class Charsmap:
    """SentencePiece's precompiled table: a trie of UTF-8 strings and what each is replaced by, the longest first.

    The blob is the trie's size, the trie as a Darts double array (a node's child by byte c stands at `node ^ c`; a
    unit packs the byte that leads to it, the offset of its children, and whether a key ends there), then the
    replacements, each ended by NUL.
    """

    def __init__(self, blob: bytes):
        size = struct.unpack_from("<I", blob)[0] if len(blob) >= 4 else 0
        if size % 4 or 4 + size > len(blob) or not size:
            raise ValueError(f"the precompiled_charsmap is damaged: {len(blob)} bytes, a trie of {size}; "
                             f"copy the model again")
        self.blob = blob
        self.units = struct.unpack_from(f"<{size // 4}I", blob, 4)
        self.outputs = blob[4 + size:]

    def __call__(self, text: str) -> str:
        out, data, at = [], text.encode(), 0
        while at < len(data):
            found, length = self.longest(data, at)
            out.append(found if length else data[at:at + 1])  # no key starts inside a character
            at += length or 1
        return b"".join(out).decode()

    def longest(self, data: bytes, at: int) -> tuple[bytes, int]:
        """The replacement for the longest key that starts at this byte, and the key's length (0: none starts here)."""
        *_, (place, length) = [(0, 0), *self.keys(data, at)]
        return (self.output(place), length) if length else (b"", 0)

    def keys(self, data: bytes, at: int) -> Iterator[tuple[int, int]]:
        """(place of its replacement, length) of every key that starts at this byte, the shortest first."""
        units = self.units
        node = offset(units[0])
        for i in range(at, len(data)):
            node ^= data[i]
            if node >= len(units) or units[node] & 0x800000FF != data[i]:
                break
            unit = units[node]
            node ^= offset(unit)
            if node >= len(units):
                raise ValueError("the precompiled_charsmap is damaged: its trie leads out of itself; copy it again")
            if unit >> 8 & 1:
                yield units[node] & 0x7FFFFFFF, i + 1 - at

    def output(self, place: int) -> bytes:
        return self.outputs[place:self.outputs.index(b"\0", place)]


def offset(unit: int) -> int:
    return (unit >> 10) << ((unit & 1 << 9) >> 6)


def normalizer(steps: list[dict]) -> Callable[[str], str]:
    """One function for the steps of a normalizer in tokenizer.json. White space is squeezed later, by the tokenizer."""
    functions = []
    for step in steps:
        kind = step["type"]
        if kind in STEPS:
            functions.append(STEPS[kind])
        elif kind == "Precompiled":
            functions.append(Charsmap(base64.b64decode(step["precompiled_charsmap"])))
        elif kind == "Replace" and "String" in step["pattern"]:
            functions.append(lambda text, a=step["pattern"]["String"], b=step["content"]: text.replace(a, b))
        elif not (kind == "Strip" or (kind == "Replace" and step["pattern"].get("Regex") == " {2,}")):
            raise ValueError(f"the normalizer step {kind} {step} is not one this Unigram tokenizer knows")

    def normalize(text: str) -> str:
        for function in functions:
            text = function(text)
        return text

    remembered = lru_cache(1 << 16)(normalize)  # aligning asks for the same few characters again and again
    return lambda text: remembered(text) if len(text) <= 2 else normalize(text)


def align(normalize: Callable[[str], str], text: str) -> tuple[str, list[tuple[int, int]]]:
    """The normalized text, and for each of its characters the span of the original it came from.

    The text is cut into clusters (a letter and its accents) that normalize alone as they do together; all characters
    of a cluster report the whole cluster.
    """
    out, spans, start = [], [], 0
    for end in range(1, len(text) + 1):
        cluster, after = text[start:end], text[end:end + 1]
        if not after or normalize(cluster + after) == normalize(cluster) + normalize(after):
            out.append(normalize(cluster))
            spans += [(start, end)] * len(out[-1])
            start = end
    return "".join(out), spans


def squeeze(text: str, spans: list[tuple[int, int]], prefix: bool, collapse: bool) -> tuple[str, list[tuple[int, int]]]:
    """Spaces become marks: runs of them one mark, none at the ends, and one in front of the first word."""
    if collapse:
        keep = [i for i, one in enumerate(text) if one != " " or (i + 1 < len(text) and text[i + 1] != " ")]
        keep = keep[1:] if keep and text[keep[0]] == " " else keep
        text, spans = "".join([text[i] for i in keep]), [spans[i] for i in keep]
    if prefix and text:
        text, spans = " " + text, [(spans[0][0], spans[0][0]), *spans]
    return text.replace(" ", MARK), spans


# ---- the file: a protocol buffer, read without its library

class SentencePieceModel:
    """pieces: (piece, score, kind) by id; kind: "unigram" or "bpe"; prefix and collapse: a space leads the text, runs
    of spaces become one; suffix: it ends the text instead; escape: spaces are written as U+2581.

    By the field numbers of sentencepiece_model.proto; others say nothing of how text is cut: ModelProto {1 pieces,
    2 trainer_spec, 3 normalizer_spec, 5 denormalizer_spec}, SentencePiece {1 piece, 2 score, 3 type}, TrainerSpec
    {3 model_type, 24 treat_whitespace_as_suffix, 35 byte_fallback, 44 unk_surface}, NormalizerSpec
    {2 precompiled_charsmap, 3 add_dummy_prefix, 4 remove_extra_whitespaces, 5 escape_whitespaces}.
    """

    def __init__(self, data: bytes):
        parts = [(number, value) for number, value in fields(data) if number in (1, 2, 3, 5)]
        pieces = [{1: b"", 2: 0, 3: NORMAL} | dict(fields(value)) for number, value in parts if number == 1]
        self.pieces = [(piece[1].decode(), struct.unpack("<f", struct.pack("<I", piece[2]))[0], piece[3])
                       for piece in pieces]  # fmt: skip
        told: dict[int, dict] = {2: {}, 3: {}, 5: {}}
        for number, value in parts:
            told.get(number, {}).update(fields(value) if number > 1 else ())
        trainer = {3: 1, 24: 0, 35: 0, 44: UNKNOWN_TEXT.encode()} | told[2]
        rules = {2: b"", 3: 1, 4: 1, 5: 1} | told[3]
        self.kind = MODEL_KINDS.get(trainer[3], "unknown")
        self.suffix, self.byte_fallback, self.unk_surface = bool(trainer[24]), bool(trainer[35]), trainer[44].decode()
        self.charsmap, self.prefix, self.collapse, self.escape = rules[2], *(bool(rules[n]) for n in (3, 4, 5))
        unknown = [i for i, (_, _, kind) in enumerate(self.pieces) if kind == UNKNOWN]
        if self.kind not in ("unigram", "bpe"):
            raise ValueError(f"it is a {self.kind} model; only unigram and bpe models can be read")
        if len(unknown) != 1:
            raise ValueError(f"{len(unknown)} of its pieces stand for what is unknown; there must be one")
        if told[5].get(2):
            raise ValueError("it changes the text that it decodes (denormalizer_spec), which is not supported")
        if self.byte_fallback and sum(kind == BYTE for _, _, kind in self.pieces) != 256:
            raise ValueError("it falls back to bytes, but has not a piece for each")
        (self.unk_id,) = unknown

    @property
    def special(self) -> dict[str, Special]:
        """The pieces that are no part of a text."""
        return {piece: Special(i) for i, (piece, _, kind) in enumerate(self.pieces) if kind in (UNKNOWN, CONTROL)}

    @property
    def plain(self) -> bool:
        """Whether it is of T5's form, which `Unigram` follows."""
        symbols = any(kind in (USER_DEFINED, BYTE) for _, _, kind in self.pieces)
        usual = self.prefix and self.collapse and self.escape and self.unk_surface == UNKNOWN_TEXT
        marks = self.charsmap and Charsmap(self.charsmap)(MARK) == " "
        return self.kind == "unigram" and usual and marks and not (self.suffix or self.byte_fallback or symbols)


def read(path: str | Path) -> SentencePieceModel:
    """Reads a model; ValueError if the file is damaged or of a kind that is not followed."""
    return parsed(read_bytes(path), path)


def parsed(data: bytes, path: str | Path) -> SentencePieceModel:
    """The model of a file's content."""
    try:
        return SentencePieceModel(data)
    except (struct.error, IndexError, UnicodeDecodeError, TypeError, AttributeError):
        raise ValueError(f"{path} is damaged or no SentencePiece model ({len(data)} bytes); copy it again") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of each field: integers for numbers (floats as their bits), bytes for the rest.

    A message is a row of fields: a varint holding (field number, wire type), then a varint, 8 or 4 bytes, or a length
    and that many bytes.
    """
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = varint(data, at)
        elif wire in (1, 2, 5):
            size, at = varint(data, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
            value, at = data[at:at + size], at + size
            if at > len(data):
                raise IndexError
            value = value if wire == 2 else int.from_bytes(value, "little")
        else:
            raise IndexError
        yield number, value


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Seven bits a byte, lowest first, the high bit set on all but the last."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
