"""Every kernel compiles for the A100 (sm_80) and the H100 and H200 (sm_90), and keeps what it works on in registers.

Run with -s to see each kernel's registers and shared memory.
"""

import numpy as np
import pytest

from tests.backend.gpu.emulator import LARGE, SMALL
from tests.backend.gpu.nvrtc import compile_kernels
from tinytensor.backend.gpu.attention import PLAIN_WIDTHS, TENSOR_CORE_WIDTHS, Rules, backward_plan, forward_plan

HALVES, REALS = ("__half", "__nv_bfloat16"), ("float", "double")
RULES = Rules(False, None, None, None, None, 0, 0)


def attention_plans():
    """{file: kernels}, from the same arithmetic that starts them: every width of head, short and long, with extras.

    GPUs for games have less shared memory than an H100, and kernels of their own for wide heads.
    """
    files = {}
    for dtype in (np.float16, np.float32, np.float64):
        widths = TENSOR_CORE_WIDTHS if dtype == np.float16 else PLAIN_WIDTHS[1:]
        for D in widths if dtype != np.float64 else widths[:-1]:
            for T in (64, 128):
                q = np.empty((1, 1, T, D), dtype)
                for rules in (RULES, RULES._replace(threshold=1)):
                    if D % 64 and rules == RULES:
                        continue  # between the others in size, and without the extras smaller
                    for plan in (forward_plan(q, rules, 1.0), *(backward_plan(q, rules, n) for n in (LARGE, SMALL))):
                        files.setdefault(plan.file, set()).add(plan.name)
    return {file: sorted(names) for file, names in files.items()}


INSTANCES = attention_plans() | {
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
        *(f"dropout<{t}, {size}>" for t, size in zip((*HALVES, *REALS), (8, 8, 4, 2))),
    ],
    "embedding.cu": ["embedding_backward<__nv_bfloat16, float>", "embedding_backward<float, float>", "sort_ids<256>"],
    "optimizer.cu": [
        "adamw<float, float, __nv_bfloat16>", "adamw<float, __half, __half>", "adamw<double, double, double>",
        "sgd<float, float, float>", "squared_norm<float>", "squared_norm<__half>",
    ],
    "lstm.cu": [f"lstm_{way}<{t}>" for way in ("forward", "project", "backward", "split") for t in ("__half", "float")],
    "quantized.cu": ["integer_matmul<8>", "integer_matmul<4>"],
}
INSTANCES["attention_backward.cu"] += [f"attention_delta<{t}>" for t in (*HALVES, *REALS)]
# bfloat16 compiles to the same registers as float16; one instance of each kernel shows that it compiles at all.
for file in ("attention_forward.cu", "attention_backward.cu"):
    INSTANCES[file].append(INSTANCES[file][-1].replace("__half", "__nv_bfloat16"))


# How many registers a thread may take. The tensor-core kernels live from all there are; of the others, more blocks at
# once hide the time that memory takes.
REGISTERS = {"attention_forward.cu": 255, "attention_backward.cu": 255, "attention_plain.cu": 255,
             "attention_minimal.cu": 255, "attention_decode.cu": 96, "norm.cu": 128, "quantized.cu": 128}
OTHERS_REGISTERS = 64


def least_instructions(name: str) -> dict[str, int]:
    """How often the instructions of the tensor cores must stand in a kernel, were each loop body there just once.

    A product of 16 x 16 by 16 x 8 takes one mma, so a warp's strip of 16 queries takes D / 2 for its logits with 64
    keys and as many for their values; backward makes five products of at least 16 x 32 by D. One ldmatrix fetches what
    four mma need of one factor. A kernel that had lost them to a slower path would still give the right numbers.
    """
    words = name.replace("<", " ").replace(">", "").replace(",", "").split()
    kind, numbers = words[0], [int(word) for word in words[1:] if word.isdigit()]
    if kind == "attention_forward":
        D, _, strips, _ = numbers
        return {"mma.sync": strips * D, "ldmatrix.sync": strips * D // 4, "cp.async.cg": 8}
    if kind == "attention_backward":
        D = numbers[0]
        return {"mma.sync": 5 * D // 4, "ldmatrix.sync": 5 * D // 8, "cp.async.cg": 8}
    return {"mma.sync": 16} if kind == "integer_matmul" else {}


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["sm_80", "sm_90"])
@pytest.mark.parametrize("source", INSTANCES)
def test_kernels_compile_without_spilling_and_use_the_tensor_cores(source, arch):
    pytest.importorskip("cupy", reason="compiling kernels needs CuPy: pip install -e '.[gpu-compile]'")
    usage = compile_kernels(source, INSTANCES[source], arch)
    assert usage.keys() == set(INSTANCES[source])
    for name, used in usage.items():
        print(f"{arch} {name}: {used.registers} registers, {used.shared} bytes of static shared memory")
        assert used.spilled == 0, f"{name} spills {used.spilled} bytes on {arch}"
        assert used.stack == 0, f"{name} keeps {used.stack} bytes in local memory on {arch}"
        most = REGISTERS.get(source, OTHERS_REGISTERS)
        assert used.registers <= most, f"{name} takes {used.registers} registers on {arch}, more than {most}"
        for instruction, least in least_instructions(name).items():
            count = used.instructions[instruction]
            assert count >= least, f"{name} has {count} {instruction} on {arch}, fewer than {least}"
