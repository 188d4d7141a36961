"""The meter: counters that wrap, what stands in for them, and what a run writes down."""

import json
import sys
import time
import types
from pathlib import Path

import pytest

from tests.train.test_compress import TEXT, TINY, command, trained  # noqa: F401
from tinytensor.processes import Processes, available
from train import report
from train.counters import Zone, find
from train.report import CORE, MEMORY, Meter

MODEL = "modelled, to a factor of 2"


def zone(powercap: Path, name: str, label: str, microjoules: int, full: int = 10_000_000) -> Path:
    folder = powercap / name
    folder.mkdir(parents=True)
    for file, value in (("name", label), ("energy_uj", microjoules), ("max_energy_range_uj", full)):
        (folder / file).write_text(f"{value}\n")
    return folder


def advance(folder: Path, microjoules: int) -> None:
    """As the hardware does: after its largest value comes 0."""
    file, full = folder / "energy_uj", int((folder / "max_energy_range_uj").read_text())
    file.write_text(str((int(file.read_text()) + microjoules) % (full + 1)))


def test_a_counter_that_begins_anew_goes_on_counting(tmp_path):
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 9_999_000)
    counter = Zone(folder)
    expected = 0
    for step in (500, 6_000_000, 7_000_000, 9_999_999, 1):
        advance(folder, step)
        expected += step
        assert counter.read() == pytest.approx(expected / 1e6, abs=1e-9)


def test_packages_and_memory_are_counted_once_and_nothing_that_holds_them(tmp_path):
    every = {"0": "package-0", "0:0": "core", "0:1": "dram", "1": "package-1", "2": "psys"}
    folders = {name: zone(tmp_path, f"intel-rapl:{name}", label, 0) for name, label in every.items()}
    counters = find("cpu", tmp_path)
    for folder in folders.values():
        advance(folder, 1_000_000)
    assert sum(counter.read() for counter in counters) == pytest.approx(3.0)  # two packages and one memory


def test_a_meter_reads_the_counters_it_may_read(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "POWERCAP", tmp_path)
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 5)
    meter = Meter()
    advance(folder, 2_500_000)
    used = meter.read()
    assert used["joules"] == pytest.approx(2.5) and used["energy_by"] == "RAPL, to 5%"
    assert "RAPL, to 5%" in report.energy_in_words(used)


@pytest.mark.parametrize("missing", ["all", "energy_uj", "package"])
def test_counters_that_may_not_be_read_leave_the_model(tmp_path, monkeypatch, missing):
    monkeypatch.setattr(report, "POWERCAP", tmp_path)
    if missing != "all":
        folder = zone(tmp_path, "intel-rapl:0:1" if missing == "package" else "intel-rapl:0", "dram", 5)
        if missing == "energy_uj":
            (folder / "energy_uj").unlink()  # root reads a file whatever its mode, so it is taken away here
    assert Meter().read()["energy_by"] == MODEL


def test_the_model_counts_busy_cores_and_memory(monkeypatch):
    monkeypatch.setattr(report, "POWERCAP", Path("/nowhere"))
    monkeypatch.setattr(report, "GIGABYTES", 16.0)
    meter, cpu, start = Meter(), time.process_time(), time.monotonic()
    while time.process_time() < cpu + 0.3:
        pass
    used, seconds = meter.read(), time.monotonic() - start
    assert used["joules"] == pytest.approx(CORE * 0.3 + MEMORY * 16 * seconds, rel=0.2)
    assert MODEL in report.energy_in_words(used)


def test_joules_become_kilowatt_hours_grams_and_water(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "POWERCAP", tmp_path)
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 0, full=10**13)
    meter = Meter()
    advance(folder, 3_600_000_000_000)
    used = meter.read()
    assert used == {"joules": 3.6e6, "kwh": 1.0, "co2e_grams": 475.0, "energy_by": "RAPL, to 5%"}
    words = report.energy_in_words(used)
    assert words.startswith("1 kWh (RAPL, to 5%)") and "475 g of CO2e" in words
    assert words.endswith("it boils 10,750.1 ml of water")  # 4186 J warm a kilogram by a degree, 80 degrees


def test_a_gpu_without_its_library_is_told_by_the_model(monkeypatch):
    def nothing(name):
        raise OSError(name)

    monkeypatch.setattr("ctypes.CDLL", nothing)
    monkeypatch.setattr(report, "POWERCAP", Path("/nowhere"))
    assert Meter("cuda").read()["energy_by"] == MODEL


class NVML(dict):
    """A driver whose one GPU has used 7000 millijoules, and 500 more each time it is asked."""

    def __init__(self):
        self.used, self.asked = 7000, None
        super().__init__(nvmlInit_v2=lambda: 0, nvmlDeviceGetHandleByPciBusId_v2=self.handle,
                         nvmlDeviceGetTotalEnergyConsumption=self.energy)  # fmt: skip

    def handle(self, address: bytes, handle) -> int:
        self.asked, handle._obj.value = address, 42
        return 0

    def energy(self, handle, value) -> int:
        assert handle.value == 42
        value._obj.value, self.used = self.used, self.used + 500
        return 0


def test_a_gpu_is_found_by_its_address_and_counted_beside_the_processor(monkeypatch):
    nvml = NVML()
    runtime = types.SimpleNamespace(getDevice=lambda: 3, deviceGetPCIBusId=lambda device: f"0000:0{device}:00.0")
    cupy = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr("ctypes.CDLL", lambda name: nvml)
    monkeypatch.setattr(report, "POWERCAP", Path("/nowhere"))
    monkeypatch.setattr(report, "CORE", 0.0)
    monkeypatch.setattr(report, "MEMORY", 0.0)
    used = Meter("cuda").read()
    assert nvml.asked == b"0000:03:00.0"
    assert used["joules"] == pytest.approx(0.5) and used["energy_by"] == f"NVML, to 5% and {MODEL}"


def test_a_run_writes_what_it_took_and_going_on_adds_a_line(tmp_path, capsys):
    (tmp_path / "text.txt").write_text(TEXT)
    run = tmp_path / "run"
    assert command("gpt", "--data", tmp_path / "text.txt", "--out", run, *TINY, "--steps", 10) == 0
    said = capsys.readouterr().out
    assert "energy: " in said and "g of CO2e at the world's 475 g per kWh" in said
    assert command("gpt", "--resume", run, "--steps", 20) == 0
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    used = [line for line in lines if "joules" in line]
    assert [line["step"] for line in used] == [10, 20]
    assert all(line["joules"] > 0 and line["kwh"] == pytest.approx(line["joules"] / 3.6e6, rel=1e-3) for line in used)
    capsys.readouterr()
    assert command("tour", "carbon", run, "--grid", "norway") == 0
    said, kwh = capsys.readouterr().out, sum(line["joules"] for line in used) / 3.6e6
    assert f"trained 2 times: {kwh:.3g} kWh" in said and f"{kwh * 30:.3g} g of CO2e at 30 g per kWh" in said


@pytest.mark.skipif(not available(), reason="processes need Linux")
def test_work_of_worker_processes_is_counted(monkeypatch):
    monkeypatch.setattr(report, "GIGABYTES", 0.0)
    monkeypatch.setattr(report, "POWERCAP", Path("/nowhere"))

    def work(comm) -> None:
        end = time.process_time() + 0.2 * (1 + comm.rank)
        while time.process_time() < end:
            pass

    meter = Meter()
    Processes(2).run(work)
    assert meter.read()["joules"] == pytest.approx(CORE * 0.6, rel=0.2)


def test_comparisons_name_the_joules_of_a_thousand_tokens(trained, tmp_path):  # noqa: F811
    assert command("quantize", trained, "--out", tmp_path / "small", "--limit", 2) == 0
    text = (tmp_path / "small" / "comparison.md").read_text()
    header, _, *lines = [line for line in text.splitlines() if line.startswith("|")]
    column = next(place for place, cell in enumerate(header.split("|")) if "J/1000 tokens (" in cell)
    assert " to " in header
    assert all(float(line.split("|")[column]) > 0 for line in lines)
