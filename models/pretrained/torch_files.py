"""pytorch_model.bin, read without PyTorch and without executing anything.

torch.save writes a pickle: a program for a small stack machine that may call any function of any library, so opening a
stranger's file with `pickle` runs the stranger's code. Here the program is only looked at. `pickletools` names its
instructions one by one; the few that describe tables, lists, numbers and tensors are followed, and the one that calls
functions is understood for the three "functions" that torch.save uses, none of which is ever called. Everything else
is refused by name. A stranger's program may also try to take all memory or time, so how many instructions it has, how
deep its tuples nest and how many numbers it describes is bounded, and nothing that it made is hashed, compared or
printed as a whole.

Two layouts exist. Since PyTorch 1.6 the file is a ZIP archive: NAME/data.pkl, and each storage (the flat memory of one
or more tensors) in NAME/data/KEY. Before, the pickles stood one after another (a magic number, a version, the machine,
the object, the storages' keys), followed by the raw storages.
"""

import io
import pickletools
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from models.bfloat16 import widen
from models.files import ordinary
from models.schema import shown

MAGIC = 0x1950A86A20F9469CFC6C  # of the older layout
BRIEF = "<u2"  # bfloat16, as its bits
DTYPES = {"DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": BRIEF,
          "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
          "BoolStorage": "?"}
FUNCTIONS = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_tensor",
             "torch._utils _rebuild_parameter"}
INSTRUCTIONS = 1_000_000  # GPT-2's 160 tensors take 5,000
LONGEST = 64  # of a tuple: NumPy's arrays have no more axes
REPEATED = 2**24  # numbers that expanded tensors may show beside those that the file has
DAMAGED = (OSError, LookupError, ArithmeticError, ValueError, TypeError, AttributeError, EOFError, RuntimeError,
           MemoryError, struct.error, zipfile.BadZipFile)  # what reading nonsense ends in


class Refused(Exception):
    """The pickle asks for something that is no part of a table of tensors."""


class Global(str):
    """The name of a function or class; only ever compared with the names above."""


@dataclass(frozen=True)
class Storage:
    """Flat memory that one or more tensors are views of. It is filled when the pickle has been read."""

    flat: np.ndarray


def tensor(storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """Some elements of a storage, in some order. offset and strides count elements; a stride of 0 repeats them."""
    numbers = (offset, *shape, *strides) if type(shape) is type(strides) is tuple else (None,)
    if not isinstance(storage, Storage) or not all(type(n) is int and 0 <= n < 2**62 for n in numbers):
        raise Refused("a tensor is described by something else than a storage and whole numbers")
    if len(shape) != len(strides):
        raise Refused(f"a tensor of shape {shape} has {len(strides)} strides")
    flat = storage.flat
    if 0 in shape:
        return np.zeros(shape, flat.dtype)
    if offset + sum((n - 1) * stride for n, stride in zip(shape, strides)) >= len(flat):
        raise Refused(f"a tensor of shape {shape} reaches outside its storage of {len(flat)} numbers")
    strides = [stride * flat.itemsize if n > 1 else 0 for n, stride in zip(shape, strides)]
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, strides, writeable=False)


def read_torch(path: str | Path) -> dict[str, np.ndarray]:
    """The tensors of a file that torch.save made from a state dict, by name; bfloat16 as float32."""
    try:
        with open(ordinary(path), "rb") as file:
            first, size = file.read(2), file.seek(0, io.SEEK_END)
            file.seek(0)
            return (_read_archive if first == b"PK" else _read_sequence)(file, size)
    except Refused as error:
        raise ValueError(f"{path} is refused: {error}. Weights need nothing but tensors, so this file may be made to "
                         "do harm") from None
    except DAMAGED as error:
        raise ValueError(f"{path} is truncated or damaged: {str(error)[:200]}") from None


def _read_archive(file: BinaryIO, size: int) -> dict[str, np.ndarray]:
    """Since PyTorch 1.6: a ZIP archive whose entries are stored, not compressed."""
    archive = zipfile.ZipFile(file)
    folder = next((name[: -len("data.pkl")] for name in archive.namelist() if name.endswith("data.pkl")), None)
    if folder is None:
        raise KeyError("the archive has no data.pkl")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
        raise Refused("its entries are compressed, which torch.save never does")
    if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
        raise Refused("its numbers are not little-endian")
    reader = Reader(io.BytesIO(archive.read(f"{folder}data.pkl")), size)
    table = reader.read()
    for key, storage in reader.storages.items():
        entry = archive.getinfo(f"{folder}data/{key}")
        fill(key, storage, archive.open(entry), entry.file_size)
    return reader.tensors(table)


def _read_sequence(file: BinaryIO, size: int) -> dict[str, np.ndarray]:
    """Before PyTorch 1.6: five pickles, then for each key the number of elements and the raw numbers."""
    magic, version = Reader(file, size).read(), Reader(file, size).read()
    if type(magic) is not int or type(version) is not int or (magic, version) != (MAGIC, 1001):
        raise EOFError("it begins like no file of torch.save")
    Reader(file, size).read()  # sizes of types on the machine that wrote it
    reader = Reader(file, size)
    table, left = reader.read(), dict(reader.storages)
    for key in Reader(file, size).read():
        (numel,) = struct.unpack("<q", file.read(8))
        storage = left.pop(key)
        fill(key, storage, file, numel * storage.flat.itemsize)
    if left:
        raise EOFError(f"the file lacks {len(left)} of the storages that its tensors are in")
    return reader.tensors(table)


def fill(key: str, storage: Storage, file: BinaryIO, size: int) -> None:
    """Read a storage's numbers, which the file has in so many bytes."""
    if size != storage.flat.nbytes or file.readinto(storage.flat.view(np.uint8)) != size:
        raise EOFError(f"storage {shown(key)} does not have {storage.flat.nbytes} bytes, as its tensors say")


class Reader:
    """Follows one pickle, up to its STOP, as far as it builds tables, lists, numbers, strings and tensors."""

    def __init__(self, file: BinaryIO, size: int):
        """size: of the whole file, in bytes, which the storages' numbers can't exceed."""
        self.file, self.stack, self.marks, self.memo, self.storages = file, [], [], {}, {}
        self.left, self.repeats, self.negative = size, size + REPEATED, []

    def read(self):
        """What the pickle describes."""
        try:
            for number, (instruction, argument, _) in enumerate(pickletools.genops(self.file)):
                if number >= INSTRUCTIONS:
                    raise Refused(f"its pickle has more than {INSTRUCTIONS:,} instructions")
                self.follow(instruction.name, argument)
        except DAMAGED as error:  # no valid pickle: an empty stack, a number as table
            raise EOFError(f"its pickle makes no sense ({str(error)[:100]})") from None
        if len(self.stack) != 1:
            raise EOFError("its pickle is incomplete")
        return self.stack.pop()

    def tensors(self, table) -> dict[str, np.ndarray]:
        """The tensors by name that a table must hold, when their storages are filled."""
        if not isinstance(table, dict):
            raise Refused(f"it holds a {type(table).__name__} instead of a table of tensors")
        arrays, negative = {}, {id(array) for array in self.negative}
        for name, value in table.items():
            if not isinstance(name, str) or not isinstance(value, np.ndarray):
                raise Refused(f"under {shown(name)} it holds a {type(value).__name__}, which is no tensor")
            array = widen(value) if value.dtype == BRIEF else value
            arrays[name] = -array if id(value) in negative else array
        return arrays

    def follow(self, name: str, argument) -> None:
        """What one instruction does to the stack; pickletools.opcodes says it of all there are."""
        stack = self.stack
        match name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
            case ("BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT"
                  | "BINUNICODE" | "SHORT_BINUNICODE" | "BINSTRING" | "SHORT_BINSTRING"):
                stack.append(argument)
            case "MARK":
                self.marks.append(len(stack))
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[name]())
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(self.tuple_of(self.pop_from(self.marks.pop() if name == "TUPLE" else -int(name[-1]))))
            case "APPEND" | "APPENDS":
                items = self.pop_from(-1 if name == "APPEND" else self.marks.pop())
                if any(isinstance(item, (tuple, list, dict)) for item in items):
                    raise Refused("its pickle puts lists into lists, which tables of tensors never do")
                self.top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self.pop_from(-2 if name == "SETITEM" else self.marks.pop())
                if any(type(name) not in (str, int) for name in items[::2]):
                    raise Refused("its pickle gives things names that are no names")
                self.top(dict).update(zip(items[::2], items[1::2]))
            case "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                self.memo[len(self.memo) if name == "MEMOIZE" else argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "GLOBAL" | "STACK_GLOBAL":
                stack.append(self.named(argument or " ".join(self.pop_from(-2))))
            case "BINPERSID":
                stack.append(self.storage(stack.pop()))
            case "REDUCE":
                stack.append(self.called(*self.pop_from(-2)))
            case "BUILD":  # attributes of an object: a state dict has some about versions, which say nothing of weights
                stack.pop()
                self.top(dict)
            case _:
                raise Refused(f"its pickle has the instruction {name}")

    def tuple_of(self, items: list) -> tuple:
        """Shapes and the arguments of calls: short, and with nothing in their tuples that is one itself."""
        inner = [item for outer in items if isinstance(outer, tuple) for item in outer]
        if len(items) > LONGEST or any(isinstance(item, tuple) for item in inner):
            raise Refused("its pickle makes tuples longer or deeper than tensors need")
        return tuple(items)

    def pop_from(self, start: int) -> list:
        """Everything from a place in the stack on."""
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def top(self, kind: type):
        if type(self.stack[-1]) is not kind:
            raise Refused(f"its pickle changes a {type(self.stack[-1]).__name__} as if it were a {kind.__name__}")
        return self.stack[-1]

    def named(self, name: str) -> Global:
        module, _, kind = name.partition(" ")
        if name not in FUNCTIONS and not (module in ("torch", "torch.storage") and kind in DTYPES):
            raise Refused(f"its pickle names {module[:80]}.{kind[:80]}")
        return Global(name)

    def storage(self, found) -> Storage:
        """A reference to a storage: ("storage", its type, key, location, numel[, None])."""
        if not isinstance(found, tuple) or len(found) < 5 or type(found[0]) is not str or type(found[1]) is not Global:
            raise Refused("its pickle refers to something that is no storage")
        kind, key, numel, rest = found[1].split()[1], found[2], found[4], found[5:]
        known = found[0] == "storage" and kind in DTYPES and all(one is None for one in rest)
        if not known or type(key) is not str or type(numel) is not int or numel < 0:
            raise Refused("its pickle refers to a storage in an unknown way")
        if key not in self.storages:
            self.left -= numel * np.dtype(DTYPES[kind]).itemsize
            if self.left < 0:
                raise Refused("its pickle describes more numbers than the file has")
            self.storages[key] = Storage(np.empty(numel, DTYPES[kind]))
        storage = self.storages[key]
        if (storage.flat.dtype, len(storage.flat)) != (DTYPES[kind], numel):
            raise Refused(f"its pickle describes storage {shown(key)} in two ways")
        return storage

    def called(self, function, arguments):
        """What pickle would call a function for."""
        name = function.split()[1] if isinstance(function, Global) else None
        if not isinstance(arguments, tuple):
            raise Refused("its pickle calls a function without arguments")
        if name == "OrderedDict" and not arguments:
            return {}
        if name in ("_rebuild_tensor", "_rebuild_tensor_v2") and 4 <= len(arguments) <= 7:
            array = tensor(*arguments[:4])
            self.repeats -= array.size
            if self.repeats < 0:
                raise Refused("its tensors repeat their numbers too often")
            self.keep_sign(array, arguments[6] if len(arguments) == 7 else {})
            return array
        if name == "_rebuild_parameter" and len(arguments) >= 1 and isinstance(arguments[0], np.ndarray):
            return arguments[0]
        raise Refused(f"its pickle calls {name or 'something that is no function'} in an unknown way")

    def keep_sign(self, array: np.ndarray, bits) -> None:
        """bits: what of a tensor's view is not in its storage; "neg" says that every sign is the other one."""
        if type(bits) is not dict or not bits.keys() <= {"neg", "conj"} or bits.get("conj"):
            raise Refused("a tensor is to be read in a way that is not known here")
        if bits.get("neg") is True:
            self.negative.append(array)
