"""The lottery ticket hypothesis: a network holds a small one that, trained alone from its first weights, does as well.

Frankle & Carbin 2019 (arXiv:1803.03635) find it by iterative magnitude pruning: train, mask the smallest weights, set
the others back to what they were at first, and repeat. For anything but small networks "at first" is after a few steps
of training (Frankle et al. 2020, arXiv:1912.05671). The paradox is in the controls, which have as many weights:

    ticket         the mask that was found, with the weights the network had at step k
    reinitialised  the same mask, with new random weights: so it is not the structure alone
    random mask    as many masked in each matrix, by chance, with the weights of step k: nor the weights alone
    small dense    a narrower network of as many weights: nor the number of weights alone
"""

import copy
import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import tinytensor as tt
from nn import Module, shapes_only
from nn.compression.prune import apply_masks, prune
from tinytensor import backend
from train.compression.compare import Source
from train.compression.measure import weight_count
from train.trainer import TrainConfig, Trainer

KINDS = ("dense", "ticket", "reinitialised", "random mask", "small dense")


@dataclass
class Experiment:
    """Iterative magnitude pruning with its controls, for one family of models on one run's data.

    take: the share of what is left that each of `rounds` rounds masks.   rewind: the step k that weights go back to.
    """

    source: Source
    config: TrainConfig
    rounds: int = 6
    take: float = 0.4
    rewind: int = 0
    test_batches: int = 100

    def __post_init__(self):
        if self.source.fine_tuned:
            raise ValueError(f"{self.source.folder} was fine-tuned; tickets are looked for in what starts from nothing")

    def sparsities(self) -> list[float]:
        return [1 - (1 - self.take) ** done for done in range(1, self.rounds + 1)]

    def results(self, seed: int) -> Iterator[tuple[str, float, float, Module]]:
        """(kind, sparsity, held-out accuracy, network) for all that is trained with this seed, as it is done."""
        model = self.fresh(seed)
        start = _weights(model) if self.rewind == 0 else {}

        def remember(loop, step: int) -> None:
            if step == self.rewind and loop.comm.rank == 0:
                with loop.flat.full_precision():
                    start.update(_weights(model))

        self.train(model, seed, 0, remember)
        yield "dense", 0.0, self.test(model), model
        for sparsity in self.sparsities():
            pruned = prune(copy.deepcopy(model), sparsity, whole=True)
            masks = {n: backend.to_numpy(p.mask) for n, p in pruned.named_parameters() if p.mask is not None}
            model = self.begin(seed, masks, start)
            for kind, network, step in (
                ("ticket", model, self.rewind),
                ("reinitialised", self.begin(seed + 1000, masks), 0),
                ("random mask", self.begin(seed, _shuffled(masks, seed), start), self.rewind),
                ("small dense", self.small(seed, weight_count(model)), 0),
            ):
                self.train(network, seed, step)
                yield kind, sparsity, self.test(network), network

    def fresh(self, seed: int, **changes) -> Module:
        with tt.random.seeded(seed):
            return type(self.source.model)(dataclasses.replace(self.source.model.config, **changes))

    def begin(self, seed: int, masks: dict, weights: dict | None = None) -> Module:
        """A network with these masks, and these weights or new ones."""
        model = self.fresh(seed)
        if weights is not None:
            model.load_state_dict(weights)
        for name, parameter in model.named_parameters():
            parameter.mask = masks[name].copy() if name in masks else None
        apply_masks(model)
        return model

    def small(self, seed: int, weights: int) -> Module:
        """The dense network whose number of weights comes nearest."""
        config = self.source.model.config
        heads = vars(config).get("heads", 1)  # an ELMo has none
        widths = range(heads, config.width + 1, heads)
        with shapes_only():
            counts = {width: weight_count(self.fresh(seed, width=width)) for width in widths}
        return self.fresh(seed, width=min(counts, key=lambda width: abs(counts[width] - weights)))

    def train(self, model: Module, seed: int, step: int, between: Callable | None = None) -> None:
        """Train from `step` to the end."""
        end, source = self.config.steps, self.source
        config = dataclasses.replace(self.config, seed=seed, eval_every=end, save_every=end, eval_batches=1)
        data = source.train_data, source.val_data
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(model, source.make_objective(config), *data, config, Path(folder), Unheard())
            trainer.progress.step, trainer.between, trainer.whole = step, between, False
            if (done := trainer.train().step) < config.steps:
                raise ValueError(f"stopped after step {done} of {config.steps} of one network; nothing was compared")
            trainer.flat.keep_full_precision()

    def test(self, model: Module) -> float:
        return self.source.accuracy(model, self.test_batches)


@dataclass
class Outcome:
    """What several seeds gave: kind -> sparsity -> accuracies."""

    accuracies: dict[str, dict[float, list[float]]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    weights: dict[str, dict[float, int]] = field(default_factory=lambda: {kind: {} for kind in KINDS})

    def add(self, kind: str, sparsity: float, accuracy: float, weights: int) -> None:
        self.accuracies[kind].setdefault(sparsity, []).append(accuracy)
        self.weights[kind][sparsity] = weights

    def mean(self, kind: str, sparsity: float) -> tuple[float, ...]:
        """(mean, standard error) over the seeds; of one seed only what it gave."""
        values = np.array(self.accuracies[kind][sparsity])
        error = [float(values.std(ddof=1) / math.sqrt(len(values)))] if len(values) > 1 else []
        return float(values.mean()), *error

    def curves(self) -> dict[str, list[tuple[float, ...]]]:
        """kind -> (sparsity, mean accuracy in percent, its standard error), the dense network drawn all the way."""
        point = lambda kind, sparsity: tuple(100 * x for x in self.mean(kind, sparsity))
        dense, last = point("dense", 0.0), max(self.accuracies["ticket"], default=1.0)
        curves = {kind: [(s, *point(kind, s)) for s in self.accuracies[kind]] for kind in KINDS[1:]}
        return {"dense": [(0.0, *dense), (last, *dense)]} | curves

    def table(self) -> str:
        """Markdown: a line per sparsity, a column per kind."""
        shown = lambda kind, sparsity: " ± ".join(f"{100 * x:.2f}" for x in self.mean(kind, sparsity))
        seeds, weights = len(self.accuracies["dense"][0.0]), self.weights["dense"][0.0]
        of = f"mean and standard error of {seeds} seeds" if seeds > 1 else "one seed, so without an error"
        lines = [f"Held-out accuracy in percent, {of}. Dense: {shown('dense', 0.0)} with {weights:,} weights.", "",
                 f"| sparsity | weights | {' | '.join(KINDS[1:])} |", f"|{' ---: |' * (len(KINDS) + 1)}"]  # fmt: skip
        for sparsity in self.accuracies["ticket"]:
            cells = [shown(kind, sparsity) for kind in KINDS[1:]]
            lines.append(f"| {sparsity:.1%} | {self.weights['ticket'][sparsity]:,} | {' | '.join(cells)} |")
        return "\n".join(lines)


class Unheard:
    """A report that nobody reads."""

    def advanced(self, step: int, loss: float) -> None: ...

    def logged(self, step: int, loss: float, lr: float, norm: float, tokens_per_s: float, peak_bytes=None) -> None: ...

    def evaluated(self, step: int, val_loss: float) -> None: ...


def _weights(model: Module) -> dict[str, np.ndarray]:
    return {name: backend.to_numpy(array).copy() for name, array in model.state_dict().items()}


def _shuffled(masks: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """As many masked in each matrix, elsewhere."""
    with tt.random.seeded(seed, 2) as draw:
        return {name: draw.permutation(mask.reshape(-1)).reshape(mask.shape) for name, mask in masks.items()}
