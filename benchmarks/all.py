"""One table for this machine: what takes how long here and elsewhere, what the target is, and whether it is met.

    python -m benchmarks.all                                          about ten minutes, if nothing else runs
    python -m benchmarks.all --only decoding --only lstm              some of it
    python -m benchmarks.all --text FILE --ranks gpt2.tiktoken        encoding of this text, also against tiktoken

It lies in benchmarks/results/all-PROCESSOR.md afterwards, the rows of parts that were left out as they were. Each part
is measured in a process of its own, in which what is compared takes turns. Ratios are our time by the peer's.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import tinytensor as tt
from tinytensor import backend
from tinytensor.distributed import blas_threads, core_count
from tinytensor.workers import choose_kind
from train.tables import markdown

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("numpy", "torch", "transformers", "tokenizers", "tiktoken")
ABOUT = "Ratios are our time by the peer's, measured in turns; the target is the most they may be."
HEADER = ("work", "ours", "peer", "ratio", "target", "met")


@dataclass(frozen=True)
class Row:
    """target: the ratio that is to be reached, at most."""

    work: str
    ours: float
    theirs: float
    peer: str
    target: float | None = None
    unit: str = "ms"

    def cells(self) -> tuple[str, ...]:
        ratio = self.ours / self.theirs
        met = "" if self.target is None else "yes" if ratio <= self.target else "no"
        size = lambda x: f"{x:,.0f} {self.unit}" if x >= 100 else f"{x:.3g} {self.unit}"
        sides = size(self.ours), f"{size(self.theirs)} ({self.peer})"
        return self.work, *sides, f"{ratio:.2f}", "" if self.target is None else f"{self.target:.2f}", met


def training(args: argparse.Namespace) -> Iterator[Row]:
    from benchmarks.train_step import SHAPES, race, race_own

    workers = core_count()
    for name, shape in SHAPES.items():
        times = race(*shape, workers, choose_kind("auto", workers), args.rounds)
        yield Row(f"training step: {name}", *times, "PyTorch eager", 1.0)
    for name in ("small", "baby"):
        yield Row(f"a loop of one's own: {name}", *race_own(*SHAPES[name], workers, args.rounds), "PyTorch eager", 1.1)


def lstm(args: argparse.Namespace) -> Iterator[Row]:
    from benchmarks.lstm import race

    for workers in sorted({1, core_count()}):
        times = race(workers, 3 * args.rounds)
        yield Row(f"LSTM, forward and backward, {workers} core(s)", *times, "PyTorch", 1.1)


def decoding(args: argparse.Namespace) -> Iterator[Row]:
    from benchmarks import generate

    rounds = max(3, args.rounds // 3)
    with generate.on(core_count()):
        for one in generate.gpt([1, 8], 24, 512, rounds):
            faster = 1.0 if "first token" in one.work else 1.6
            yield Row(one.work, 1e3 * one.ours, 1e3 * one.theirs, "transformers", 1 / faster)
        for one in (*generate.t5(24, rounds), *generate.bert(rounds)):
            yield Row(one.work, 1e3 * one.ours, 1e3 * one.theirs, "transformers", 1.0)


def tokenizers(args: argparse.Namespace) -> Iterator[Row]:
    from benchmarks import tokenizers as work
    from models.tokenizers import ByteLevelBPE

    text = args.text.read_text() if args.text else stories(1_000_000)
    raced = [work.encoding_t5(text, 2), work.training(text, 2)]
    if args.ranks:  # first: what training leaves in memory slows encoding by some 10%
        raced.insert(0, work.encoding(text, ByteLevelBPE.load(args.ranks), None, 3))
    for some in raced:
        for one in some:
            yield Row(one.what, 1e3 * one.ours, 1e3 * one.theirs, one.peer, one.target and 1 / one.target)


def stories(characters: int) -> str:
    from train.data.told import StoriesSource

    return "".join(piece for part in StoriesSource(characters).parts() for piece in part)


def integers(args: argparse.Namespace) -> Iterator[Row]:
    """GPT-2's shape writes with weights of 8 and 4 bits, beside itself with floats."""
    from benchmarks.compression import WRITTEN, Writing
    from models import GPT, GPTConfig
    from nn.compression.quantize import quantize
    from train.compression.measure import in_turns

    make = lambda: GPT(GPTConfig.preset("gpt2"))
    with blas_threads(1), tt.no_grad():
        models = {32: make(), 8: quantize(make(), 8, activations="none"), 4: quantize(make(), 4, activations="none")}
        models = {bits: model.for_inference() for bits, model in models.items()}
        for streams in (1, 8):
            work = Writing(np.random.default_rng(0).integers(0, 50257, (streams, 4)))
            taken = in_turns({bits: lambda m=m, work=work: work(m) for bits, m in models.items()}, rounds=3)
            each = {bits: 1e3 * float(np.median(times)) / (WRITTEN + 1) for bits, times in taken.items()}
            for bits, target in ((8, 1.0), (4, None)):
                work = f"GPT-2 124M, {bits} bits, writes {streams}, one core"
                yield Row(work, each[bits], each[32], "float32", target)


def start(args: argparse.Namespace) -> Iterator[Row]:
    """The CPU seconds of `train gpt --steps 1`: all that stands around the training itself."""
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "train", "gpt", "--steps", "1", "--out", str(Path(folder) / "run")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    took = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    yield Row("train gpt --steps 1, CPU time", took, 12.0, "the most it may take", 1.0, "s")


PARTS = {"training": training, "lstm": lstm, "decoding": decoding, "tokenizers": tokenizers, "integers": integers,
         "start": start}  # fmt: skip


def processor() -> str:
    """Its name, and whether it has AVX-512: clouds call several kinds by one name."""
    path = Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    found = re.search(r"model name\s*: (.*)", text)
    name = re.sub(r"\((R|TM)\)|CPU|Processor", "", found[1] if found else platform.processor() or "unknown").strip()
    return f"{name} with AVX-512" if " avx512f " in text else name


def versions() -> str:
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"no {name}")
    return f"Python {platform.python_version()}, {', '.join(found)}"


def written(path: Path) -> dict[str, str]:
    """part -> its section, of a file that an earlier run wrote."""
    text = path.read_text() if path.exists() else ""
    return {name: section.strip() for name, section in re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.M | re.S)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=PARTS, help="this part; may be given several times [all]")
    parser.add_argument("--rounds", type=int, default=10, help="turns of each [10]")
    parser.add_argument("--text", type=Path, help="what tokenizers read [a million characters of stories]")
    parser.add_argument("--ranks", type=Path, help="GPT-2's rank file, to race against tiktoken")
    args = parser.parse_args()
    parts = args.only or [*PARTS]
    if len(parts) > 1:
        read = [("--text", args.text), ("--ranks", args.ranks)]
        same = ["--rounds", str(args.rounds), *(str(word) for pair in read if pair[1] for word in pair)]
        for part in parts:
            subprocess.run([sys.executable, "-m", "benchmarks.all", "--only", part, *same], check=True)
        return
    backend.cpu.tune_malloc()
    load, rows = os.getloadavg()[0], []
    for row in PARTS[parts[0]](args):
        rows.append(row.cells())
        print(" | ".join(rows[-1]), flush=True)
    name = processor()
    path = RESULTS / f"all-{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.md"
    sections = written(path) | {parts[0]: f"Load before: {load:.1f}. {versions()}.\n\n{markdown([HEADER, *rows])}"}
    head = f"# This machine: {name}, {core_count()} cores\n\n    python -m benchmarks.all\n\n{ABOUT}"
    shown = [head, *(f"## {part}\n\n{sections[part]}" for part in PARTS if part in sections)]
    path.write_text("\n\n".join(shown) + "\n")


if __name__ == "__main__":
    main()
