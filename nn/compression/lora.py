"""Low-rank adapters: fine-tune a large model by training two thin matrices beside each frozen one.

LoRA: Hu et al. 2021, arXiv:2106.09685.

A change that adapts a matrix W (out, in) to a task is mostly of low rank: it is written as B @ A with r rows between:

    y = x @ W^T + bias + (x @ A^T) @ B^T * alpha / r,      A: (r, in) random, B: (out, r) zero at first

At rank 8 a layer of 768 x 768 trains 12,288 numbers instead of 589,824; the optimizer's state shrinks alike. When
training is over, `merge` adds B @ A to W and the model is an ordinary one again, as fast as before.

    add_adapters(model, rank=8)           freeze the model, put an adapter beside every Linear of its blocks
    adapter_state(model)                  the adapters' weights alone, to be kept in a small file
    load_adapters(model, state)           put them into a model that add_adapters has prepared
    merge(model)                          back to ordinary layers
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase

import numpy as np

from nn import init
from nn.compression.surgery import replace_modules
from nn.layers import Dropout, Linear
from nn.module import Module, Parameter
from tinytensor import Tensor, backend, ops


class LoRALinear(Module):
    """A frozen Linear and its adapter; reads and answers as the Linear does."""

    def __init__(self, base: Linear, rank: int, alpha: float, dropout: float = 0.0):
        outputs, inputs = base.weight.shape
        if not 1 <= rank <= min(outputs, inputs):
            raise ValueError(f"rank {rank} must be from 1 to {min(outputs, inputs)}, the smaller side of "
                             f"{base.weight.shape}")
        base.requires_grad_(False)
        self.base = base
        self.scale = alpha / rank
        self.a = Parameter.make((rank, inputs), init.kaiming_uniform)
        self.b = Parameter.make((outputs, rank), init.zeros)
        self.dropout = Dropout(dropout)
        self.to(base.weight.device)

    @property
    def weight(self) -> Tensor:
        """(out, in), with the adapter's change: for code that reads a layer's matrix itself."""
        return self.base.weight + (self.b @ self.a) * self.scale

    @property
    def bias(self) -> Parameter | None:
        return self.base.bias

    def __call__(self, x: Tensor) -> Tensor:
        return self.base(x) + ops.linear(ops.linear(self.dropout(x), self.a), self.b) * self.scale

    def merged(self) -> Linear:
        """The Linear that computes the same."""
        self.base.weight.data = self.base.weight.data + (self.b.data @ self.a.data) * np.float32(self.scale)
        self.base.requires_grad_(True)
        return self.base


def add_adapters(model: Module, rank: int = 8, alpha: float | None = None, dropout: float = 0.0,
                 layers: Iterable[str] = ("*blocks.*",), trained: Iterable[str] = ()) -> Module:
    """Freeze the model and give an adapter to each Linear whose dotted name fits one of the patterns `layers`.

    alpha: how strongly the adapters count, `rank` if not said: the product B @ A as it is.   dropout: on what the
    adapters read, in training.   trained: patterns of parameters that stay trainable, such as a new head's.
    The paper adapts queries and values only; later practice (Dettmers et al. 2023) adapts every matrix of the blocks.
    """
    fits = lambda name, patterns: any(fnmatchcase(name, pattern) for pattern in patterns)
    chosen = {id(part) for name, part in model.named_modules() if isinstance(part, Linear) and fits(name, layers)}
    if not chosen:
        raise ValueError(f"no Linear of this {type(model).__name__} has a name like {' or '.join(layers)}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad = fits(name, trained)
    adapted = lambda module: LoRALinear(module, rank, alpha or rank, dropout) if id(module) in chosen else module
    replace_modules(model, adapted)
    return model


def adapter_state(model: Module) -> dict[str, np.ndarray]:
    """Name -> array of the adapters alone."""
    return {name: backend.to_numpy(parameter.data) for name, parameter in _adapters(model).items()}


def load_adapters(model: Module, state: dict[str, np.ndarray]) -> Module:
    """Put saved adapters into a model that add_adapters has prepared in the same way."""
    own = _adapters(model)
    if different := sorted(own.keys() ^ state.keys()):
        raise ValueError(f"these adapters belong to other layers: {different[0]} is only on one side")
    for name, parameter in own.items():
        if parameter.shape != state[name].shape:
            shapes = f"{state[name].shape}, expected {parameter.shape}"
            raise ValueError(f"the adapter {name} is {shapes}; is the rank another?")
    for name, parameter in own.items():
        parameter.data[...] = backend.to_device(state[name], parameter.device)
    return model


def _adapters(model: Module) -> dict[str, Parameter]:
    adapters = [(name, module) for name, module in model.named_modules() if isinstance(module, LoRALinear)]
    return {f"{name}.{part}": value for name, one in adapters for part, value in (("a", one.a), ("b", one.b))}


def merge(model: Module) -> Module:
    """Add every adapter to its matrix and make the model an ordinary one, with all its parameters trainable."""
    replace_modules(model, lambda module: module.merged() if isinstance(module, LoRALinear) else module)
    return model.requires_grad_(True)
