"""Compile kernels for a GPU on a machine that has none: NVIDIA's run-time compiler needs no driver.

The options are those with which CuPy's RawModule compiles, so what passes here is what a GPU will run.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from tinytensor.backend.gpu import launch

ADDED_BY_CUPY = ("-ftz=true", "--device-as-default-execution-space")
INSTRUCTIONS = ("mma.sync", "ldmatrix.sync", "cp.async.cg")


class Usage(NamedTuple):
    """What one kernel takes of the machine."""

    registers: int
    spilled: int  # bytes that did not fit into registers, stores and loads
    stack: int  # bytes of local memory
    shared: int  # bytes, static
    instructions: dict[str, int]  # how often each of INSTRUCTIONS stands in it


def compile_kernels(source: str, names: list[str], arch: str) -> dict[str, Usage]:
    """Compile all instances of one file; raises RuntimeError with the compiler's words."""
    from cupy._core.core import assemble_cupy_compiler_options
    from cupy.cuda import nvrtc

    program = nvrtc.createProgram(launch.source_text(source), source, (), ())
    try:
        for name in names:
            nvrtc.addNameExpression(program, name)
        options = assemble_cupy_compiler_options(launch.OPTIONS) + ADDED_BY_CUPY
        try:
            nvrtc.compileProgram(program, (*options, "--ptxas-options=-v", f"-arch={arch}"))
        except nvrtc.NVRTCError:
            raise RuntimeError(nvrtc.getProgramLog(program)) from None
        mangled = {nvrtc.getLoweredName(program, name): name for name in names}
        counts = read_ptx(nvrtc.getPTX(program))
        found = read_log(nvrtc.getProgramLog(program))
        return {mangled[name]: Usage(*usage, counts[name]) for name, usage in found if name in mangled}
    finally:
        nvrtc.destroyProgram(program)


def read_log(log: str):
    entry = re.compile(
        r"Compiling entry function '(\S+?)'"
        r".*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers([^\n]*)",
        re.S,
    )
    for name, stack, stores, loads, registers, rest in entry.findall(log):
        shared = re.search(r"(\d+) bytes smem", rest)
        yield name, (int(registers), int(stores) + int(loads), int(stack), int(shared[1]) if shared else 0)


def read_ptx(ptx) -> dict[str, dict[str, int]]:
    """Kernel -> instruction -> how often it stands in the assembly."""
    text = ptx.decode() if isinstance(ptx, bytes) else ptx
    kernels = re.split(r"\.entry (\w+)\(", text)[1:]
    return {name: {i: body.count(f"\t{i}") for i in INSTRUCTIONS} for name, body in zip(kernels[::2], kernels[1::2])}
