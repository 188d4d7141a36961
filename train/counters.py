"""Machines that count the energy they use.

RAPL: an Intel or AMD processor's own counters, as files of Linux (root's alone since 2020; `chmod a+r` opens them). A
package holds its cores; dram is counted apart; psys holds all of that again, so it is left out. They count whatever
the machine does, not this run alone, but nothing behind the processor: fans, discs, the power supply.
NVML: a GPU's driver, which counts millijoules from Volta on. Its library comes with the driver, so ctypes is enough.
"""

import contextlib
import ctypes
from pathlib import Path

RAPL = "RAPL, to 5%"


class Zone:
    """One of RAPL's counters, in microjoules. When it is full it begins at 0 again."""

    method = RAPL

    def __init__(self, folder: Path):
        self.file, self.full = folder / "energy_uj", int((folder / "max_energy_range_uj").read_text())
        self.last, self.total = int(self.file.read_text()), 0

    def read(self) -> float:
        """Joules since it was made."""
        now = int(self.file.read_text())
        self.total += now - self.last + (self.full + 1 if now < self.last else 0)
        self.last = now
        return self.total / 1e6


class GPU:
    """The counter of the GPU that CuPy computes on."""

    method = "NVML, to 5%"

    def __init__(self):
        self.nvml, self.handle = ctypes.CDLL("libnvidia-ml.so.1"), ctypes.c_void_p()
        import cupy

        address = cupy.cuda.runtime.deviceGetPCIBusId(cupy.cuda.runtime.getDevice())  # NVML numbers GPUs otherwise
        self._ask("nvmlInit_v2")
        self._ask("nvmlDeviceGetHandleByPciBusId_v2", address.encode(), ctypes.byref(self.handle))
        self.first = 0.0
        self.first = self.read()

    def read(self) -> float:
        """Joules since it was made."""
        value = ctypes.c_ulonglong()
        self._ask("nvmlDeviceGetTotalEnergyConsumption", self.handle, ctypes.byref(value))
        return value.value / 1e3 - self.first

    def _ask(self, name: str, *arguments) -> None:
        if status := self.nvml[name](*arguments):
            raise OSError(f"{name} answers {status}")


def find(device: str, powercap: Path) -> list:
    """The counters that may be read, of the processor those in a folder of Linux."""
    found = {}
    for folder in sorted(powercap.glob("*-rapl:*")):
        with contextlib.suppress(OSError):  # not for us to read
            name = (folder / "name").read_text().strip()
            if name.startswith("package") or name == "dram":
                found[folder.name] = Zone(folder), name
    counters = [zone for zone, _ in found.values()] if any(name != "dram" for _, name in found.values()) else []
    if device == "cuda":
        with contextlib.suppress(OSError, AttributeError):  # no such library, or a GPU older than Volta
            counters.append(GPU())
    return counters
