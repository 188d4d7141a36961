"""Every kernel compiles for the A100 (sm_80) and the H100 and H200 (sm_90), a sample of them for others from the T4 on,
and keeps what it works on in registers.

Run with -s to see each kernel's registers and shared memory.
"""

import numpy as np
import pytest

from tests.backend.gpu.emulator import GAMES, H100, T4
from tests.backend.gpu.nvrtc import compile_kernels
from tinytensor.backend.gpu.attention import PLAIN_WIDTHS, TENSOR_CORE_WIDTHS, Rules, backward_plan, forward_plan
from tinytensor.backend.gpu.launch import Abilities

HALVES, REALS = ("__half", "__nv_bfloat16"), ("float", "double")
RULES = Rules(False, None, None, None, None, 0, 0)


# The GPUs that kernels are compiled for, and what they have: T4; A100; RTX 30; RTX 40; H100, H200; RTX 50.
GPUS = {"sm_75": T4, "sm_80": Abilities(True, 163 << 10), "sm_86": GAMES, "sm_89": GAMES, "sm_90": H100,
        "sm_120": GAMES}  # fmt: skip
ALL = ("sm_80", "sm_90")  # for the others, a sample: attention, and on the oldest and the newest two of each other file
SAMPLE = {np.float16: (64, 128, 256), np.float32: (128,), np.float64: ()}


def attention_plans(gpu: Abilities, whole: bool):
    """{file: kernels}, from the same arithmetic that starts them: every width of head, short and long, with extras."""
    files = {}
    widths = {np.float16: (*TENSOR_CORE_WIDTHS, 256), np.float32: PLAIN_WIDTHS[1:], np.float64: PLAIN_WIDTHS[1:-1]}
    for dtype, every in widths.items():
        for D in every if whole else SAMPLE[dtype]:
            for T in (64, 128) if whole else (128,):
                q = np.empty((1, 1, T, D), dtype)
                for rules in (RULES, RULES._replace(threshold=1)):
                    if D % 64 and rules == RULES:
                        continue  # between the others in size, and without the extras smaller
                    for plan in (forward_plan(q, rules, 1.0, gpu), backward_plan(q, rules, gpu)):
                        if plan.shared_bytes <= gpu.shared_memory:  # else refused
                            files.setdefault(plan.file, set()).add(plan.name)
    return {file: sorted(names) for file, names in files.items()}


OTHERS = {
    "attention_decode.cu": [
        *(f"attention_decode<{t}, {D}>" for t in (*HALVES, *REALS) for D in (64, 128)),
        *(f"attention_join<{t}>" for t in (*HALVES, *REALS)),
    ],
    "attention_minimal.cu": ["attention_minimal<32>", "attention_minimal<64>"],
    "norm.cu": [
        f"norm_{way}<{t}, {size}, {parts}, 1>"
        for way in ("forward", "backward")
        for t, size, parts in (("__half", 8, 1), ("__half", 8, 2), ("float", 4, 4), ("float", 1, 16))
    ],
    "softmax.cu": [
        *(f"softmax_{way}<{t}, {size}, {log}>"
          for way in ("forward", "backward") for t, size in (("__nv_bfloat16", 8), ("float", 4)) for log in (0, 1)),
        *(f"cross_entropy_{way}<{t}, {size}>"
          for way in ("forward", "backward") for t, size in (("__nv_bfloat16", 8), ("float", 1), ("double", 1))),
    ],
    "elementwise.cu": [
        *(f"gelu_forward<{t}, {size}, {tanh}>" for t, size in (("__half", 8), ("float", 4)) for tanh in (0, 1)),
        *(f"{name}<{t}, {size}>"
          for name in ("multiply", "dropout") for t, size in zip((*HALVES, *REALS), (8, 8, 4, 2))),
    ],
    "columns.cu": [f"column_sums<{names}>"
                   for names in ("__half, float, 8", "float, __nv_bfloat16, 4", "double, double, 1")],
    "embedding.cu": ["embedding_backward<__nv_bfloat16, float>", "embedding_backward<float, float>", "sort_ids<256>"],
    "optimizer.cu": [
        "adamw<float, float, __nv_bfloat16>", "adamw<float, __half, __half>", "adamw<double, double, double>",
        "sgd<float, float, float>", "squared_norm<float>", "squared_norm<__half>",
    ],
    "lstm.cu": [f"lstm_{way}<{t}>" for way in ("forward", "project", "backward", "split") for t in ("__half", "float")],
    "quantized.cu": ["integer_matmul<8>", "integer_matmul<4>"],
}


def instances(arch: str) -> dict[str, list[str]]:
    """What is compiled of each file."""
    files = attention_plans(GPUS[arch], arch in ALL)
    for names in files.values():
        # bfloat16 compiles to the same registers as float16; one instance of each kernel shows that it compiles at all.
        names += [name.replace("__half", "__nv_bfloat16") for name in names if "__half" in name][-1:]
    files.setdefault("attention_backward.cu", []).extend(f"attention_delta<{t}>" for t in (*HALVES, *REALS))
    if arch in (*ALL, "sm_75", "sm_120"):
        files |= {file: names if arch in ALL else [*names[:1], *names[-1:]] for file, names in OTHERS.items()}
    return {file: names for file, names in files.items() if names}


# How many registers a thread may take. The tensor-core kernels live from all there are; of the others, more blocks at
# once hide the time that memory takes.
REGISTERS = {"attention_forward.cu": 255, "attention_backward.cu": 255, "attention_plain.cu": 255,
             "attention_minimal.cu": 255, "attention_decode.cu": 96, "norm.cu": 128, "quantized.cu": 128}
OTHERS_REGISTERS = 64


def instructions(name: str) -> dict[str, int]:
    """How often the instructions of the tensor cores stand in a kernel, where each loop's body is there just once.

    A product of 16 x 16 by 16 x 8 takes one HMMA, so a warp's strip of 16 queries takes D / 2 for its logits with 64
    keys and as many for their values; backward makes five products of a warp's 16 keys with a tile of queries. An LDSM
    fetches what four HMMA need of one factor; an LDGSTS copies 16 bytes a thread. A kernel that had lost them to a
    slower path would still give the right numbers. Others read 16 bytes at a time, if they can.
    """
    words = name.replace("<", " ").replace(">", "").replace(",", "").split()
    kind, numbers = words[0], [int(word) for word in words[1:] if word.isdigit()]
    if kind == "attention_forward":
        D, warps, strips, _ = numbers
        copies = (warps * 16 * strips + 3 * 64) * D // 8 // (warps * 32)  # Q, the first K, V and the next K
        return {"HMMA": strips * D, "LDSM": strips * D // 16 + D // 2, "LDGSTS": copies}
    if kind == "attention_backward":
        D, warps, extras = numbers
        queries = 32 if extras and D > 64 else 64
        copies = (2 * warps * 16 + 4 * queries) * D // 8 // (warps * 32)  # K, V; Q and dY, the first and the next
        return {"HMMA": 5 * D * queries // 128, "LDGSTS": copies}
    if kind == "integer_matmul":
        return {"IMMA": 16}
    parts = kind.partition("_")[0] in ("norm", "softmax", "gelu", "multiply", "dropout")
    least = {"column_sums": 4, "cross_entropy_forward": 1, "cross_entropy_backward": 1}.get(kind, int(parts))
    written = kind not in ("column_sums", "cross_entropy_forward")  # a few numbers a row
    return {"LDG.E.128": least, "STG.E.128": least * written} if 8 in numbers else {}


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "source"), [(arch, source) for arch in GPUS for source in instances(arch)])
def test_kernels_compile_without_spilling_and_use_the_tensor_cores(source, arch):
    pytest.importorskip("cupy", reason="compiling kernels needs CuPy: pip install -e '.[gpu-compile]'")
    names = instances(arch)[source]
    usage = compile_kernels(source, names, arch)
    assert usage.keys() == set(names)
    for name, used in usage.items():
        print(f"{arch} {name}: {used.registers} registers, {used.shared} bytes of static shared memory, "
              f"{used.instructions['all']} instructions")  # fmt: skip
        assert used.spilled == 0, f"{name} spills {used.spilled} bytes on {arch}"
        assert used.stack == 0, f"{name} keeps {used.stack} bytes in local memory on {arch}"
        most = REGISTERS.get(source, OTHERS_REGISTERS)
        assert used.registers <= most, f"{name} takes {used.registers} registers on {arch}, more than {most}"
        for instruction, least in instructions(name).items():
            count = used.instructions[instruction]
            assert count >= least, f"{name} has {count} {instruction} on {arch}, fewer than {least}"
