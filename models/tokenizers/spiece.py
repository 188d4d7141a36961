"""SentencePiece's own model file, spiece.model: a protocol buffer of pieces, read without its library.

A message is a row of fields: a varint holding (field number, wire type), then a varint, 8 or 4 bytes, or a length
and that many bytes. Unknown fields are skipped. The field numbers are those of sentencepiece_model.proto:
ModelProto {1 pieces, 2 trainer_spec, 3 normalizer_spec}, SentencePiece {1 piece, 2 score, 3 type},
TrainerSpec {3 model_type, 35 byte_fallback, 40 unk_id}, NormalizerSpec {2 precompiled_charsmap, 3 add_dummy_prefix,
4 remove_extra_whitespaces}.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from models.files import read_bytes

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED = range(1, 6)
MODEL_KINDS = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}


@dataclass
class SentencePieceModel:
    """pieces: (piece, score, kind) by id; prefix and collapse: a space leads the text, runs of spaces become one."""
    pieces: list[tuple[str, float, int]] = field(default_factory=list)
    unk_id: int = 0
    charsmap: bytes = b""
    prefix: bool = True
    collapse: bool = True


def read(path: str | Path) -> SentencePieceModel:
    """Reads a unigram model; ValueError if the file is damaged or holds another kind."""
    data = read_bytes(path)
    try:
        return parse(data)
    except (struct.error, IndexError, UnicodeDecodeError, TypeError, AttributeError):
        raise ValueError(f"{path} is damaged or no SentencePiece model ({len(data)} bytes); copy it again") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse(data: bytes) -> SentencePieceModel:
    model = SentencePieceModel()
    for number, value in fields(data):
        if number == 1:
            piece = {1: b"", 2: 0, 3: NORMAL} | dict(fields(value))
            model.pieces.append((piece[1].decode(), struct.unpack("<f", struct.pack("<I", piece[2]))[0], piece[3]))
        elif number == 2:
            trainer = {3: 1, 35: 0, 40: 0} | dict(fields(value))
            if trainer[3] != 1 or trainer[35]:
                kind = MODEL_KINDS.get(trainer[3], "unknown")
                raise ValueError(f"it is a {kind} model{' with byte fallback' * bool(trainer[35])}; only unigram "
                                 f"models without byte fallback can be read")
            model.unk_id = trainer[40]
        elif number == 3:
            rules = {2: b"", 3: 1, 4: 1} | dict(fields(value))
            model.charsmap, model.prefix, model.collapse = rules[2], bool(rules[3]), bool(rules[4])
    if not 0 <= model.unk_id < len(model.pieces):
        raise ValueError(f"unk_id {model.unk_id} is none of its {len(model.pieces)} pieces")
    return model


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of each field: integers for numbers (floats as their bits), bytes for the rest."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = varint(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
            value, at = struct.unpack_from("<Q" if wire == 1 else "<I", data, at)[0], at + size
        elif wire == 2:
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
            if at > len(data):
                raise IndexError
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
