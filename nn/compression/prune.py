"""Pruning: leaving out of a trained model what it can do without.

What can go is counted in units: single weights, neurons (of feed-forward networks), attention heads, rows of the token
table, whole layers. A score says how much each is worth; the units of the lowest scores are masked, which sets all
their weights to 0 and keeps them there through further training (`Parameter.mask`). Masked weights save nothing by
themselves; `shrink` then really takes masked neurons, heads and rows out of the matrices, and the model computes the
same with less. Single weights that are masked are small on disk only (storage.py).

Scores: magnitude (Han et al. 2015, arXiv:1506.02626), first-order Taylor (Molchanov et al. 2017, arXiv:1611.06440;
Michel et al. 2019, arXiv:1905.10650, for heads), activation (for weights that is Wanda, Sun et al. 2023,
arXiv:2306.11695), movement (Sanh et al. 2020, arXiv:2005.07683; gathered in training) and chance, the control.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nn.attention import Attention
from nn.compression import surgery
from nn.experts import Stacked
from nn.layers import Embedding, Linear
from nn.lstm import LSTM
from nn.module import Module, Parameter, evaluating
from nn.transformer import Blocks, FeedForward
from nn.watch import observe
from tinytensor import Tensor, backend, random

WHAT = ("weights", "2:4", "neurons", "heads", "rows", "layers")
BY = ("magnitude", "gradient", "activation", "movement", "random")

View = Callable[[np.ndarray], np.ndarray]


@dataclass
class Group:
    """Units of one layer, any of which may go.

    parts: (parameter, view), where view(array of the parameter's shape) is a view of it with the units along axis 0.
    reader: the layer whose inputs are the units' outputs (an embedding: whose ids);   least: how many must stay.
    """

    name: str
    count: int
    parts: list[tuple[Parameter, View]]
    reader: Module | None = None
    least: int = 0

    def sums(self, value_of: Callable[[Parameter], np.ndarray]) -> np.ndarray:
        """(count,): an array per parameter, added up over each unit, in float64."""
        total = np.zeros(self.count)
        for parameter, view in self.parts:
            values = view(backend.to_numpy(value_of(parameter)))
            total += values.reshape(self.count, -1).sum(axis=1, dtype=np.float64)
        return total

    def kept(self) -> np.ndarray:
        """(count,): False where a unit is masked as a whole."""
        return self.sums(lambda p: np.ones(p.shape, bool) if p.mask is None else p.mask) > 0

    def keep_only(self, kept: np.ndarray) -> None:
        """Mask the other units, in addition to what is masked already."""
        for parameter, view in self.parts:
            if parameter.mask is None:
                parameter.mask = parameter.xp.ones(parameter.shape, bool)
            view(parameter.mask)[parameter.xp.asarray(~kept)] = False


def prune(model: Module, amount: float = 0.5, what: str = "weights", by: str | dict[str, np.ndarray] = "magnitude", *,
          whole: bool = False, batches: Sequence[dict] = ()) -> Module:
    """Mask units of the lowest scores until the share `amount` of them is masked (those of earlier calls included).

    what: weights (of linear and LSTM layers), 2:4 (the two lower of every four neighbours in a row, a pattern that
    GPUs have circuits for), neurons, heads, rows (of the token table) or layers, which are taken out at once.
    by: magnitude, gradient, activation or random; or a dict, parameter name -> scores of its shape (movement's way).
    whole: compare scores over the whole model; else the same share goes in each layer.
    batches: what model.loss reads, for the scores by gradient and activation.
    Returns the model, changed in place. At least one head, neuron, row and layer of each group stays.
    """
    _check(model, amount, what, by, batches)
    if what == "layers":
        return _prune_layers(model, amount, by, batches)
    found = groups(model, what)
    if not found:
        raise ValueError(f"this {type(model).__name__} has no {what} to prune")
    values = scores(model, found, by, batches)
    kept = [_two_of_four(value) for value in values] if what == "2:4" else choose(values, found, amount, whole)
    for group, keep in zip(found, kept):
        group.keep_only(keep)
    apply_masks(model)
    return model


def choose(values: list[np.ndarray], found: list[Group], amount: float, whole: bool = False) -> list[np.ndarray]:
    """Which units stay, per group: all but the share `amount` of the lowest values; what is masked goes first."""
    values = [np.where(group.kept(), value, -np.inf) for value, group in zip(values, found)]
    for value, group in zip(values, found):
        value[np.argsort(-value, kind="stable")[: group.least]] = np.inf
    compared = [np.concatenate(values)] if whole else values
    kept = [_all_but_lowest(value, round(amount * len(value))) for value in compared]
    return np.split(kept[0], np.cumsum([len(value) for value in values])[:-1]) if whole else kept


def _all_but_lowest(values: np.ndarray, number: int) -> np.ndarray:
    kept = np.ones(len(values), bool)
    if number:
        kept[np.argpartition(values, number - 1)[:number]] = False
    return kept | (values == np.inf)


def _two_of_four(values: np.ndarray) -> np.ndarray:
    """The two higher of each four neighbours along the inputs."""
    ranks = values.reshape(-1, 4).argsort(axis=-1, kind="stable").argsort(axis=-1)
    return (ranks >= 2).reshape(-1)


def apply_masks(model: Module) -> None:
    """Set every masked weight to 0."""
    for parameter in model.parameters():
        if parameter.mask is not None:
            parameter.data *= parameter.mask


def sparsity(model: Module, what: str = "weights") -> float:
    """The share of units that are masked."""
    found = groups(model, what)
    return 1 - sum(int(group.kept().sum()) for group in found) / max(1, sum(group.count for group in found))


def cubic(step: int, first: int, last: int, amount: float) -> float:
    """The share to have removed at `step`: 0 up to `first`, `amount` from `last` on, quickly at first in between.

    amount * (1 - (1 - t)^3) with t running from 0 to 1 (Zhu & Gupta 2017, arXiv:1710.01878): much is superfluous in the
    beginning, and the later a weight goes, the more the rest must learn to do without it.
    """
    t = min(1.0, max(0.0, (step - first) / max(1, last - first)))
    return amount * (1 - (1 - t) ** 3)


def rounds(amount: float, number: int) -> list[float]:
    """The shares to have removed after each of `number` rounds, each taking the same part of what is left."""
    return [1 - (1 - amount) ** (done / number) for done in range(1, number)] + [amount]


# Where the units are


def groups(model: Module, what: str) -> list[Group]:
    """The units of a model, a group a layer."""
    found, seen = [], set()
    for name, module in model.named_modules():
        if id(module) not in seen:  # a layer that several places share is one layer
            seen.add(id(module))
            found += _units(module, what, name)
    if what == "rows":  # the token table is the longest; positions and the like are no words
        found = [group for group in found if group.count == max(g.count for g in found)]
    return found


def _units(module: Module, what: str, name: str = "") -> list[Group]:
    """The units of one layer, mostly one group or none."""
    same, flat = lambda a: a, lambda a: a.reshape(-1)
    if what in ("weights", "2:4") and isinstance(module, Linear):
        fits = what == "weights" or module.weight.shape[1] % 4 == 0
        reader = None if isinstance(module, Stacked) else module
        return [Group(f"{name}.weight", module.weight.size, [(module.weight, flat)], reader)] if fits else []
    if what == "weights" and isinstance(module, LSTM):
        return [Group(f"{name}.{n}", p.size, [(p, flat)]) for n, p in module.named_parameters() if p.ndim == 2]
    if what == "rows" and isinstance(module, Embedding):
        return [Group(name, len(module.weight), [(module.weight, same)], module, least=1)]
    if what == "neurons" and isinstance(module, FeedForward) and isinstance(module.out, Linear):
        parts: list = [(module.out.weight, lambda a: a.T)]
        for layer in surgery.first_layers(module):
            parts += [(p, same) for p in (layer.weight, layer.bias) if p is not None]
        return [Group(name, module.out.weight.shape[1], parts, module.out, least=1)]
    if what == "heads" and isinstance(module, Attention) and isinstance(module.out, Linear) and module.groups == 1:
        H, D = module.heads, module.head_width
        parts = [(module.out.weight, lambda a: a.reshape(len(a), H, D).swapaxes(0, 1))]  # (H, C, D)
        for layer in surgery.projections(module):
            parts.append((layer.weight, lambda a: a.reshape(-1, H, D, a.shape[1]).swapaxes(0, 1)))  # (H, 1 to 3, D, C)
            if layer.bias is not None:
                parts.append((layer.bias, lambda a: a.reshape(-1, H, D).swapaxes(0, 1)))
        return [Group(name, H, parts, module.out, least=1)]
    return []


# What they are worth


def scores(model: Module, found: list[Group], by: str | dict, batches: Sequence[dict] = ()) -> list[np.ndarray]:
    """A score per unit, an array a group.

    magnitude: the root of the mean square of a unit's weights.
    gradient: |sum over the unit of weight * gradient|, which is how much the loss would change if the unit were 0, to
        first order; the mean over batches.
    activation: the root mean square of the unit's output times the length of the weights that read it; for rows, how
        often each is looked up.
    """
    if isinstance(by, dict):
        by_id = {id(p): by[name] for name, p in model.named_parameters() if name in by}
        return [group.sums(lambda p: by_id.get(id(p), np.zeros(p.shape))) for group in found]
    if by == "magnitude":
        sizes = [sum(p.size for p, _ in group.parts) / group.count for group in found]
        return [np.sqrt(group.sums(lambda p: p.data * p.data) / size) for group, size in zip(found, sizes)]
    if by == "gradient":
        return _taylor(model, found, batches)
    if by == "activation":
        return _contributions(model, found, batches)
    return [random.generator().random(group.count) for group in found]


def _taylor(model: Module, found: list[Group], batches: Sequence[dict]) -> list[np.ndarray]:
    total = [np.zeros(group.count) for group in found]
    with evaluating(model):
        for batch in batches:
            model.zero_grad()
            model.loss(batch).backward()
            for value, group in zip(total, found):
                value += np.abs(group.sums(lambda p: np.zeros(p.shape) if p.grad is None else p.data * p.grad))
    model.zero_grad()
    return [value / len(batches) for value in total]


def _contributions(model: Module, found: list[Group], batches: Sequence[dict]) -> list[np.ndarray]:
    """For a weight w_ij that reads x_j: |w_ij| * rms(x_j). For a neuron or head: the root of the sum of the squares."""
    readers = {id(group.reader): group.reader for group in found}
    if None in readers.values():
        raise ValueError("by=\"activation\" needs layers that read the units one by one; LSTMs and experts do not")
    squares, rows = dict.fromkeys(readers, 0.0), dict.fromkeys(readers, 0)

    def see(layer: Module, arguments: tuple, result) -> None:
        x = arguments[0]
        if isinstance(layer, Embedding):  # the sum of squares of one-hot vectors
            ids = backend.to_numpy(x.data if isinstance(x, Tensor) else x).reshape(-1)
            squares[id(layer)] += np.bincount(ids, minlength=len(layer.weight))
        else:
            x = x.data.reshape(-1, x.shape[-1])
            squares[id(layer)] += backend.to_numpy((x * x).sum(axis=0, dtype=np.float64))
            rows[id(layer)] += len(x)

    observe(model, batches, list(readers.values()), see)
    result = []
    for group in found:
        square, weight = squares[id(group.reader)], group.reader.weight
        if not isinstance(group.reader, Embedding):
            mean_square = square / max(1, rows[id(group.reader)])
            square = np.square(backend.to_numpy(weight.data), dtype=np.float64) * mean_square
        view = next(view for parameter, view in group.parts if parameter is weight)
        result.append(np.sqrt(view(square).reshape(group.count, -1).sum(axis=1)))
    return result


# Taking them out


def shrink(model: Module) -> Module:
    """Take masked heads, neurons and embedding rows out of their matrices; the model computes what it did.

    A head or neuron goes if `out` reads it by masked weights only; one of each layer stays. Masks of single weights
    stay. Returns the model, changed in place, with new and smaller parameters.
    """
    for _, module in list(model.named_modules()):
        for what, keep in (("heads", surgery.keep_heads), ("neurons", surgery.keep_neurons)):
            for group in _units(module, what):
                weight, view = group.parts[0]
                if weight.mask is not None:
                    read = view(backend.to_numpy(weight.mask)).reshape(group.count, -1).any(axis=1)
                    read[0] |= not read.any()
                    if not read.all():
                        keep(module, np.flatnonzero(read))

    def smaller(module: Module) -> Module:
        masked = isinstance(module, Embedding) and module.weight.mask is not None
        return surgery.ShrunkEmbedding.of(module) if masked and not module.weight.mask.any(axis=1).all() else module

    surgery.replace_modules(model, smaller)
    return model


def _prune_layers(model: Module, amount: float, by: str | dict, batches: Sequence[dict]) -> Module:
    found, kept = surgery.stacks(model), []
    if not found:
        raise ValueError(f"this {type(model).__name__} has no layers to prune, each a block of its own")
    for blocks in found:
        if by == "activation":
            values = _changes(model, blocks, batches)
        else:  # a layer is all its weights
            layers = [Group("", 1, [(p, lambda a: a[None]) for p in block.parameters()]) for block in blocks]
            values = np.concatenate(scores(model, layers, by, batches))
        number = min(round(amount * len(blocks)), len(blocks) - 1)
        kept.append((blocks, np.flatnonzero(_all_but_lowest(values, number))))
    surgery.keep_layers(model, kept)
    return model


def _changes(model: Module, blocks: Blocks, batches: Sequence[dict]) -> np.ndarray:
    """How much each block changes the stream, relatively."""
    change = dict.fromkeys(map(id, blocks), 0.0)

    def see(block: Module, arguments: tuple, result) -> None:
        before, after = (backend.to_numpy(stream.full.data) for stream in (arguments[0], result))
        change[id(block)] += float(np.linalg.norm(after - before) / max(1e-30, np.linalg.norm(before)))

    observe(model, batches, blocks, see)
    return np.array([change[id(block)] for block in blocks])


def _check(model: Module, amount: float, what: str, by: str | dict, batches: Sequence[dict]) -> None:
    """One sentence about the first option that makes no sense."""
    if what not in WHAT:
        raise ValueError(f"cannot prune {what!r}; choose from {', '.join(WHAT)}")
    if not 0 <= amount < 1:
        raise ValueError(f"amount {amount} is not a share in [0, 1)")
    if what == "2:4" and amount != 0.5:
        raise ValueError(f"2:4 keeps two of four; amount must be 0.5, not {amount}")
    if isinstance(by, dict):
        return
    if by not in BY:
        raise ValueError(f"unknown score {by!r}; choose from {', '.join(BY)}, or give a dict of scores")
    if by == "movement":
        raise ValueError("movement is gathered while training; give its scores as a dict (train/compression/prune.py)")
    if by in ("gradient", "activation") and not batches:
        raise ValueError(f"scores by {by} need batches to run the model on; give batches=[...]")
