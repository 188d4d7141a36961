"""What benchmarks/gpu.py says of its measurements: each ratio beside its target. The measurements take a GPU."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import gpu
from models import GPTConfig
from tinytensor.backend.gpu.graph import Recorded

MODULE = SimpleNamespace(cuda=SimpleNamespace(empty_cache=lambda: None),
                         get_default_memory_pool=lambda: SimpleNamespace(free_all_blocks=lambda: None))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split("|")]


def test_attention_is_at_the_speed_of_pytorchs_flash_attention(monkeypatch):
    monkeypatch.setattr(gpu, "attention_error", lambda *modules: [])
    monkeypatch.setattr(gpu, "attention_times", lambda *_: ([1.0, 1.1, 0.8], [2.0, 1.0, None]))
    lines = gpu.attention(MODULE, MODULE)
    table = [cells(line) for line in lines if line.startswith("| 64") or line.startswith("| 128")]
    assert len(table) == 2 * 2 * len(gpu.LENGTHS)
    assert {(row[4], row[6]) for row in table} == {("1.10 (met: at least 1.00)", "0.50 (not met: at least 1.00)")}
    # 4 B H T^2 D = 4 * 16384 * 2048 * 1024 flops in a millisecond are 137 TFLOP/s; causal is half of them.
    row = cells(next(line for line in lines if line.startswith("| 64 | 1024 | no")))
    assert (row[3], row[5]) == ("137, 125, 172", "172, 344, -")


def test_a_step_is_at_pytorchs_speed_in_no_more_memory(monkeypatch):
    monkeypatch.setattr(gpu, "peer_step", lambda *_: (100.0, 10 << 30))
    monkeypatch.setattr(gpu, "our_step", lambda *given: (80.0, 9 << 30) if given[-1] else (150.0, 11 << 30))
    lines = gpu.step(MODULE, MODULE)
    rows = {cells(line)[0]: cells(line) for line in lines if line.startswith("|")}
    assert rows["PyTorch eager"] == ["PyTorch eager", "100.00", "163,840", "", "10.0 GiB"]
    plain = ["here", "150.00", "109,227", "0.67 (not met: at least 1.00)", "11.0 GiB", "1.10 (not met: at most 1.00)"]
    assert rows["here"] == plain
    assert rows["here, --graph"][3:] == ["1.25 (met: at least 1.00)", "9.0 GiB", "0.90 (met: at most 1.00)"]
    assert "At the faster of our two, 5000 steps take 6.7 minutes." in lines


def test_the_cache_is_flushed_before_each_measurement_and_not_measured():
    said, clock = [], iter(range(1000))

    class Event:
        def record(self):
            self.at = next(clock)
            said.append("event")

        def synchronize(self):
            pass

    class Buffer:
        def __setitem__(self, place, value):
            said.append("flush")

    cuda = SimpleNamespace(Event=Event, get_elapsed_time=lambda start, end: end.at - start.at)
    cupy = SimpleNamespace(__name__="cupy", cuda=cuda, zeros=lambda size, dtype: Buffer(), uint8=None)
    assert gpu.milliseconds(lambda: said.append("work"), cupy, 2) == 1
    assert said == ["work"] * 3 + ["flush", "event", "work", "event"] * 2


def test_bytes_are_counted_as_they_are_made_and_freed():
    cupy = pytest.importorskip("cupy")
    hook = gpu.allocations(cupy)
    for what, size in (("malloc", 512), ("malloc", 1024), ("free", 512), ("malloc", 256)):
        where = dict(device_id=0, mem_size=size, mem_ptr=1, pmem_id=1)
        if what == "malloc":
            hook.malloc_postprocess(size=size - 1, **where)
        else:
            hook.free_postprocess(**where)
    assert (hook.now, hook.peak) == (1280, 1536) and isinstance(hook, cupy.cuda.memory_hook.MemoryHook)


def test_every_tile_that_is_tried_is_a_kernels(cuda, monkeypatch):
    """Their numbers are the same, whatever the tiles; here on one head of 40 positions."""
    pytest.importorskip("ml_dtypes")
    draw = lambda shape, dtype: cuda.asarray(np.ones((1, 1, 40, 128), np.float32))
    cuda.random = SimpleNamespace(standard_normal=draw)
    ran = []
    monkeypatch.setattr(gpu, "milliseconds", lambda work, cupy: ran.append(work()[0]) or 1.0)
    assert len(gpu.tiles(cuda, None)) == 7
    assert all((y == 1).all() for y in ran) and len(ran) == 3


@pytest.fixture
def small(cuda, monkeypatch):
    """CuPy's stand-in with what the benchmark takes besides, and sizes for the emulator; a measurement runs once."""
    pytest.importorskip("ml_dtypes")
    draw = np.random.default_rng(0)
    cuda.random = SimpleNamespace(
        standard_normal=lambda shape, dtype: cuda.asarray(draw.standard_normal(shape).astype(dtype)),
        randint=lambda low, high, size: cuda.asarray(draw.integers(low, high, size)))
    cuda.cuda.Device = lambda: SimpleNamespace(synchronize=lambda: None)
    cuda.cuda.runtime.getDeviceProperties = lambda number: {"name": b"stand-in"}
    monkeypatch.setattr(gpu, "milliseconds", lambda work, module, runs=1: work() is None or 1.0)
    monkeypatch.setattr(gpu, "copy_bandwidth", lambda cupy: 1.0)
    for name, size in dict(ROWS=40, ROW=16, CLASSES=70, TOKENS_WRITTEN=3).items():
        monkeypatch.setattr(gpu, name, size)
    return cuda


def test_the_parts_without_pytorch_start_and_print(small, monkeypatch):
    names = [cells(line)[0] for line in gpu.rows(small, None) if line.startswith("|")][2:]
    assert len(names) == 8 + 5 + 3 and "embedding's gradient, 15% one id" in names
    assert len(gpu.host(small, None)) == 4 + 4
    tiny = GPTConfig(vocab_size=11, context=16, layers=1, heads=1, width=8)
    monkeypatch.setattr(gpu.GPTConfig, "preset", lambda name: tiny)
    monkeypatch.setattr(gpu, "peer_decode", lambda torch: lambda: None)
    assert [cells(line)[0] for line in gpu.decode(small, None)[4:]] == ["transformers", "here", "here, --graph"]


def test_each_part_is_told_and_written_as_soon_as_it_is_measured(small, monkeypatch, tmp_path, capsys):
    torch = SimpleNamespace(__version__="2", manual_seed=lambda seed: None,
                            cuda=SimpleNamespace(is_available=lambda: True, empty_cache=lambda: None))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(gpu, "HERE", tmp_path)
    (tmp_path / "results").mkdir()

    def fails(cupy, torch):
        raise RuntimeError("no such GPU")

    monkeypatch.setattr(gpu, "PARTS", {"step": lambda cupy, torch: ["## A step"], "decode": fails})
    with pytest.raises(RuntimeError):
        gpu.main(["step", "decode", "--write"])
    said = "# The GPU kernels and PyTorch 2 on one stand-in\n\n`python -m benchmarks.gpu step decode`\n\n## A step\n"
    assert capsys.readouterr().out == (tmp_path / "results" / "gpu.md").read_text() == said
    with pytest.raises(SystemExit, match="unknown part steps; choose from step, decode"):
        gpu.main(["steps"])


def test_steps_of_both_kinds_run_with_dropout(cuda):
    pytest.importorskip("ml_dtypes")
    config = GPTConfig(vocab_size=11, context=8, layers=1, heads=1, width=8, dropout=0.2)
    ids = np.random.default_rng(0).integers(0, 11, (2, 9))
    for recorder in (None, Recorded):
        work, recorded = gpu.our_work(config, ids, recorder)
        for _ in range(4):
            work()
        assert recorded is None or (recorded.graph is not None and len(recorded.seeds) == 4)
