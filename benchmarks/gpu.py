"""The GPU kernels against PyTorch on the same card, in one process, from random data.

    python -m benchmarks.gpu                          everything; a table in Markdown on standard output
    python -m benchmarks.gpu step decode              some of its parts: attention, tiles, rows, host, step, decode
    python -m benchmarks.gpu --write                  also into benchmarks/results/gpu.md

Times are CUDA events around the work, medians of many runs after a warm-up. Before each, a buffer of 1 GiB is filled:
the inputs leave the cache, and Python has time to get ahead of the GPU. The targets stand beside the ratios: attention
at the speed of PyTorch's FlashAttention, with no larger an error (cuDNN's, another algorithm for newer GPUs, is shown
too); what goes over memory row by row at 80% of the copy bandwidth; a GPT-2 124M step at eager PyTorch's tokens per
second, in no more memory, allocated against allocated; nanoGPT's 'baby', with its dropout, likewise; decoding no slower
than `transformers`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import unittest.mock
from pathlib import Path

import numpy as np

import tinytensor as tt
from models import GPT, GPTConfig
from models.generate import generate
from tinytensor import backend
from train.optim import AdamW, FlatParameters
from train.precision import compute_dtype

LENGTHS = (1024, 2048, 4096, 8192, 16384)
TOKENS = 16384                                             # batch times length in the attention sweep
WIDTH = 2048                                               # heads times head width there
ROWS, ROW, CLASSES = 16384, 768, 50257                     # of GPT-2's activations, and its vocabulary
HERE = Path(__file__).parent


def at_least(target: float, ratio: float) -> str:
    return f"{ratio:.2f} ({'met' if ratio >= target else 'not met'}: at least {target:.2f})"


def at_most(target: float, ratio: float) -> str:
    return f"{ratio:.2f} ({'met' if ratio <= target else 'not met'}: at most {target:.2f})"


def milliseconds(work, module, runs: int = 30) -> float:
    """The median time of work() on the GPU; module is cupy or torch, whose events and stream are used."""
    ours = module.__name__ == "cupy"
    make = module.cuda.Event if ours else lambda: module.cuda.Event(enable_timing=True)
    between = module.cuda.get_elapsed_time if ours else lambda start, end: start.elapsed_time(end)
    flush = module.zeros(1 << 30, dtype=module.uint8, **({} if ours else {"device": "cuda"}))
    for _ in range(3):
        work()
    times = []
    for _ in range(runs):
        flush[:] = 0
        start, end = make(), make()
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(between(start, end))
    return statistics.median(times)


PEERS = ("FLASH_ATTENTION", "CUDNN_ATTENTION")  # PyTorch's, of torch.nn.attention.SDPBackend


def attention(cupy, torch) -> list[str]:
    """TFLOP/s of both sides, forward and backward, in bfloat16, and the error of both against float64."""
    lines = ["| D | length | causal | forward: ours, flash, cuDNN (TFLOP/s) | of flash's | backward: the same "
             "| of flash's |", "|---|---|---|---|---|---|---|"]  # fmt: skip
    for D in (64, 128):
        for T in LENGTHS:
            for causal in (True, False):
                work, cells = 4 * TOKENS * WIDTH * T * (0.5 if causal else 1) / 1e9, []
                for scale, times in zip((1, 2.5), attention_times(cupy, torch, T, D, causal)):
                    cells.append(", ".join("-" if time is None else f"{scale * work / time:.0f}" for time in times))
                    cells.append("-" if times[1] is None else at_least(1.0, times[1] / times[0]))
                lines.append(f"| {D} | {T} | {'yes' if causal else 'no'} | {' | '.join(cells)} |")
    return ["## Attention, bfloat16", "", *lines, "", *attention_error(cupy, torch)]


def attention_times(cupy, torch, T: int, D: int, causal: bool) -> tuple[list, list]:
    """Milliseconds of forward and of backward: ours, then PEERS' on the same arrays; None where there is no such."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from tinytensor.backend import gpu

    shape = (TOKENS // T, WIDTH // D, T, D)
    theirs = [torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(4)]
    q, k, v, dy = (cupy.from_dlpack(t) for t in theirs)
    leaves = [t.requires_grad_() for t in theirs[:3]]
    ours = lambda: gpu.attention(q, k, v, scale=D**-0.5, causal=causal)
    peer = lambda: torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=causal)
    _, saved = ours()
    forward = [milliseconds(ours, cupy)]
    backward = [milliseconds(lambda: gpu.attention_backward(dy, saved), cupy)]
    for number, name in enumerate(PEERS, 2):
        try:
            with sdpa_kernel(SDPBackend.__members__[name]):
                y = peer()
                with torch.no_grad():
                    forward.append(milliseconds(peer, torch))
                back = lambda y=y: torch.autograd.grad(y, leaves, theirs[3], retain_graph=True)
                backward.append(milliseconds(back, torch))
        except RuntimeError as error:  # it has no such kernel for this GPU
            print(f"{name}: {error}", file=sys.stderr)
            forward, backward = (times + [None] * (number - len(times)) for times in (forward, backward))
    return forward, backward


def tiles(cupy, torch) -> list[str]:
    """Forward at D = 128 with other tiles than the backend takes: a GPU has to say which are the fastest."""
    from tinytensor.backend import gpu
    from tinytensor.backend.gpu.attention import Plan

    lines = ["| warps x strips of 16 queries | TFLOP/s, length 4096 |", "|---|---|"]
    draw = lambda: cupy.random.standard_normal((4, 16, 4096, 128), dtype=np.float32).astype(compute_dtype("bfloat16"))
    q, k, v = draw(), draw(), draw()
    for warps, strips in ((8, 1), (4, 1), (4, 2)):
        rows = warps * 16 * strips
        name = f"attention_forward<__nv_bfloat16, 128, {warps}, {strips}, 0>"
        plan = Plan(name, "attention_forward.cu", rows, warps * 32, (rows + 128) * 128 * 2)
        with unittest.mock.patch.object(sys.modules[Plan.__module__], "forward_plan", lambda *given, plan=plan: plan):
            took = milliseconds(lambda: gpu.attention(q, k, v, scale=128**-0.5), cupy)
        lines.append(f"| {warps} x {strips} | {4 * TOKENS * WIDTH * 4096 / 1e9 / took:.0f} |")
    return ["## Tiles of wide heads", "", *lines]


def attention_error(cupy, torch) -> list[str]:
    """The largest error of forward and of each gradient against float64, ours and PyTorch's, at length 1024."""
    from tinytensor.backend import cpu, gpu

    lines = ["| largest error against float64: ours, PyTorch's | y | dq | dk | dv | the worst ratio |",
             "|---|---|---|---|---|---|"]
    for D in (64, 128):
        for causal in (True, False):
            how = dict(scale=D**-0.5, causal=causal)
            arrays = [torch.randn(1, 2, 1024, D, device="cuda", dtype=torch.bfloat16) for _ in range(4)]
            q, k, v, dy = (cupy.from_dlpack(a) for a in arrays)
            y, saved = gpu.attention(q, k, v, **how)
            ours = [y, *gpu.attention_backward(dy, saved)[:3]]
            leaves = [a.requires_grad_() for a in arrays[:3]]
            out = torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=causal)
            theirs = [out, *torch.autograd.grad(out, leaves, arrays[3])]
            exact = [a.detach().double().cpu().numpy() for a in arrays]
            right_y, right_saved = cpu.attention(*exact[:3], **how)
            right = [right_y, *cpu.attention_backward(exact[3], right_saved)[:3]]
            cells, ratios = [], []
            for mine, peer, want in zip(ours, theirs, right):
                errors = backend.to_numpy(mine).astype(np.float64), peer.detach().double().cpu().numpy()
                own, theirs_worst = (np.abs(values - want).max() for values in errors)
                cells.append(f"{own:.1e}, {theirs_worst:.1e}")
                ratios.append(own / theirs_worst)
            cells.append(at_most(1.0, max(ratios)))
            lines.append(f"| D {D}, {'causal' if causal else 'full'} | {' | '.join(cells)} |")
    return lines


def copy_bandwidth(cupy) -> float:
    """GB/s of copying 1 GiB, bytes read and bytes written."""
    source = cupy.zeros(1 << 28, np.float32)
    target = cupy.empty_like(source)
    return 2 * source.nbytes / milliseconds(lambda: cupy.copyto(target, source), cupy) / 1e6


def rows(cupy, torch) -> list[str]:
    """What goes over memory row by row, as a share of the bandwidth of a copy."""
    copy = copy_bandwidth(cupy)
    lines = [f"A copy of 1 GiB moves {copy:.0f} GB/s.", "", "| kernel | GB/s | of the copy |", "|---|---|---|"]
    for name, work, moved in (*norms_and_losses(cupy), *elements(cupy)):
        speed = moved / milliseconds(work, cupy) / 1e6
        lines.append(f"| {name} | {speed:.0f} | {at_least(0.8, speed / copy)} |")
    return ["## Norms, losses and passes over elements, bfloat16", "", *lines]


def drawn(cupy, *shape):
    return cupy.random.standard_normal(shape, dtype=np.float32).astype(compute_dtype("bfloat16"))


def norms_and_losses(cupy):
    """(name, work, bytes that have to be moved) of each."""
    from tinytensor.backend import gpu
    from tinytensor.backend.gpu.softmax import cross_entropy_into, empty_rows

    x, branch, weight, bias = drawn(cupy, ROWS, ROW), drawn(cupy, ROWS, ROW), drawn(cupy, ROW), drawn(cupy, ROW)
    logits = empty_rows(x, ROWS, CLASSES)  # as a model's lie
    logits[...] = drawn(cupy, ROWS, CLASSES)
    targets = cupy.random.randint(0, CLASSES, ROWS)
    norm = lambda x, branch, bias, **how: gpu.normalize(x, branch, weight, bias, 1e-5, **how)
    _, _, saved = norm(x, branch, bias, centre=True)
    drop = dict(dropout=0.1, rng=np.random.default_rng(0))
    _, _, dropped = norm(x, branch, bias, centre=True, **drop)
    losses, loss_saved = gpu.cross_entropy(logits, targets, ignore_index=-100)
    ones = cupy.ones_like(losses)
    return (
        ("layer norm", lambda: norm(x, None, bias, centre=True), 2 * x.nbytes),
        ("residual + layer norm", lambda: norm(x, branch, bias, centre=True), 4 * x.nbytes),
        ("its gradient", lambda: gpu.normalize_backward(x, branch, saved), 4 * x.nbytes),
        ("dropout + residual + layer norm", lambda: norm(x, branch, bias, centre=True, **drop), 4 * x.nbytes),
        ("its gradient", lambda: gpu.normalize_backward(x, branch, dropped), 5 * x.nbytes),
        ("RMS norm", lambda: norm(x, None, None, centre=False), 2 * x.nbytes),
        (f"cross-entropy, {CLASSES} classes", lambda: gpu.cross_entropy(logits, targets, ignore_index=-100),
         logits.nbytes),
        ("its gradient, in place", lambda: cross_entropy_into(logits, ones, loss_saved), 2 * logits.nbytes),
    )


def elements(cupy):
    """The same of biases, GELU, dropout, and the gradient of an embedding, by how often the same id comes."""
    from tinytensor.backend import gpu
    from tinytensor.backend.gpu.arrays import add_bias

    h, bias, dy = drawn(cupy, ROWS, 4 * ROW), drawn(cupy, 4 * ROW), drawn(cupy, ROWS, ROW)
    _, slope = gpu.gelu(h, True, bias=bias)
    table = cupy.empty((CLASSES, ROW), np.float32)
    draw = np.random.default_rng(0)
    evenly = draw.integers(0, CLASSES, ROWS)
    ids = {"every id as often": evenly, "15% one id": np.where(draw.random(ROWS) < 0.15, 0, evenly % 65),
           "half of them padding": np.where(draw.random(ROWS) < 0.5, 0, evenly)}  # fmt: skip
    on_gpu = {name: cupy.asarray(some) for name, some in ids.items()}
    return (
        ("a bias added", lambda: add_bias(h, bias), 2 * h.nbytes),
        ("its gradient: the sum of the rows", lambda: gpu.column_sums(h), h.nbytes),
        ("GELU with its bias", lambda: gpu.gelu(h, True, bias=bias), 3 * h.nbytes),
        ("its gradient and the bias's", lambda: gpu.gelu_backward(h, slope, need_bias=True), 3 * h.nbytes),
        ("dropout", lambda: gpu.dropout_backward(h, 5, 0.1), 2 * h.nbytes),
        *((f"embedding's gradient, {name}", lambda some=some: gpu.embedding_backward(dy, some, CLASSES, out=table),
           dy.nbytes + table.nbytes) for name, some in on_gpu.items()),
    )


def host(cupy, torch) -> list[str]:
    """How long Python takes to start each kernel, which a small model waits for, where no graph is recorded."""
    from tinytensor.backend import gpu

    q, x, w, m = drawn(cupy, 1, 1, 64, 64), drawn(cupy, 8, 768), drawn(cupy, 768), drawn(cupy, 64, 64)
    lines = ["| kernel | microseconds |", "|---|---|"]
    for name, work in (("attention", lambda: gpu.attention(q, q, q, scale=0.1)),
                       ("residual + layer norm", lambda: gpu.normalize(x, x, w, w, 1e-5, centre=True)),
                       ("product", lambda: gpu.matmul(m, m)), ("CuPy's sum", lambda: m + m)):
        work()
        cupy.cuda.Device().synchronize()
        start = time.perf_counter()
        for _ in range(300):
            work()
        lines.append(f"| {name} | {(time.perf_counter() - start) / 300 * 1e6:.0f} |")
        cupy.cuda.Device().synchronize()
    return ["## Python's part", "", *lines]


STEPS = {"gpt2": ("GPT-2 124M", 16), "baby": ("nanoGPT's 'baby', 10.7M", 64)}   # preset -> what it is, batch
BABY_STEPS = 5000                                          # of nanoGPT's run on Shakespeare


def step(cupy, torch) -> list[str]:
    """A training step, with and without a CUDA graph, against the same model in PyTorch eager under autocast."""
    lines = []
    for preset, (name, batch) in STEPS.items():
        config = GPTConfig.preset(preset)
        ids = np.random.default_rng(0).integers(0, config.vocab_size, (batch, config.context + 1))
        measured = {"PyTorch eager": peer_step(torch, config, ids)}
        torch.cuda.empty_cache()
        for graph in (False, True):
            measured["here, --graph" if graph else "here"] = our_step(cupy, config, ids, graph)
            cupy.get_default_memory_pool().free_all_blocks()
        tokens = 1000 * batch * config.context
        lines += [f"## A training step of {name}, batch {batch} x {config.context}, bfloat16", "",
                  "| | ms | tokens/s | of PyTorch's | peak memory | of PyTorch's |", "|---|---|---|---|---|---|"]
        peer_time, peer_memory = measured["PyTorch eager"]
        for who, (took, memory) in measured.items():
            of_peer = at_least(1.0, peer_time / took), at_most(1.0, memory / peer_memory)
            speed, space = of_peer if who != "PyTorch eager" else ("", "")
            cells = [who, f"{took:.2f}", f"{tokens / took:,.0f}", speed, f"{memory / 2**30:.1f} GiB", space]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
        if preset == "baby":
            minutes = min(took for took, _ in list(measured.values())[1:]) * BABY_STEPS / 60_000
            lines += [f"At the faster of our two, {BABY_STEPS} steps take {minutes:.1f} minutes.", ""]
    return lines[:-1]


def peer_step(torch, config: GPTConfig, ids: np.ndarray) -> tuple[float, int]:
    """(milliseconds, most bytes that arrays took together) of PyTorch's step."""
    from benchmarks.peer import TorchGPT

    peer = TorchGPT(config).cuda()
    optimizer = torch.optim.AdamW(peer.parameters(), lr=1e-4, fused=True)
    ids = torch.from_numpy(ids).cuda()

    def work():
        with torch.autocast("cuda", torch.bfloat16):
            loss = peer.loss({"ids": ids[:, :-1], "targets": ids[:, 1:]})
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 1.0)
        optimizer.step()

    work()  # makes the optimizer's state
    torch.cuda.reset_peak_memory_stats()
    work()
    memory = torch.cuda.max_memory_allocated()
    return milliseconds(work, torch, 10), memory


def allocations(cupy):
    """A hook of CuPy's that counts what PyTorch's max_memory_allocated counts: inside `with`, the bytes of all arrays
    that have been made and not freed, and their `peak`."""

    class Allocations(cupy.cuda.memory_hook.MemoryHook):
        name, now, peak = "Allocations", 0, 0

        def malloc_postprocess(self, *, mem_size, **_):
            self.now += mem_size
            self.peak = max(self.peak, self.now)

        def free_postprocess(self, *, mem_size, **_):
            self.now -= mem_size

    return Allocations()


def our_step(cupy, config: GPTConfig, ids: np.ndarray, graph: bool) -> tuple[float, int]:
    """(milliseconds, most bytes) of ours: what train/trainer.py does. A graph keeps all that its pool has."""
    from tinytensor.backend.gpu.graph import Recorded

    arrays = allocations(cupy)
    with arrays:
        work, recorded = our_work(config, ids, Recorded if graph else None)
        for _ in range(4):  # a graph is recorded at the third
            work()
        memory = recorded.pool.total_bytes() + cupy.get_default_memory_pool().used_bytes() if graph else arrays.peak
    return milliseconds(work, cupy, 10), memory


def our_work(config: GPTConfig, ids: np.ndarray, recorder):
    """(a function that makes a step, the recorded step or None)."""
    from tinytensor.backend.gpu.verdict import Verdict

    model = GPT(config).to("cuda")
    optimizer = AdamW(FlatParameters(model.parameters(), compute_dtype("bfloat16")), lr=1e-4)
    flat, batch = optimizer.flat, {"ids": ids[:, :-1], "targets": ids[:, 1:]}
    batch = {name: np.ascontiguousarray(array) for name, array in batch.items()}
    counts = model.divisors(batch)

    def gradient(batch: dict):
        optimizer.zero_grad()
        loss = model.loss(batch, counts)
        loss.backward()
        flat.complete_gradients(flat.parameters)
        return loss.data

    recorded = recorder(gradient) if recorder else None

    def work():
        loss = recorded(batch, tt.random.generator()) if recorded else gradient(batch)
        optimizer.steps += 1
        optimizer.update(flat.grad, 1e-4, Verdict(flat.grad, loss.astype(np.float64), clip=1.0))

    return work, recorded


TOKENS_WRITTEN = 200


def decode(cupy, torch) -> list[str]:
    """Tokens a second of GPT-2 124M, one sequence, greedy, against `transformers` in float16."""
    model = GPT(GPTConfig.preset("gpt2")).to("cuda")
    for parameter in model.parameters():
        parameter.data = parameter.data.astype(np.float16)

    def ours(graph: bool):
        generate(model, np.zeros((1, 8), int), TOKENS_WRITTEN, temperature=0, graph=graph)
        cupy.cuda.Device().synchronize()

    works = {"transformers": peer_decode(torch), "here": lambda: ours(False), "here, --graph": lambda: ours(True)}
    speeds = {name: TOKENS_WRITTEN / seconds(work) for name, work in works.items()}
    lines = ["| | tokens/s | of transformers' |", "|---|---|---|"]
    for name, speed in speeds.items():
        ratio = "" if name == "transformers" else at_least(1.0, speed / speeds["transformers"])
        lines.append(f"| {name} | {speed:.0f} | {ratio} |")
    return ["## Decoding with GPT-2 124M, one sequence, float16", "", *lines]


def peer_decode(torch):
    """A function that writes the same number of tokens with `transformers`."""
    from transformers import GPT2Config, GPT2LMHeadModel

    peer = GPT2LMHeadModel(GPT2Config()).half().cuda().eval()
    prompt = torch.zeros(1, 8, dtype=torch.long, device="cuda")
    how = dict(max_new_tokens=TOKENS_WRITTEN, min_new_tokens=TOKENS_WRITTEN, do_sample=False, pad_token_id=0)

    def work():
        peer.generate(prompt, **how)
        torch.cuda.synchronize()

    return work


def seconds(work) -> float:
    """By the clock, once warm."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


PARTS = {"attention": attention, "tiles": tiles, "rows": rows, "host": host, "step": step, "decode": decode}


def main(arguments=None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; all by default")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/gpu.md as well")
    args = parser.parse_args(arguments)
    if unknown := set(args.parts) - PARTS.keys():
        sys.exit(f"unknown part {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    try:
        import cupy
        import torch
    except ImportError as error:
        sys.exit(f"this benchmark needs CuPy and PyTorch with CUDA: {error}")
    if not cupy.cuda.is_available() or not torch.cuda.is_available():
        sys.exit("this benchmark needs a GPU that both CuPy and PyTorch can use")
    tt.manual_seed(0)
    torch.manual_seed(0)
    device = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    command = " ".join(["python -m benchmarks.gpu", *args.parts])
    told = []

    def tell(*lines: str) -> None:  # at once: a part that fails takes nothing of the others with it
        told.extend(lines)
        print("\n".join(lines), flush=True)
        if args.write:
            (HERE / "results" / "gpu.md").write_text("\n".join(told) + "\n")

    tell(f"# The GPU kernels and PyTorch {torch.__version__} on one {device}", "", f"`{command}`")
    for name in args.parts or PARTS:
        tell("", *PARTS[name](cupy, torch))
        cupy.get_default_memory_pool().free_all_blocks()
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
