"""Compile kernels for a GPU on a machine that has none: NVIDIA's run-time compiler needs no driver.

The options are those with which CuPy's RawModule compiles, so what passes here is what a GPU will run. Where NVIDIA's
disassembler is installed, the instructions are counted in the machine's own code, else in the assembly before it.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from tinytensor.backend.gpu import launch

ADDED_BY_CUPY = ("-ftz=true", "--device-as-default-execution-space")
# In the machine's code, and what stands for it in the assembly.
INSTRUCTIONS = {"HMMA": "mma.sync.aligned.m16n8k16", "IMMA": "mma.sync", "LDSM": "ldmatrix.sync",
                "LDGSTS": "cp.async.cg", "LDG.E.128": r"ld.global(.nc)?.v4", "STG.E.128": "st.global.v4"}  # fmt: skip


class Usage(NamedTuple):
    """What one kernel takes of the machine."""

    registers: int
    spilled: int  # bytes that did not fit into registers, stores and loads
    stack: int  # bytes of local memory
    shared: int  # bytes, static
    instructions: Counter  # how often each of INSTRUCTIONS stands in it, and how many there are: "all", if known


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
        counts = read_code(nvrtc.getCUBIN(program)) if disassembler() else read_ptx(nvrtc.getPTX(program))
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


def read_ptx(ptx) -> dict[str, Counter]:
    """Kernel -> instruction -> how often it stands in the assembly."""
    text = ptx.decode() if isinstance(ptx, bytes) else ptx
    kernels = re.split(r"\.entry (\w+)\(", text)[1:]
    count = lambda body: Counter({name: len(re.findall(f"\t{ptx}", body)) for name, ptx in INSTRUCTIONS.items()})
    return {name: count(body) for name, body in zip(kernels[::2], kernels[1::2])}


def disassembler() -> Path | None:
    """That of the package nvidia-cuda-nvdisasm."""
    import cupy

    found = Path(cupy.__file__).parents[1] / "nvidia" / "cu13" / "bin" / "nvdisasm"
    return found if found.exists() else None


def read_code(cubin: bytes) -> dict[str, Counter]:
    """The same of the machine's code."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin + b"\0")  # CuPy cuts the last byte off
        file.flush()
        done = subprocess.run([disassembler(), "-c", file.name], capture_output=True, text=True, check=True)
    kernels = re.split(r"\n\.text\.(\S+?):", done.stdout)[1:]
    found = {}
    for name, body in zip(kernels[::2], kernels[1::2]):
        words = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+ )?([A-Z][\w.]*)", body)
        found[name] = Counter({"all": len(words)})
        for instruction in INSTRUCTIONS:
            found[name][instruction] = sum(f"{word}.".startswith(f"{instruction}.") for word in words)
    return found
