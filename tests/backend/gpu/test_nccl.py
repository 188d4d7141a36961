"""Ranks with a GPU each, as far as can be tested without one: CuPy, NCCL and kernels are stand-ins (on_gpus.py)."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backend.gpu import emulator
from train.__main__ import main
from train.launch import OPEN_MPI

ROOT = Path(__file__).parent.parent.parent.parent
MPIEXEC = Path(sys.executable).parent / "mpiexec"
missing = not MPIEXEC.exists() or any(importlib.util.find_spec(name) is None for name in ("mpi4py", "ml_dtypes"))
pytestmark = pytest.mark.skipif(missing or not emulator.available(), reason="MPI, ml_dtypes or g++ is missing")


def on_gpus(size: int, *words) -> subprocess.CompletedProcess:
    program = [MPIEXEC, "-n", size, sys.executable, "-m", "mpi4py", "-m", "tests.backend.gpu.on_gpus", *words]
    how = dict(cwd=ROOT, env=OPEN_MPI | os.environ, capture_output=True, text=True, timeout=300)
    return subprocess.run([str(word) for word in program], **how)


@pytest.mark.parametrize("size", [2, 3])
def test_nccl_gives_every_collective_in_every_type_its_numbers(size):
    done = on_gpus(size, "collectives")
    assert done.returncode == 0, done.stdout + done.stderr


def losses(run: Path) -> list[float]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line[name] for line in lines for name in ("loss", "val_loss") if name in line]


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--graph"], ["--dtype", "bfloat16"]])
def test_a_run_over_nccl_has_the_losses_of_one_gpu(cuda, tmp_path, more):
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 60)
    words = f"gpt --data {tmp_path}/text.txt --layers 1 --heads 2 --width 16 --context 8 --batch 4 --steps 4".split()
    words += ["--eval-every", "4", "--log-every", "1", "--eval-batches", "1", "--device", "cuda", *more]
    assert main([*words, "--out", f"{tmp_path}/one"]) == 0
    done = on_gpus(2, *words, "--out", tmp_path / "two")
    assert done.returncode == 0 and "; 2 GPUs; in" in done.stdout, done.stdout + done.stderr
    assert len(losses(tmp_path / "one")) == 5
    close = 3e-3 if "bfloat16" in more else 1e-5
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=close)
