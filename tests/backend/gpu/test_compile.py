"""Every kernel compiles for the H100 and H200 (sm_90), a sample of them for others from the T4 on, and keeps what it
works on in registers.

Most of the time goes into the kernels of attention, about 4 seconds each. So the sample has of them what differs from
GPU to GPU: the tiles that fit its shared memory, at the widths that fill the registers.

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


# The GPUs that kernels are compiled for, and what they have: H100, H200; A100; T4; RTX 30; RTX 40; RTX 50. And for
# which widths of heads of each type; for sequences that are long, and for some that are short.
GPUS = {"sm_90": H100, "sm_80": Abilities(True, 163 << 10), "sm_75": T4, "sm_86": GAMES, "sm_89": GAMES,
        "sm_120": GAMES}  # fmt: skip
WHOLE = "sm_90"
WIDTHS = {
    "sm_90": {np.float16: (*TENSOR_CORE_WIDTHS, 256), np.float32: PLAIN_WIDTHS[1:], np.float64: (128,)},
    "sm_80": {np.float16: (64, 128)},
    "sm_75": {np.float16: (128,), np.float32: (128,)},
    "sm_86": {np.float16: (128,)},
    "sm_89": {np.float16: (128,)},
    "sm_120": {np.float16: (64, 128)},
}
SHORT = (64,)


def attention_plans(arch: str):
    """{file: kernels}, from the same arithmetic that starts them, with mask, bias and dropout and without."""
    files, gpu = {}, GPUS[arch]
    for dtype, widths in WIDTHS[arch].items():
        for D in widths:
            for T in (64, 128) if D in SHORT and arch == WHOLE else (128,):
                q = np.empty((1, 1, T, D), dtype)
                for rules in (RULES, RULES._replace(threshold=1)):
                    if (D % 64 or T == 64) and rules == RULES:
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
    "columns.cu": [
        *(f"column_sums<{names}>" for names in (
            "__half, float, 8, 0", "__half, float, 8, 1", "float, __nv_bfloat16, 4, 0", "double, double, 1, 1")),
        *(f"add_bias<{names}>" for names in ("__half, 8", "__nv_bfloat16, 1", "float, 4")),
    ],
    "embedding.cu": ["embedding_sums<__nv_bfloat16, float, 8>", "embedding_sums<__half, __half, 8>",
                     "embedding_sums<float, float, 4>", "embedding_sums<float, float, 1>", "sort_count<8>",
                     "embedding_join<float, float, 8>", "embedding_join<float, __half, 8>", "sort_place<0>"],
    "optimizer.cu": [
        "adamw<float, float, __nv_bfloat16>", "adamw<float, __half, __half>", "adamw<double, double, double>",
        "sgd<float, float, float>", "squared_norm<float>", "judge<256>", "squared_norm<__half>",
    ],
    "lstm.cu": [f"lstm_{way}<{t}>" for way in ("forward", "project", "backward", "split") for t in ("__half", "float")],
    "quantized.cu": ["integer_matmul<8>", "integer_matmul<4>"],
}


def instances(arch: str) -> dict[str, list[str]]:
    """What is compiled of each file."""
    files = attention_plans(arch)
    if arch == WHOLE:
        for names in files.values():
            # bfloat16 compiles to the same registers as float16; one instance of each shows that it compiles at all.
            names += [name.replace("__half", "__nv_bfloat16") for name in names if "__half" in name][-1:]
        files["attention_backward.cu"] += [
            f"attention_{kernel}>" for kernel in ("delta<__half, 8, 8", "delta<__nv_bfloat16, 8, 16",
                                                  "delta<float, 4, 32", "delta<double, 2, 32", "round<__half, 8",
                                                  "round<float, 4")]  # fmt: skip
    if arch in (WHOLE, "sm_75", "sm_120"):  # the oldest and the newest
        files |= {file: names if arch == WHOLE else [*names[:1], *names[-1:]] for file, names in OTHERS.items()}
    return files


# How many registers a thread may take. The tensor-core kernels live from all there are; of the others, more blocks at
# once hide the time that memory takes.
REGISTERS = {"attention_forward.cu": 255, "attention_backward.cu": 255, "attention_plain.cu": 255,
             "attention_minimal.cu": 255, "attention_decode.cu": 96, "norm.cu": 128, "quantized.cu": 128,
             "embedding.cu": 80}
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
    if kind == "column_sums" and numbers == [8, 1]:  # with the product
        return {"LDG.E.128": 8, "STG.E.128": 4}
    loads, stores = VECTORS.get(kind, (0, 0)) if 8 in numbers else (0, 0)
    return {"LDG.E.128": loads, "STG.E.128": stores}


# How many 16-byte loads and stores are written out in a kernel for 16-bit numbers. Where it goes down the rows of a
# matrix, four loads are under way at once.
VECTORS = {
    **dict.fromkeys(["norm_forward", "norm_backward", "softmax_forward", "softmax_backward", "gelu_forward", "dropout"],
                    (1, 1)),
    "multiply": (2, 1), "cross_entropy_forward": (1, 0), "cross_entropy_backward": (1, 1), "column_sums": (4, 0),
    "add_bias": (5, 4), "attention_delta": (2, 0), "attention_round": (2, 1),
    "embedding_sums": (4, 3), "embedding_join": (2, 0),
}  # fmt: skip


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
