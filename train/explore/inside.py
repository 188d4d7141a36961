"""A model is watched while it reads: who looks at whom, what the stream says behind each layer, what a head is for."""

import itertools
from collections import Counter

import numpy as np

import tinytensor as tt
from models.contract import Model
from models.generate.sampling import log_softmax
from nn import LSTM, Attention, Block, Stream
from nn.compression.prune import groups, scores
from nn.watch import answering, probabilities, silenced, watch
from tinytensor.draw import Picture, draw
from tinytensor.ops.softmax import IGNORED
from train.explore.reading import Reading
from train.report import bar

TOP = 5  # tokens that the lens shows


def side_of(name: str, reading: Reading) -> str:
    return next(side for side in reading.sides if name.startswith(side))


def look(model: Model, reading: Reading, run) -> tuple[list[dict], dict[str, np.ndarray]]:
    """(every call of attention in order, what stands behind each block of each side (L + 1, B, T, C)) while run()."""
    names = {id(module): name for name, module in model.named_modules() if isinstance(module, (Attention, Block))}
    layers = [module for module in model.modules() if id(module) in names]
    calls, streams, count = [], {}, Counter()

    def see(layer, arguments: tuple, result) -> None:
        side = side_of(names[id(layer)], reading)
        stream = reading.streams[count[id(layer)] % len(reading.streams)]
        count[id(layer)] += 1
        if isinstance(layer, Block):
            if stream == reading.streams[0]:
                streams.setdefault(side, [arguments[0].full.numpy()]).append(result.full.numpy())
            return
        crossed = arguments[4] is not None and len(reading.sides) > 1
        looked_at = next(iter(reading.sides)) if crossed else side
        kind = f"{stream or side or 'self'}{', looking at the ' + looked_at if crossed else ''}"
        count[kind] += 1
        calls.append(dict(kind=kind, layer=count[kind], name=names[id(layer)], rows=side, columns=looked_at,
                          p=probabilities(layer, arguments)[0]))  # fmt: skip

    with watch(layers, see):
        run()
    return calls, {side: np.stack(found) for side, found in streams.items()}


def lens(model: Model, reading: Reading, stream: np.ndarray) -> list[dict]:
    """What the vectors behind each layer, stream (L + 1, T, C), point to: as if the layers above added nothing.

    Nostalgebraist 2020, "interpreting GPT: the logit lens". Entropy in nats; rank 1 is the first choice.
    """
    blocks = [module for name, module in model.named_modules()
              if isinstance(module, Block) and side_of(name, reading) == reading.points[0]]
    found = []
    for vectors in stream:
        if reading.lens:
            logits = reading.lens(vectors)
        else:
            with answering(blocks, lambda *_, x=vectors: Stream(tt.Tensor(x[None]))):
                logits = reading.look().numpy()[0]
        log_p = log_softmax(logits.astype(np.float64))
        p = np.exp(log_p)
        top = np.argsort(-log_p, axis=-1, kind="stable")[:, :TOP]
        own = np.take_along_axis(log_p, np.maximum(reading.truth, 0)[:, None], axis=1)
        rank = np.where(reading.truth == IGNORED, 0, 1 + (log_p > own).sum(axis=1))
        found.append(dict(top=top, p=np.take_along_axis(p, top, axis=1), entropy=-(p * log_p).sum(axis=1), rank=rank,
                          own=np.where(reading.truth == IGNORED, 0, np.exp(own[:, 0]))))  # fmt: skip
    return found


def heads(model: Model, reading: Reading) -> dict | None:
    """The loss of the text without each head, and the scores by which `train prune --what heads` would choose."""
    found = groups(model, "heads")
    if not found or reading.batch is None:
        return None
    layers, rows = dict(model.named_modules()), []
    blocks, passed = [layer for layer in layers.values() if isinstance(layer, Block)], []
    with watch(blocks, lambda block, _, result: passed.append((block, result))):
        before = model.loss(reading.batch).item()
    for group in bar(found, "each head silenced"):
        inside = [layer for layer in blocks if any(part is layers[group.name] for part in layer.modules())]
        changed = next(n for n, (block, _) in enumerate(passed) if block in inside)
        without = [_loss_from(model, reading, passed, changed, silenced(layers[group.name], head))
                   for head in range(group.count)]  # fmt: skip
        rows.append(dict(name=group.name, loss=without))
    with tt.enable_grad():
        for by in ("magnitude", "gradient"):
            for row, values in zip(rows, scores(model, found, by, [reading.batch])):
                row[by] = values.tolist()
    return dict(loss=before, rows=rows)


def _loss_from(model: Model, reading: Reading, passed: list, changed: int, change) -> float:
    """The loss with a change in the block that was passed as number `changed`; those before it say what they said."""
    done = itertools.count()
    redo = lambda block, own, arguments: passed[n][1] if (n := next(done)) < changed else own(*arguments)
    with change, answering([block for block, _ in passed], redo):
        return model.loss(reading.batch).item()


def block_graph(model: Model, run) -> Picture | None:
    """The recorded graph of the first block (or LSTM layer) that the text passes."""
    first: list[tuple] = []
    layers = [module for module in model.modules() if isinstance(module, (Block, LSTM))]
    with watch(layers, lambda layer, arguments, _: first.append((layer, arguments))):
        run()
    layer, (x, *others) = first[0]
    x = tt.Tensor((x.full if isinstance(x, Stream) else x).data, requires_grad=True)
    with tt.enable_grad():
        y = layer(Stream(x), *others).full if isinstance(layer, Block) else layer(x, *others)[0]
        return draw(y, dict(layer.named_parameters()) | {"x": x})
