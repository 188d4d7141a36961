"""What benchmarks/gpu.py says of its measurements: each ratio beside its target. The measurements take a GPU."""

from types import SimpleNamespace

from benchmarks import gpu

MODULE = SimpleNamespace(cuda=SimpleNamespace(empty_cache=lambda: None),
                         get_default_memory_pool=lambda: SimpleNamespace(free_all_blocks=lambda: None))


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| ").split("|")]


def test_attention_is_at_least_8_tenths_forward_and_6_tenths_backward_of_pytorchs_speed(monkeypatch):
    monkeypatch.setattr(gpu, "attention_error", lambda *modules: [])
    monkeypatch.setattr(gpu, "attention_times", lambda *_: (1.0, 2.0, 0.9, 1.0))
    lines = gpu.attention(MODULE, MODULE)
    table = [cells(line) for line in lines if line.startswith("| 64") or line.startswith("| 128")]
    assert len(table) == 2 * 2 * len(gpu.LENGTHS)
    assert {(row[4], row[6]) for row in table} == {("0.90 (met: at least 0.80)", "0.50 (not met: at least 0.60)")}
    # 4 B H T^2 D = 4 * 16384 * 2048 * 1024 flops in a millisecond are 137 TFLOP/s; causal is half of them.
    assert cells(next(line for line in lines if line.startswith("| 64 | 1024 | no")))[3] == "137, 153"


def test_a_step_is_at_least_8_tenths_of_pytorchs_speed_in_no_more_memory(monkeypatch):
    monkeypatch.setattr(gpu, "peer_step", lambda *_: (100.0, 10 << 30))
    monkeypatch.setattr(gpu, "our_step", lambda *given: (80.0, 9 << 30) if given[-1] else (150.0, 11 << 30))
    lines = gpu.step(MODULE, MODULE)
    rows = {cells(line)[0]: cells(line) for line in lines if line.startswith("|")}
    assert rows["PyTorch eager"] == ["PyTorch eager", "100.00", "163,840", "", "10.0 GiB"]
    plain = ["here", "150.00", "109,227", "0.67 (not met: at least 0.80)", "11.0 GiB", "1.10 (not met: at most 1.00)"]
    assert rows["here"] == plain
    assert rows["here, --graph"][3:] == ["1.25 (met: at least 0.80)", "9.0 GiB", "0.90 (met: at most 1.00)"]
    assert "At the faster of our two, 5000 steps take 6.7 minutes." in lines
