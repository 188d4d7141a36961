"""What XLNet's attention costs: the gradient of its bias, and a training step beside `transformers` in PyTorch eager.

    taskset -c 0 python -m benchmarks.xlnet                one core
    python -m benchmarks.xlnet --threads 2

First `ops.attention`, forward and backward, with a bias of (B, H, T, T) numbers: without a gradient for it, and with
one. Then the step: two streams, drawn orders, a sixth of 16 x 128 tokens predicted, forward, backward, clipping and
AdamW, the same batch and weights for both. All take turns in one process; the figures are medians, of CPU time on one
thread, so that what else the machine does hardly counts, and of the clock's on more.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import tinytensor as tt
from models import XLNet, XLNetConfig
from tinytensor import Tensor, ops
from tinytensor.distributed import blas_threads
from train.optim import AdamW, clip_grad_norm

B, T, K = 16, 128, 21
SHAPE = dict(vocab_size=8000, layers=4, heads=4, width=256, dropout=0.1)  # heads of 64, as the published ones


def race(sides: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """The median milliseconds of each, taking turns."""
    times = {name: [] for name in sides}
    for _ in range(rounds + 2):
        for name, run in sides.items():
            start = clock()
            run()
            times[name].append(1e3 * (clock() - start))
    return {name: statistics.median(some[2:]) for name, some in times.items()}


def attention_sides(heads: int, length: int, dropout: float) -> dict[str, Callable]:
    draw = np.random.default_rng(0)
    made = lambda *shape: draw.standard_normal(shape, np.float32)
    q, k, v = (Tensor(made(B, heads, length, 64), requires_grad=True) for _ in range(3))
    dy, numbers = made(B, heads, length, 64), made(B, heads, length, length)

    def run(learns: bool) -> None:
        ops.attention(q, k, v, bias=Tensor(numbers, requires_grad=learns), dropout=dropout).backward(dy)
        q.grad = k.grad = v.grad = None

    return {"constant": lambda: run(False), "with a gradient": lambda: run(True)}


def batch_of(seed: int = 0) -> dict:
    """Random texts in two segments; in a drawn order the last sixth is predicted, the rest sees itself."""
    draw = np.random.default_rng(seed)
    ids, turn = draw.integers(9, SHAPE["vocab_size"], (B, T)), draw.permuted(np.tile(np.arange(T), (B, 1)), axis=1)
    places = np.argsort(turn, axis=1)[:, -K:]
    turn = np.maximum(turn - (T - K) + 1, 0)
    sees = (turn[:, None] < turn[:, :, None]) | ((turn == 0)[:, None] & (turn == 0)[:, :, None])
    types = np.broadcast_to(np.arange(T) >= T // 2, (B, T)).astype(int)
    return dict(ids=ids, token_types=types, sees=sees, places=places, targets=np.take_along_axis(ids, places, axis=1))


def step_sides(batch: dict) -> dict[str, Callable]:
    import torch
    import transformers

    tt.manual_seed(0)
    ours = XLNet(XLNetConfig(**SHAPE))
    with tempfile.TemporaryDirectory() as folder:
        ours.save_pretrained(folder)
        theirs = transformers.XLNetLMHeadModel.from_pretrained(folder).train()
    own, their = AdamW(ours.parameters(), lr=1e-4), torch.optim.AdamW(theirs.parameters(), lr=1e-4)
    inputs = {"input_ids": torch.tensor(batch["ids"]), "token_type_ids": torch.tensor(batch["token_types"]),
              "perm_mask": torch.tensor(~batch["sees"]).float(), "labels": torch.tensor(batch["targets"]),
              "target_mapping": torch.nn.functional.one_hot(torch.tensor(batch["places"]), T).float()}  # fmt: skip

    def our_step() -> None:
        ours.loss(batch).backward()
        clip_grad_norm(ours.parameters(), 1.0)
        own.step()
        own.zero_grad()

    def their_step() -> None:
        theirs(**inputs).loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        their.step()
        their.zero_grad()

    return {"ours": our_step, "transformers": their_step}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="timed calls of each [20]")
    parser.add_argument("--threads", type=int, default=1, help="of BLAS, and of PyTorch [1]")
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    clock = time.process_time if args.threads == 1 else time.perf_counter
    cpu = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                if line.startswith("model name")), platform.processor())  # fmt: skip
    print(f"{cpu}, {args.threads} threads; PyTorch {torch.__version__}, NumPy {np.__version__}")
    with blas_threads(args.threads):
        for heads, length, dropout in ((4, 128, 0.0), (4, 128, 0.1), (12, 128, 0.1), (4, 512, 0.1)):
            found = race(attention_sides(heads, length, dropout), args.rounds, clock)
            without, learns = found.values()
            print(f"attention, {B} x {heads} heads x {length}, dropout {dropout}: bias constant {without:6.1f} ms, "
                  f"with a gradient {learns:6.1f} ms, ratio {learns / without:.2f}")  # fmt: skip
        found = race(step_sides(batch_of()), args.rounds, clock)
        print(f"step of {B} x {T}, {K} predicted a row: ours {found['ours']:.0f} ms, transformers "
              f"{found['transformers']:.0f} ms, ratio {found['ours'] / found['transformers']:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
