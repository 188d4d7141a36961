"""A small CUDA emulator: g++ compiles the kernels' own sources, and they run on the CPU on NumPy arrays.

`run` has the call shape of tinytensor.backend.gpu.launch.run, so a test that puts it there runs whole functions of
backend.gpu, their shapes, strides, workspaces and order of arguments included, on a machine without a GPU.

What it finds: wrong numbers, arguments that do not fit the kernel's parameters, addresses outside of arrays and of
shared memory, misaligned ldmatrix and cp.async, divergent barriers and warp collectives, missing waits for cp.async,
and, through the three orders in which the threads may run, missing barriers. What it cannot see: the rounding inside a
tensor core, weak memory, speed, and a wrong operand inside inline PTX, which it replaces (tests marked `gpu` do).
`python -m tests.backend.gpu.sanitized` runs the kernels' tests with g++'s sanitizers built in.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from numpy.lib.array_utils import byte_bounds

from tinytensor.backend.gpu import launch
from tinytensor.backend.gpu.launch import Abilities

HERE = Path(__file__).parent
PAGE = mmap.PAGESIZE
H100, GAMES, T4 = Abilities(True, 227 << 10), Abilities(True, 99 << 10), Abilities(False, 64 << 10)
UPWARDS, DOWNWARDS, RANDOM = 0, 1, 2
COMPILE = ["g++", "-std=c++17", "-O1", "-march=native", "-ffp-contract=fast", "-fno-gnu-unique", "-fno-strict-aliasing",
           "-fPIC", "-w"]
if os.environ.get("SANITIZED"):  # see sanitized.py
    COMPILE += ["-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

gpu = H100  # which one is emulated
order = UPWARDS  # in which order the threads of a block take turns


class KernelError(Exception):
    """A kernel did something that a GPU would answer with wrong numbers, a fault or a hang."""


def available() -> bool:
    return shutil.which("g++") is not None


def device_attributes() -> dict[str, int]:
    return {"MaxSharedMemoryPerBlockOptin": gpu.shared_memory, "ComputeCapabilityMajor": 8 if gpu.tensor_cores else 7}


def run(source: str, name: str, grid, block, arguments, shared_bytes: int = 0) -> None:
    """Run the kernel `name`, an instance of a template in the file `source`, over the whole grid."""
    run_text(launch.source_text(source), name, grid, block, arguments, shared_bytes)


def run_text(text: str, name: str, grid, block, arguments, shared_bytes: int = 0) -> None:
    library = build(text, name)
    wanted = library.kernel_signature().decode().split()
    with Guarded(arguments) as guarded:
        values = [pack(argument, guarded) for argument in arguments]
        kinds = [kind for kind, _ in values]
        if kinds != wanted:
            raise KernelError(f"{name} was given {len(kinds)} arguments {kinds}; its parameters are {wanted}")
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for _, value in values))
        library.kernel_order(order, ctypes.c_uint64(1))
        three = lambda sizes: (ctypes.c_uint * 3)(*(*sizes, 1, 1)[:3])
        failed = library.kernel_launch(three(grid), three(block), ctypes.c_size_t(shared_bytes), pointers)
        if failed:
            raise KernelError(f"{name}: {library.kernel_error().decode().strip()}")


def bank_conflicts(source: str, name: str) -> int:
    """How many extra shared-memory accesses ldmatrix has needed so far in this kernel."""
    return build(launch.source_text(source), name).kernel_conflicts()


@cache
def build(text: str, name: str) -> ctypes.CDLL:
    """The kernel as a shared library, compiled once for each text of the sources and kept in the temporary folder."""
    folder = prepared()
    program = f'#include "cuda.h"\n{text}\nEXPORT_KERNEL({name})\n'
    library = folder / f"{hashlib.sha256(program.encode()).hexdigest()[:24]}.so"
    if not library.exists():
        compile_to(library, [f"-I{folder}", f"-I{HERE}", "-shared", "-x", "c++", "-"], program)
    loaded = ctypes.CDLL(str(library))
    loaded.kernel_signature.restype = loaded.kernel_error.restype = ctypes.c_char_p
    loaded.kernel_conflicts.restype = ctypes.c_uint64
    return loaded


@cache
def prepared() -> Path:
    """The folder for what is compiled with this version of the emulator, with its headers compiled in advance."""
    headers = "".join(path.read_text() for path in sorted(HERE.glob("*.h")))
    digest = hashlib.sha256(repr((COMPILE, headers)).encode()).hexdigest()[:24]
    folder = Path(tempfile.gettempdir()) / f"tinytensor-emulator-{os.getuid()}" / digest
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "cuda.h.gch").exists():
        compile_to(folder / "cuda.h.gch", ["-x", "c++-header", str(HERE / "cuda.h")])
    return folder


def compile_to(target: Path, arguments: list[str], program: str = "") -> None:
    """Run g++; the target appears whole or not at all, also when several tests make it at once."""
    unfinished = target.with_suffix(f".{os.getpid()}.tmp")
    made = subprocess.run([*COMPILE, *arguments, "-o", str(unfinished)], input=program, text=True, capture_output=True)
    if made.returncode:
        raise KernelError(f"g++ cannot compile {target.name}:\n{made.stderr[:3000]}")
    unfinished.replace(target)


def pack(argument, guarded: Guarded):
    """(letter and size, ctypes value) of one argument, by CuPy's rules for Python numbers."""
    if argument is None:
        return "p8", ctypes.c_void_p(0)
    if isinstance(argument, np.ndarray):
        return "p8", ctypes.c_void_p(guarded.address(argument))
    if isinstance(argument, bool | int | np.integer):
        return "i8", ctypes.c_int64(argument) if argument < 1 << 63 else ctypes.c_uint64(argument)
    if isinstance(argument, float | np.floating):
        return "f8", ctypes.c_double(argument)
    raise KernelError(f"a kernel cannot take {type(argument)}")


class Guarded:
    """Copies of the arrays among the arguments, each ending at a page that may not be touched.

    Arrays that are views of one owner stay views of one copy. Leaving the block copies everything back.
    """

    def __init__(self, arguments):
        self.places = {}
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                owner = owner_of(argument)
                low, high = byte_bounds(owner)
                if low not in self.places:
                    self.places[low] = Place(low, high - low, owner.flags.writeable)

    def address(self, array: np.ndarray) -> int:
        low = byte_bounds(owner_of(array))[0]
        return self.places[low].start + array.ctypes.data - low

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        for place in self.places.values():
            place.leave()


class Place:
    """Guarded memory for one array: its start is aligned to 16 bytes, and at most 15 bytes of NaN follow it."""

    def __init__(self, original: int, size: int, writeable: bool):
        self.original, self.size, self.writeable = original, size, writeable
        room = (size + 15 + PAGE) // PAGE * PAGE
        self.memory = mmap.mmap(-1, room + PAGE)
        self.memory[:room] = b"\xff" * room
        self.first = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        protect(self.first + room, 0)
        self.end = self.first + room
        self.start = (self.end - size) // 16 * 16
        ctypes.memmove(self.start, original, size)
        self.tell_sanitizer("poison")

    def tell_sanitizer(self, what: str) -> None:
        """The memory around the array may not be touched, or ("unpoison") may be again."""
        if tell := getattr(ctypes.CDLL(None), f"__asan_{what}_memory_region", None):
            stop = self.start + self.size
            tell(ctypes.c_void_p(self.first), ctypes.c_size_t(self.start - self.first))
            tell(ctypes.c_void_p(stop), ctypes.c_size_t(self.end - stop))

    def leave(self) -> None:
        self.tell_sanitizer("unpoison")
        around = (ctypes.string_at(self.first, self.start - self.first),
                  ctypes.string_at(self.start + self.size, self.end - self.start - self.size))
        if self.writeable:
            ctypes.memmove(self.original, self.start, self.size)
        protect(self.end, mmap.PROT_READ | mmap.PROT_WRITE)
        if any(part.strip(b"\xff") for part in around):
            raise KernelError("a kernel wrote next to an array")


def protect(address: int, rights: int) -> None:
    if ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), rights):
        raise OSError("mprotect failed")


def owner_of(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
