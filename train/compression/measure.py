"""Models side by side: how good each is, how many weights it has, how many bytes its file takes, and how fast it is.

Without the last three a smaller model is a claim. Times are taken in turns: in each round every model computes the same
batch once, in an order drawn anew, so that what else the machine does happens to all of them alike. How many times as
fast a model is as the first is the median of the ratios of their times, round by round; where the middle 80% of those
ratios have 1 among them, the two are the same.
"""

import csv
import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import safetensors.numpy

import tinytensor as tt
from models.contract import Model
from models.files import write_text
from nn.compression import is_quantized, storage
from nn.compression.quantize import Quantized
from tinytensor.distributed import blas_threads
from train import checkpoint
from train.compression.compare import ACCURACY, Source, in_unit
from train.plots import draw_curves
from train.report import HINT, Meter, bar
from train.tables import Markdown, markdown

SECONDS, ROUNDS = 1.0, 7  # how long each model computes in all, about, and the fewest rounds
MIDDLE = (10, 50, 90)  # percentiles: the ends of the middle 80%, and the median
MASKS = ("Masked weights are multiplied as the zeros they are: a product with zeros takes as long as any other, and "
         "one that skips them has to look up where the others stand. What is really removed (heads, neurons, rows, "
         "layers) is faster.")  # fmt: skip
INTEGERS = ("Integers become floats before a product, as NumPy multiplies nothing else fast on a CPU: that takes as "
            "long as reading floats from memory, so they save bytes, not time.")  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """One line of the comparison."""

    name: str
    score: float  # in the source's unit
    loss: float
    accuracy: float  # NaN of a model whose answers are numbers
    parameters: int
    bytes: int
    seconds: np.ndarray  # (rounds,): what one batch took in each
    tokens: int  # in the batch
    joules: float  # per 1,000 tokens
    energy_by: str
    masked: bool = False  # whether it has weights that are masked, or are integers
    integers: bool = False


def measure(source: Source, models: dict[str, Model], limit: int | None = None) -> list[Measured]:
    """How good (on `limit` batches of the held-out part, or all of it), large and fast models are."""
    objective = source.make_objective(replace(source.config, batch=8))
    batch = objective.evaluation_batch(source.val_data, objective.evaluation_batches(source.val_data, 1)[0])
    for model in models.values():
        model.eval()
    meter, clock = Meter(source.device), clock_for(source.device)
    start, times = clock(), time_losses(models, batch, clock)
    used, whole, tokens = meter.read(), max(1e-9, clock() - start), math.prod(batch["ids"].shape[:2])
    lines = []
    for name, model in models.items():
        right = math.nan if model.answers_are_numbers else source.accuracy(model, limit)
        loss = source.loss(model, limit)
        score = in_unit(source.unit, right if source.unit == ACCURACY else loss)
        share = float(np.median(times[name])) / whole  # one batch's of all that was timed
        energy = 1000 * used["joules"] * share / tokens, used["energy_by"]
        size = len(safetensors.numpy.save(storage.state(model)))
        made = any(p.mask is not None for p in model.parameters()), is_quantized(model)
        lines.append(Measured(name, score, loss, right, weight_count(model), size, times[name], tokens, *energy, *made))
    return lines


def time_losses(models: dict[str, Model], batch: dict, clock: Callable[[], float]) -> dict[str, np.ndarray]:
    """Name -> (rounds,) seconds of the model's loss of a batch, without gradients, on one core."""
    with tt.no_grad(), blas_threads(1):
        return in_turns({name: lambda m=model: m.loss(batch).item() for name, model in models.items()}, clock)


def in_turns(works: dict[str, Callable], clock: Callable[[], float] = time.process_time, seconds: float = SECONDS,
             rounds: int = ROUNDS) -> dict[str, np.ndarray]:  # fmt: skip
    """Name -> (rounds,) times of each work, for about so many seconds each; a first round is not counted."""
    begin = time.perf_counter()
    for work in works.values():
        work()
    first = max(1e-3, time.perf_counter() - begin)
    rounds, taken = max(rounds, math.ceil(seconds * len(works) / first)), {name: [] for name in works}
    with tt.random.seeded(0) as draw:
        for _ in bar(range(rounds), "timing in turns"):
            for name in draw.permutation(list(works)):
                start = clock()
                works[name]()
                taken[name].append(clock() - start)
    return {name: np.array(times) for name, times in taken.items()}


def clock_for(device: str) -> Callable[[], float]:
    """On one core the CPU's time, which other work disturbs little; on a GPU any, as it ends when a loss is known."""
    return time.perf_counter if device == "cuda" else time.process_time


def times_as_fast(first: np.ndarray, other: np.ndarray) -> str:
    """How many times as fast the other one is, round by round; "same" where the middle of that has 1 in it."""
    low, middle, high = np.percentile(first / other, MIDDLE)
    return "same" if low <= 1 <= high else f"{middle:.2f}x"


def half_spread(times: np.ndarray) -> float:
    """Half the width of the middle 80%."""
    low, _, high = np.percentile(times, MIDDLE)
    return float(high - low) / 2


def weight_count(model: Model) -> int:
    """How many weights there are that are not masked, however few bits they have."""
    integers = {id(m.codes): len(m.codes) * m.columns for m in model.modules() if isinstance(m, Quantized)}
    floats = [p for p in model.parameters() if p.requires_grad]  # codes, scales and the like do not learn
    return sum(integers.values()) + sum(p.size if p.mask is None else int(p.mask.sum()) for p in floats)


def table(lines: list[Measured]) -> Markdown:
    """The comparison as a Markdown table; shares and ratios are of the first line."""
    first = lines[0]
    rows = [("model", "loss", "accuracy", "parameters", "bytes", "share", "ms", "tokens/s", "faster",
             f"J/1000 tokens ({first.energy_by})")]  # fmt: skip
    for m in lines:
        right, middle = "-" if math.isnan(m.accuracy) else f"{m.accuracy:.2%}", float(np.median(m.seconds))
        sizes = f"{m.parameters:,}", f"{m.bytes:,}", f"{m.bytes / first.bytes:.3f}"
        ms = f"{1e3 * middle:.1f} ± {1e3 * half_spread(m.seconds):.1f}"
        speeds = ms, f"{m.tokens / middle:,.0f}", "" if m is first else times_as_fast(first.seconds, m.seconds)
        rows.append((m.name, f"{m.loss:.4f}", right, *sizes, *speeds, f"{m.joules:.3g}"))
    return markdown(rows)


def remarks(lines: list[Measured]) -> str:
    """What the columns say, and why fewer weights or bytes need not be faster."""
    said = [f"ms: a batch of {lines[0].tokens:,} tokens, median of {len(lines[0].seconds)} rounds in which all took "
            "turns, ± half the width of their middle 80%. same: the middle 80% of the ratios, round by round, have 1 "
            "among them."]  # fmt: skip
    said += [MASKS] if any(m.masked for m in lines) else []
    said += [INTEGERS] if any(m.integers for m in lines) else []
    return "\n\n".join(said)


def conclude(folder: checkpoint.Folder, lines: list[Measured], curves: dict, axis: str, unit: str, title: str) -> None:
    """Print the comparison, keep it in comparison.md; draw curves into comparison.png, and write them as numbers."""
    print(text := f"{table(lines)}\n\n{remarks(lines)}")
    write_text(folder.path / "comparison.md", text + "\n")
    write_text(folder.path / "comparison.csv", as_csv(curves, axis, unit))
    drawn = draw_curves(folder.path / "comparison.png", curves, axis, unit, title)
    picture = "the picture is comparison.png, its numbers are in comparison.csv" if drawn else HINT
    print(f"the run is in {folder.goal}; {picture}")


def as_csv(curves: dict[str, list[tuple]], x: str, y: str) -> str:
    """A line per point: its curve, x, y and, where there is one, its error."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(("curve", x, y, "standard error"))
    lines.writerows((name, *point, *[""] * (3 - len(point))) for name, points in curves.items() for point in points)
    return text.getvalue()
