"""What training takes from the wall and puts into the air.

Strubell et al. 2019 (arXiv:1906.02243) reckon

    kWh = 1.58 x hours x watts / 1000        1.58: what a data centre draws per watt of computing (PUE, of 2018)
    pounds of CO2e = 0.954 x kWh             the United States' electricity of 2018
    cost = devices x hours x price           a cloud's lowest and highest price of a device for an hour

What they print stands here and is computed anew, row by row. The prices are those that give the printed costs.
For any other training the same is reckoned from its FLOPs: devices x what each achieves x hours must make 6 N D.
"""

import contextlib
import json
import math
from dataclasses import dataclass
from pathlib import Path

from models.files import read_text
from train import checkpoint
from train.report import GRAMS_PER_KWH
from train.tables import markdown

PUE, POUNDS, GRAMS_PER_POUND = 1.58, 0.954, 453.59237
PRICES = {"P100": (0.43, 1.46), "V100": (0.74, 2.48), "TPUv2": (1.35, 4.50), "TPUv3": (2.40, 8.00)}  # $ an hour
FLIGHT, CAR = "a passenger's flight New York - San Francisco", "a car with its fuel, its lifetime"
COMPARISONS = {FLIGHT: 1984, "a human life, a year": 11_023, "an American life, a year": 36_156, CAR: 126_000}  # pounds
# Grams of CO2e per kWh of electricity: countries of 2023 (codecarbon's table), the world's mean of 2018 (IEA).
GRIDS = {"world": GRAMS_PER_KWH, "usa": 369, "germany": 381, "france": 56, "norway": 30, "poland": 662, "india": 713,
         "china": 582, "uk": 238}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A line of their table. What is not printed is None: of TPUs the power is not known."""

    model: str
    device: str
    devices: int
    watts: float | None
    hours: float
    kwh: int | None
    pounds: int | None
    cost: tuple[int, int]

    def __str__(self) -> str:
        return f"{self.model} on {self.device} x {self.devices}"

    def units(self) -> list[tuple[int, float]]:
        """(printed figure, what one hour gives of it) for each figure of the row."""
        kwh, prices = PUE * (self.watts or 0) / 1000, PRICES[self.device]
        power = [(self.kwh, kwh), (self.pounds, POUNDS * kwh)] if self.watts else []
        return power + [(cost, self.devices * price) for cost, price in zip(self.cost, prices)]

    def hours_that_fit(self) -> tuple[float, float]:
        """From which hours to which all printed figures come out, rounded."""
        between = [((printed - 0.5) / unit, (printed + 0.5) / unit) for printed, unit in self.units()]
        return max(low for low, _ in between), min(high for _, high in between)

    def fits(self) -> bool:
        low, high = self.hours_that_fit()
        return low <= self.hours <= high


STRUBELL = (
    Row("Transformer base", "P100", 8, 1415.78, 12, 27, 26, (41, 140)),
    Row("Transformer big", "P100", 8, 1515.43, 84, 201, 192, (289, 981)),
    Row("ELMo", "P100", 3, 517.66, 336, 275, 262, (433, 1472)),
    Row("BERT base", "V100", 64, 12_041.51, 79, 1507, 1438, (3751, 12_571)),
    Row("BERT base", "TPUv2", 16, None, 96, None, None, (2074, 6912)),
    Row("NAS", "P100", 8, 1515.43, 274_120, 656_347, 626_155, (942_973, 3_201_722)),
    Row("NAS", "TPUv2", 1, None, 32_623, None, None, (44_055, 146_848)),
    Row("GPT-2", "TPUv3", 32, None, 168, None, None, (12_902, 43_008)),
)


def strubell() -> str:
    """Their table, printed -> computed, with a sentence on each row that does not fit, and what it is like."""
    lines, notes = [("hardware", "watts", "hours", "kWh", "pounds of CO2e", "lowest cost, $", "highest cost, $")], []
    for row in STRUBELL:
        both = [f"{printed:,} -> {row.hours * unit:,.1f}" for printed, unit in row.units()]
        lines.append((str(row), f"{row.watts or '-'}", f"{row.hours:,}", *(both if row.watts else ["-", "-", *both])))
        if not row.fits():
            hours = sum(row.hours_that_fit()) / 2
            notes.append(f"- {row}: the printed {row.hours:,} hours do not fit its printed figures; {hours:,.1f} do")
    largest = max((row for row in STRUBELL if row.watts), key=lambda row: row.watts * row.hours)
    pounds = POUNDS * PUE * largest.watts * largest.hours / 1000
    notes += ["- the others fit to rounding; of TPUs no power is known",
              *(f"- {largest.model} = {pounds / one:,.2f} x {what}" for what, one in COMPARISONS.items())]  # fmt: skip
    return "\n".join([markdown(lines), "", *notes])


def grams_per_kwh(grid: str) -> float:
    """Of a country's name, or a number as it is."""
    with contextlib.suppress(ValueError):
        if 0 <= (value := GRIDS[grid] if grid in GRIDS else float(grid)) < math.inf:
            return value
    raise ValueError(f"unknown --grid {grid}; give grams of CO2e per kWh, or one of {', '.join(GRIDS)}")


def of_run(run: Path, grams: float) -> str:
    """What a run of ours took, over all its trainings, as its meter wrote it down."""
    checkpoint.read_config(run)
    used = []
    for text in [text for path in sorted(run.glob("metrics*.jsonl")) for text in read_text(path).splitlines()]:
        with contextlib.suppress(ValueError):  # a line cut short by a kill
            used += [line for line in [json.loads(text)] if "joules" in line]
    if not used:
        raise ValueError(f"{run} says nothing of energy in metrics.jsonl: it was killed, or is older than the meter")
    kwh, times = sum(line["kwh"] for line in used), "once" if len(used) == 1 else f"{len(used)} times"
    methods = "; ".join(dict.fromkeys(line["energy_by"] for line in used))
    share = kwh * grams / GRAMS_PER_POUND / COMPARISONS[FLIGHT]
    air = f"{kwh * grams:.3g} g of CO2e at {grams:g} g per kWh, {share:.2g} of {FLIGHT}"
    return f"{run} trained {times}: {kwh:.3g} kWh ({methods})\n{air}"


@dataclass(frozen=True)
class Training:
    """A training that was not done here."""

    flops: float
    gpus: int
    tflops: float  # that each achieves, of its 6 N D
    watts: float  # of each, with its share of the machine around it
    pue: float
    grams: float  # of CO2e per kWh

    @property
    def days(self) -> float:
        return self.flops / (self.gpus * self.tflops * 1e12) / 86400

    @property
    def kwh(self) -> float:
        return self.pue * self.gpus * self.watts / 1000 * self.days * 24

    def __str__(self) -> str:
        grams = self.kwh * self.grams
        return (f"{self.flops:.3g} FLOPs on {self.gpus:,} GPUs at {self.tflops:g} TFLOP/s each: {self.days:,.1f} days\n"
                f"{self.kwh:,.0f} kWh ({self.watts:g} W a GPU, PUE {self.pue:g}), {grams / 1e6:,.1f} t of CO2e at "
                f"{self.grams:g} g per kWh: {grams / GRAMS_PER_POUND / COMPARISONS[CAR]:,.2f} x {CAR}")  # fmt: skip
