"""What benchmarks/gpu.py says of its measurements: each ratio beside its target. The measurements take a GPU."""

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


def test_steps_of_both_kinds_run_with_dropout(cuda):
    pytest.importorskip("ml_dtypes")
    config = GPTConfig(vocab_size=11, context=8, layers=1, heads=1, width=8, dropout=0.2)
    ids = np.random.default_rng(0).integers(0, 11, (2, 9))
    for recorder in (None, Recorded):
        work, recorded = gpu.our_work(config, ids, recorder)
        for _ in range(4):
            work()
        assert recorded is None or (recorded.graph is not None and len(recorded.seeds) == 4)
