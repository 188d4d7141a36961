"""Long inputs: seconds and bytes of attention from 1,024 to 32,768 tokens, here and in PyTorch, and of a training step.

    python -m benchmarks.long                              measures, and draws docs/long.png
    python -m benchmarks.long --contexts 1024 4096         fewer of them
    python -m benchmarks.long step 32768                   a training step of a GPT of four layers, in this process

Causal attention of a width of 128, forward and backward, in float32, as 4 heads of 32 and as 2 of 64; PyTorch's is
scaled_dot_product_attention. Both have one thread, take turns in one process, and are timed by the processor's clock;
the figures are medians. Bytes are how far the peak of a fresh process rises above what it had with the inputs made.

The step is that of a GPT of four layers, 4 heads of 32 and 1,024 tokens, with rotary positions, --recompute and a batch
of one text: forward, backward and AdamW. Its bytes are all that the process ever had, Python and NumPy included.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

import tinytensor as tt
from benchmarks.memory import peak, resident
from models import GPT, GPTConfig
from tinytensor import backend
from train.optim import AdamW

CONTEXTS = (1024, 2048, 4096, 8192, 16384, 32768)
HEADS = {4: 32, 2: 64}  # how many of which width
TURNS = {1024: 15, 2048: 9, 4096: 5, 8192: 3, 16384: 2, 32768: 1}


def ours(context: int, heads: int):
    """A call that does attention, forward and backward, on inputs that are made now."""
    draw = np.random.default_rng(0)
    q, k, v, dy = (draw.standard_normal((1, heads, context, HEADS[heads]), np.float32) for _ in range(4))
    leaves = [tt.Tensor(array, requires_grad=True) for array in (q, k, v)]

    def run() -> None:
        for leaf in leaves:
            leaf.grad = None
        tt.ops.attention(*leaves, causal=True, recompute=True).backward(dy)

    return run


def theirs(context: int, heads: int):
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    torch.set_num_threads(1)
    draw = np.random.default_rng(0)
    arrays = (draw.standard_normal((1, heads, context, HEADS[heads]), np.float32) for _ in range(4))
    q, k, v, dy = map(torch.from_numpy, arrays)
    leaves = [leaf.requires_grad_() for leaf in (q, k, v)]

    def run() -> None:
        for leaf in leaves:
            leaf.grad = None
        scaled_dot_product_attention(*leaves, is_causal=True).backward(dy)

    return run


SIDES = {"ours": ours, "theirs": theirs}


def seconds(context: int, heads: int) -> dict[str, float]:
    """Of a call on each side, in turns."""
    runs = {side: make(context, heads) for side, make in SIDES.items()}
    taken = {side: [] for side in runs}
    for _ in range(TURNS.get(context, 2)):
        for side, run in runs.items():
            start = time.process_time()
            run()
            taken[side].append(time.process_time() - start)
    return {side: statistics.median(times) for side, times in taken.items()}


def megabytes(context: int, heads: int, side: str) -> float:
    """How far one call raises the peak of this process."""
    SIDES[side](128, heads)()  # libraries are loaded, buffers of their own made
    run = SIDES[side](context, heads)
    before = resident()
    run()
    return peak() - before


def step(context: int) -> dict[str, float]:
    """Seconds of the processor and peak MB of a training step."""
    shape = dict(vocab_size=1024, context=context, layers=4, heads=4, width=128, bias=False)
    model = GPT(GPTConfig(**shape, rotary=10000.0, recompute=True))
    optimizer = AdamW(model.parameters(), lr=1e-3)
    ids = np.random.default_rng(0).integers(0, 1024, (1, context + 1))
    start = time.process_time()
    model.loss({"ids": ids[:, :-1], "targets": ids[:, 1:]}).backward()
    optimizer.step(1e-3)
    return {"seconds": time.process_time() - start, "megabytes": peak()}


def in_a_process_of_its_own(*arguments) -> dict | float:
    command = [sys.executable, "-m", "benchmarks.long", *map(str, arguments)]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def measure(contexts: list[int]) -> list[dict]:
    """A row for each context."""
    rows = []
    for context in contexts:
        row = {"context": context}
        for heads in HEADS:
            took = in_a_process_of_its_own("seconds", context, heads)
            row[str(heads)] = {"seconds": took}
            print(f"{context:6,} tokens, {heads} heads of {HEADS[heads]}:  ours {took['ours']:8.3f} s, PyTorch "
                  f"{took['theirs']:8.3f} s, ratio {took['ours'] / took['theirs']:.2f}", flush=True)  # fmt: skip
        heads = max(HEADS)
        used = row[str(heads)]["megabytes"] = {
            side: in_a_process_of_its_own("bytes", context, heads, side) for side in SIDES
        }
        one = row["step"] = in_a_process_of_its_own("step", context)
        print(f"{context:6,} tokens, {heads} heads: ours {used['ours']:.1f} MB, PyTorch {used['theirs']:.1f} MB; "
              f"a training step: {one['seconds']:.1f} s, {one['megabytes']:.0f} MB", flush=True)  # fmt: skip
        rows.append(row)
    return rows


def draw(rows: list[dict], out: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    contexts = [row["context"] for row in rows]
    panels = {"seconds": "seconds", "megabytes": "peak bytes (MB)"}
    for axes, (what, label) in zip(figure.subplots(1, 2), panels.items()):
        for heads, dash in zip(HEADS, ("-", "--")):
            for side, name, color in (("theirs", "PyTorch", "#d94801"), ("ours", "tinytensor", "#08519c")):
                values = [row[str(heads)][what][side] for row in rows if what in row[str(heads)]]
                if not values:
                    continue
                shown = f"{name}, {heads} heads of {HEADS[heads]}"
                axes.loglog(contexts, values, dash, marker="o", color=color, label=shown, base=2)
        values = [row["step"][what] for row in rows]
        axes.loglog(contexts, values, ":", marker="s", color="#238b45", label="a training step, 4 layers", base=2)
        axes.set_yscale("log", base=10)
        axes.set_xticks(contexts, [f"{context:,}" for context in contexts])
        axes.set_xlabel("tokens")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    figure.savefig(out, dpi=120)
    print(f"drawn: {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="one measurement: step CONTEXT, seconds CONTEXT HEADS, bytes ... SIDE")
    parser.add_argument("--contexts", type=int, nargs="+", default=CONTEXTS)
    parser.add_argument("--numbers", type=Path, help="a file of what was measured; if it is there, it is only drawn")
    parser.add_argument("--out", type=Path, default=Path("docs/long.png"))
    args = parser.parse_args()
    backend.cpu.tune_malloc()
    threadpool_limits(1)  # two on a busy machine wait for each other: 15 times slower
    if args.what:
        kind, context, *more = args.what
        kinds = {"step": step, "seconds": seconds, "bytes": megabytes}
        print(json.dumps(kinds[kind](int(context), *(int(m) if m.isdigit() else m for m in more))))
        return
    rows = json.loads(args.numbers.read_text()) if args.numbers and args.numbers.exists() else measure(args.contexts)
    if args.numbers:
        args.numbers.write_text(json.dumps(rows))
    draw(rows, args.out)


if __name__ == "__main__":
    main()
