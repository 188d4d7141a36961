"""From a .cu file to a running kernel: read the source, have it compiled, start it.

A kernel is named by its file and a C++ expression such as "softmax_forward<__half, 8, 0>": only the instances that are
used are compiled, and CuPy keeps them on disk for the next time. Numbers are passed by CuPy's rule for Python's own (an
int is a `long long`, a float a `double`); kernels narrow them on entry.

The tests replace `run` by a CUDA emulator, so everything above it is checked without a GPU.
"""

import re
import threading
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

SOURCES = Path(__file__).parent / "cuda"
OPTIONS = ("--std=c++17",)
STATIC_SHARED = 48 << 10  # more than this must be asked for, kernel by kernel
C_NAMES = {"float64": "double", "float32": "float", "float16": "__half", "bfloat16": "__nv_bfloat16",
           "int64": "long long", "int32": "int"}


class Capture(threading.local):
    """What this thread records as a CUDA graph (graph.py), if anything: asked by whoever passes numbers to a kernel.

    recorder: the Recorded whose step runs, also in the calls before.   recording: whether it is being recorded.
    """

    recorder = None
    recording = False


capture = Capture()


def moved(array: np.ndarray):
    """An array from the CPU on the GPU; in a step that will be repeated only a constant's place there."""
    import cupy

    return capture.recorder.constant(array) if capture.recorder else cupy.asarray(array)

def launch(source: str, name: str, grid, block: int, arguments, shared_bytes: int = 0) -> None:
    """Start the kernel `name` of the file `source` on a grid of blocks of `block` threads; an empty grid does nothing.

    arguments: arrays, None (a null pointer), ints and floats, in the order of the kernel's parameters.
    """
    if 0 not in grid:
        run(source, name, tuple(grid), (block,), tuple(arguments), shared_bytes)


def run(source: str, name: str, grid, block, arguments, shared_bytes: int) -> None:
    function = compiled(source, name)
    if shared_bytes > STATIC_SHARED:
        if shared_bytes > (most := abilities().shared_memory):
            raise ValueError(f"{name} takes {shared_bytes >> 10} KB of shared memory, and this GPU has at most "
                             f"{most >> 10} KB for a block; take narrower heads, or --dtype bfloat16")
        function.max_dynamic_shared_size_bytes = shared_bytes
    # A null pointer is eight bytes of zeros: CuPy 13 makes something else of None.
    function(grid, block, tuple(0 if a is None else a for a in arguments), shared_mem=shared_bytes)


class Abilities(NamedTuple):
    """What kernels are chosen by."""

    tensor_cores: bool  # that multiply 16 x 16 by 16 x 8, and copies that do not wait: an A100's, and of all since
    shared_memory: int  # bytes a block may have: 227 KB on an H100, 163 on an A100, 99 on most others, 64 on a T4


def abilities() -> Abilities:
    """Those of this GPU."""
    known = device_attributes()
    return Abilities(known["ComputeCapabilityMajor"] >= 8, known["MaxSharedMemoryPerBlockOptin"])


@cache
def device_attributes() -> dict[str, int]:
    import cupy

    return cupy.cuda.Device().attributes


@cache
def compiled(source: str, name: str):
    """The kernel as a function of the current device."""
    import cupy

    module = cupy.RawModule(code=source_text(source), options=OPTIONS, name_expressions=[name])
    return module.get_function(name)


@cache
def source_text(source: str) -> str:
    """The file with our own headers written out in place of their #include lines, each once.

    CuPy recognizes a kernel it has compiled by its text, and would not notice a change in a header it only names.
    """
    seen = set()

    def inline(file: str) -> str:
        if file in seen:
            return ""
        seen.add(file)
        lines = [f'#line 1 "{file}"']
        for number, line in enumerate((SOURCES / file).read_text().splitlines(), 1):
            if include := re.match(r'#include "(\w+\.cuh)"', line):
                lines += [inline(include[1]), f'#line {number + 1} "{file}"']
            else:
                lines.append(line)
        return "\n".join(lines)

    return inline(source) + "\n"


def c_name(array) -> str:
    """The C++ type of the array's elements."""
    if (name := array.dtype.name) not in C_NAMES:
        raise ValueError(f"the GPU kernels have no type for {array.dtype}; convert it to one of {', '.join(C_NAMES)}")
    return C_NAMES[name]


def blocks_for(items: int, per_block: int) -> int:
    """How many blocks it takes."""
    return -(-items // per_block)
