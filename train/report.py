"""What a run tells: a progress bar in the terminal, lines in metrics.jsonl, a picture of the losses, its energy.

Where the machine counts energy its counters are read (train/counters.py). Most clouds hide them; there it is a model:
5 W for a busy core (a server processor's TDP by its cores is 3.7 to 7), and 3 W for 8 GB of the machine's memory.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tqdm.auto import tqdm

from models.files import naming, parse_json, read_text, replace_file, write_text
from models.schema import Range, Size, checked
from train import counters
from train.program import QUIET, reader_gone

HINT = "for pictures: pip install matplotlib"
CORE, MEMORY = 5.0, 3 / 8  # watts of a core, of a GB
GIGABYTES = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9 if os.name == "posix" else 8.0
GRAMS_PER_KWH = 475.0  # of CO2e, the world's mean (IEA, of 2018)
POWERCAP = Path("/sys/class/powercap")


@dataclass
class Line:
    """What is drawn of a line of metrics.jsonl."""

    step: Size
    loss: Annotated[float, Range(high=math.inf)] | None = None
    val_loss: Annotated[float, Range(high=math.inf)] | None = None
    sample: str | None = None


def bar(items: Iterable | None = None, what: str = "", hidden: bool = False, **how) -> tqdm:
    """A progress bar over items, or to a `total`, in a terminal or a notebook: after a second, until it is done."""
    hidden = hidden or os.environ.get(QUIET) or not (sys.stderr.isatty() or "ipykernel" in sys.modules)
    return tqdm(items, what, disable=bool(hidden), **(dict(delay=1, leave=False, dynamic_ncols=True) | how))


class Report:
    """Watches a run for the people who started it.

    axis: what the losses in the picture are; a pretraining's may be a sum of several means, so no "per" is said.
    floor: the entropy of the held-out part in nats per token, where it is known; drawn in the picture.
    `sample`, if set, lets the model write at each evaluation; samples.txt has it, `samples` as (step, text).
    """

    axis = "loss (nats)"

    def __init__(self, run: Path, steps: int, floor: float | None = None, metrics: str = "metrics.jsonl"):
        self.path, self.steps, self.floor = run / metrics, steps, floor
        self.bar: tqdm | None = None
        self.shown: dict[str, str] = {}
        self.file, self.val_loss, self.sample, self.samples = None, math.nan, None, []
        self.through = lambda file: file  # what metrics.jsonl is written through; see train/watching.py

    def start(self, step: int, device: str = "cpu") -> None:
        """Begin at `step`. Lines that a run which was killed had written beyond its checkpoint are taken back."""
        self.meter = Meter(device)
        kept = [(line, said) for line, said in self.lines() if said.step <= step]
        self.val_loss = next((said.val_loss for _, said in kept[::-1] if said.val_loss is not None), math.nan)
        self.samples = [(said.step, said.sample) for _, said in kept if said.sample is not None]
        write_text(self.path, "".join(line + "\n" for line, _ in kept))
        self.file = self.through(open(self.path, "a", encoding="utf-8"))  # noqa: SIM115  closed in close()
        shown = "{percentage:3.0f}%|{bar}| {n}/{total} steps [{elapsed}<{remaining}]{postfix}"
        self.bar = bar(total=self.steps, initial=step, bar_format=shown, leave=True, delay=0)

    def advanced(self, step: int, loss: float) -> None:
        self.bar.update(step - self.bar.n)

    def logged(self, step: int, loss: float, lr: float, norm: float, tokens_per_s: float, peak_bytes: int | None):
        """peak_bytes: the most memory the GPU has given to the run, if it runs on one."""
        self.meter.read()
        memory = {} if peak_bytes is None else {"peak_bytes": peak_bytes}
        self.write(step=step, loss=loss, lr=lr, grad_norm=norm, tokens_per_s=round(tokens_per_s, 1), **memory)
        self._show(loss=f"{loss:.3f}", tokens=f"{tokens_per_s:,.0f}/s")

    def evaluated(self, step: int, val_loss: float) -> None:
        self.val_loss = val_loss
        self.write(step=step, val_loss=val_loss)
        self._show(val=f"{val_loss:.3f}")
        if self.bar.disable:  # not a terminal: a line now and then instead of a bar
            self._say("  ".join([f"step {step}/{self.steps}", *(f"{k} {v}" for k, v in self.shown.items())]))
        if self.sample:  # not where each worker has but a part of the model
            self.samples.append((step, text := self.sample()))
            self.write(step=step, sample=text)
            if self.path.parent.exists():  # else the run was removed, which its next checkpoint says
                write_text(self.path.with_name("samples.txt"), self.all_samples())
            self._say(f"at step {step} it writes: {' '.join(text.split())}")

    def all_samples(self, *last: str) -> str:
        """What samples.txt holds: what was written at each evaluation, and then other texts."""
        texts = [*(f"after {step} steps:\n\n{text}" for step, text in self.samples), *last]
        return f"\n\n{'-' * 30}\n\n".join(texts) + "\n"

    def close(self) -> None:
        if self.file:
            self.bar.close()
            self.file.close()
            self.file = None

    def write(self, **values) -> None:
        with naming(self.path):
            self.file.write(json.dumps(values) + "\n")
            self.file.flush()

    def _say(self, line: str) -> None:
        try:
            if not os.environ.get(QUIET):
                self.bar.write(line)  # above the bar
            sys.stdout.flush()
        except OSError:
            reader_gone()  # which ends the run as Ctrl-C does

    def _show(self, **values: str) -> None:
        self.shown |= values
        self.bar.set_postfix_str("  ".join(f"{k} {v}" for k, v in self.shown.items()), refresh=False)

    def lines(self) -> list[tuple[str, Line]]:
        """(the line, what it says) of all in metrics.jsonl, but for a last one that a kill has cut short."""
        lines, found = read_text(self.path).splitlines() if self.path.exists() else [], []
        for number, line in enumerate(lines, 1):
            where = f"{self.path}, line {number}"
            try:
                found.append((line, checked(Line, parse_json(line, where), where, others=True)))
            except ValueError:
                if number < len(lines):
                    raise
        return found

    def draw(self, path: Path) -> bool:
        """Draw both losses over the steps into a PNG; False if matplotlib is not installed."""
        lines = [vars(said) for _, said in self.lines()]
        held_out = dict(color="#08519c", linewidth=2, marker="o", markersize=3, label="held out")
        training = dict(color="#9ecae1", linewidth=1, label="training")

        def curves(axes) -> None:
            for name, style in (("loss", training), ("val_loss", held_out)):
                if points := [(line["step"], line[name]) for line in lines if line[name] is not None]:
                    axes.plot(*zip(*points), **style)
            if self.floor is not None:
                axes.axhline(self.floor, color="#d94801", linestyle="--", linewidth=1.5, label="entropy of the text")

        return picture(path, curves, "step", self.axis, f"{path.parent.name}: training and held-out loss")


class Meter:
    """Counts from the moment it is made."""

    def __init__(self, device: str = "cpu"):
        self.counters = counters.find(device, POWERCAP) if device == "cuda" or POWERCAP.exists() else []
        self.began = self._spent()

    def read(self) -> dict:
        """What was used so far, as metrics.jsonl has it. To be asked often, as counters that are full begin anew."""
        joules, methods = sum(one.read() for one in self.counters), {one.method for one in self.counters}
        if counters.RAPL not in methods:
            joules, methods = joules + self._spent() - self.began, methods | {"modelled, to a factor of 2"}
        kwh, by = joules / 3.6e6, " and ".join(sorted(methods))
        return dict(joules=joules, kwh=kwh, co2e_grams=kwh * GRAMS_PER_KWH, energy_by=by)

    def _spent(self) -> float:  # by cores that worked for this process and its ended workers, and by the memory
        return CORE * sum(os.times()[:4]) + MEMORY * GIGABYTES * time.monotonic()


def energy_in_words(used: dict) -> str:
    """What a meter read, for people."""
    air = f"{used['co2e_grams']:.3g} g of CO2e at the world's {GRAMS_PER_KWH:g} g per kWh"
    litres = used["joules"] / (4186 * 80)  # from 20 degrees to the boil
    return f"{used['kwh']:.3g} kWh ({used['energy_by']}), {air}; it boils {1000 * litres:,.1f} ml of water"


def picture(path: Path, draw: Callable, x: str, y: str, title: str, size: tuple[float, float] = (8, 4.5)) -> bool:
    """A PNG of what draw(axes) draws, so many inches wide and high; False if matplotlib is not installed (see HINT)."""
    try:
        from matplotlib.figure import Figure  # here, as it takes a second to load
    except ImportError:
        return False
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    draw(axes)
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title.encode("utf-8", "replace").decode(), parse_math=False)  # a folder's name may be anything
    if axes.lines:
        axes.grid(alpha=0.3)
        axes.legend()
    replace_file(path, lambda beside: figure.savefig(beside, format="png", dpi=120))
    return True


def describe_loss(nats: float, tokens: int, bytes: int) -> str:
    """A mean loss in the three units people use; `bytes` is the length of the text those tokens stand for."""
    bits = nats * tokens / bytes / math.log(2)
    return f"{nats:.4f} nats per token, perplexity {perplexity(nats):.2f}, {bits:.3f} bits per byte"


def perplexity(nats: float) -> float:
    """e^nats: among how many equally probable tokens a model with this mean loss might as well guess."""
    return math.exp(nats) if nats < 700 else math.inf
