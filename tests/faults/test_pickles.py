"""Torch files crafted by mutating programs that describe tensors, and by writing programs of random instructions."""

import pickle
import pickletools
import random
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from models.pretrained.torch_files import read_torch
from tests.faults.harness import flipped, outcome, trials
from tests.models.pretrained.test_torch_files import STORAGES, archive, pickled, sequence, state

pytestmark = pytest.mark.slow
OPCODES = [one.code.encode("latin1") for one in pickletools.opcodes]
NAMES = ["torch FloatStorage", "torch._utils _rebuild_tensor_v2", "collections OrderedDict", "os system",
         "builtins eval", "torch._utils _rebuild_parameter", "numpy frombuffer"]  # fmt: skip


def instruction(draw: random.Random) -> bytes:
    """One of the instructions that a table of tensors is made of, or any other, with an argument that fits."""
    number = draw.choice([0, 1, 2, 24, 255, 2**31 - 1, 2**40, 2**62])
    match draw.randrange(9):
        case 0:
            return b"c%s\n" % b"\n".join(draw.choice(NAMES).encode().split())
        case 1:
            return b"\x8a\x08" + (number % 2**63).to_bytes(8, "little")
        case 2:
            word = draw.choice([b"storage", b"0", b"cpu", b"a", b"neg", b"\xff", b"x" * 300])
            return b"X" + len(word).to_bytes(4, "little") + word
        case 3:
            return draw.choice([b")", b"]", b"}", b"(", b"N", b"\x88", b"\x89"])
        case 4:
            return draw.choice([b"t", b"\x85", b"\x86", b"\x87", b"R", b"Q", b"b", b"a", b"e", b"s", b"u", b"0", b"2"])
        case 5:
            return draw.choice([b"q", b"h"]) + bytes([draw.randrange(4)])
        case 6:
            return draw.choice([b"]", b")\x85", b"h\x00h\x00\x86q\x00", b"}", b"("]) * draw.choice([3, 100, 50_000])
        case _:
            return draw.choice(OPCODES) + draw.randbytes(draw.randrange(9))


def crafted(path: Path, draw: random.Random) -> None:
    """A file: a good one flipped, its program changed here and there, or a program of random instructions."""
    program, kind = pickled(state(), protocol=draw.choice([2, 4])), draw.randrange(5)
    if kind in (0, 1):
        if draw.random() < 0.5:
            archive(path, program, STORAGES, byteorder="little")
        else:
            sequence(path, state(), STORAGES)
        path.write_bytes(flipped(path.read_bytes(), draw))
        return
    if kind == 2:
        program = flipped(program, draw)
    elif kind == 3:
        places = [place for _, _, place in pickletools.genops(program)]
        for _ in range(draw.choice([1, 2, 10])):
            place = draw.choice(places)
            program = program[:place] + instruction(draw) + program[place + draw.choice([0, 0, 1, 3]) :]
    else:
        program = b"\x80\x02" + b"".join(instruction(draw) for _ in range(draw.choice([5, 30, 300]))) + b"."
    how = zipfile.ZIP_DEFLATED if draw.random() < 0.1 else zipfile.ZIP_STORED
    archive(path, program, STORAGES, compression=how, byteorder="little")


def read(path: Path) -> None:
    for array in read_torch(path).values():
        np.asarray(array).sum()


def test_crafted_pickles_are_read_or_refused_in_a_sentence(tmp_path):
    refused, path = 0, tmp_path / "pytorch_model.bin"
    for draw in trials(300, 5):
        crafted(path, draw)
        refused += bool(outcome(partial(read, path), tmp_path))
    assert refused


def test_the_crafted_ones_would_do_harm_to_another_reader():
    """The mutations reach what they are meant to: among the programs are some that name a foreign function."""
    programs = b"".join(instruction(draw) for draw in trials(300, 5) for _ in range(20))
    assert b"cos\nsystem" in programs and pickle.MARK in programs
