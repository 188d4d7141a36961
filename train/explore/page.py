"""The page: the data of one model and one text beside its HTML, style and script, in one file without any address."""

import base64
import inspect
import json
from pathlib import Path

import numpy as np

from models.contract import Model
from models.families import family_of
from models.tokenizers import Tokenizer
from nn import LSTM, Module, Stream
from nn.compression.prune import choose
from nn.watch import probabilities, silenced
from tinytensor import no_grad
from tinytensor.draw import draw
from tinytensor.ops.attention import plain_probabilities
from tinytensor.ops.recurrent import plain_lstm_step
from train.explore import ahead, inside, pieces
from train.explore.reading import READINGS, Reading, name_of, pictured

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def place_of(what) -> str:
    """Where it is computed: file and line."""
    return f"{Path(inspect.getsourcefile(what)).relative_to(ROOT)}:{inspect.getsourcelines(what)[1]}"


def packed(array: np.ndarray, low: float = 0.0, high: float = 1.0) -> dict:
    """An array as base64 of 16-bit numbers between low and high: twice as dense as digits, and exact to 1/131070."""
    codes = np.rint((np.clip(array, low, high) - low) * (65535 / (high - low))).astype("<u2")
    return dict(shape=array.shape, low=float(low), high=float(high), codes=base64.b64encode(codes.tobytes()).decode())


def rounded(array: np.ndarray) -> list:
    """As numbers of JSON, with six digits behind the point."""
    return np.asarray(array, np.float64 if array.dtype.kind == "f" else np.int64).round(6).tolist()


def floats(array: np.ndarray) -> str:
    return base64.b64encode(np.asarray(array, "<f4").tobytes()).decode()


def collect(model: Model, tokenizer: Tokenizer, text: str, answer: str | None = None, most: int = 64,
            title: str = "", pixels: np.ndarray | None = None) -> dict:
    """All that the page shows, as JSON can hold it. What this model or family has not is None or empty."""
    family = family_of(model)
    if family.objective not in READINGS:
        raise ValueError(f"explore knows no way to read for a {family.name}, trained for {family.objective!r}")
    with no_grad():
        if pixels is None:
            reading = READINGS[family.objective](model, tokenizer, text, answer, most)
        else:
            reading = pictured(model, tokenizer, text, pixels, most)
        calls, streams = inside.look(model, reading, reading.look)
        streams = reading.layers() if reading.layers else {side: found[:, 0] for side, found in streams.items()}
        lens, nodes = _lens(model, reading, streams), _steps(model, tokenizer, reading)
        heads, graph = inside.heads(model, reading), inside.block_graph(model, reading.look)
    shown = {*reading.truth.tolist(), *(i for layer in lens or () for row in layer["top"] for i in row),
             *(i for node in nodes for i in (*node["ids"], *node["text"]))}
    return dict(
        title=title or type(model).__name__, family=family.name, text=text, points=reading.points, lens=lens,
        sides={side: pieces.tokens(tokenizer, reading.ids[side], names) for side, names in reading.sides.items()},
        names={i: name_of(tokenizer, i) for i in sorted(shown) if i >= 0}, truth=reading.truth.tolist(),
        attention=[call | dict(p=packed(call["p"])) for call in calls], heads=heads, graph=graph.svg(),
        lengths={side: rounded(np.linalg.norm(found, axis=-1)) for side, found in streams.items()},
        states=reading.layers and {side: packed(found, found.min(), found.max()) for side, found in streams.items()},
        ahead=dict(temperatures=ahead.TEMPERATURES.tolist(), nodes=nodes,
                   start=[name_of(tokenizer, i) for i in reading.start[0][0].tolist()]) if nodes else None,
        picture=None if pixels is None else dict(pixels=packed(pixels), along=model.config.side // model.config.patch),
        parameters=[[name, p.size, list(p.shape)] for name, p in model.named_parameters()],
        where=_places(reading, model),
    )  # fmt: skip


def _lens(model: Model, reading: Reading, streams: dict) -> list[dict] | None:
    """What each layer points to, at blotted places where the reading asks for that; None of a model that cannot say."""
    if reading.batch is None and reading.lens is None:
        return None
    side, stream = reading.points[0], streams[reading.points[0]]
    if reading.ask:
        stream = inside.look(model, reading, reading.ask)[1][side].diagonal(axis1=1, axis2=2).swapaxes(1, 2)
    return [{name: rounded(values) for name, values in layer.items()} for layer in inside.lens(model, reading, stream)]


def _steps(model: Model, tokenizer: Tokenizer, reading: Reading) -> list[dict]:
    if reading.start is None:
        return []
    nodes = ahead.continuations(reading.writer or model, *reading.start, tokenizer.end_id)
    return [node | dict(ids=node["ids"].tolist(), scores=floats(node["scores"]), rest=floats(node["rest"]))
            for node in nodes]  # fmt: skip


def _places(reading: Reading, model: Module) -> dict[str, str]:
    """The file and line that each view is computed by."""
    return dict(
        tokens=place_of(pieces.tokens), attention=f"{place_of(plain_probabilities)}, {place_of(probabilities)}",
        picture=f"{place_of(pictured)}, {place_of(probabilities)}",
        states=f"{place_of(plain_lstm_step)}, {place_of(LSTM)}", ahead=place_of(ahead.told),
        stream=f"{place_of(inside.lens)}, {place_of(type(model) if reading.layers else Stream)}",
        heads=f"{place_of(silenced)}, {place_of(choose)}", parameters=place_of(Module.named_parameters),
        graph=place_of(draw),
    )  # fmt: skip


def html(data: dict) -> str:
    """The whole file."""
    read = lambda name: (HERE / name).read_text(encoding="utf-8")
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return read("page.html").replace("/*style*/", read("page.css")).replace("/*script*/", read("page.js")).replace(
        "/*data*/", text)  # fmt: skip
