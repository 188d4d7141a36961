"""Watching a model while it computes: what goes into a layer and comes out, who looks at whom, what a head is for.

Nothing is built into the layers for this. Inside the block a watched layer belongs to a class of its own, which asks
before it answers. The fast kernels of attention keep no probabilities, so those are found by the plain lines
(plain_probabilities in tinytensor/ops/attention.py) from what the layer was called with.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from nn.attention import Attention
from nn.module import Module, evaluating
from nn.rotary import repeated
from tinytensor import Tensor, backend, no_grad
from tinytensor.ops.attention import plain_probabilities
from tinytensor.tensor import raw


@contextlib.contextmanager
def answering(layers: Sequence[Module], answer: Callable[[Module, Callable, tuple], object]) -> Iterator[None]:
    """Inside this block answer(layer, own, arguments) is what these layers answer; own(*arguments) is their own word.

    arguments: all that `__call__` takes, in its order, those that were not given with their defaults.
    """
    kinds = [(layer, type(layer)) for layer in {id(layer): layer for layer in layers}.values()]
    for layer, kind in kinds:
        layer.__class__ = _asking(kind, answer)
    try:
        yield
    finally:
        for layer, kind in kinds:
            layer.__class__ = kind


def watch(layers: Sequence[Module], see: Callable[[Module, tuple, object], None]):
    """Inside this block see(layer, arguments, result) is told every call of these layers."""

    def answer(layer: Module, own: Callable, arguments: tuple):
        result = own(*arguments)
        see(layer, arguments, result)
        return result

    return answering(layers, answer)


def observe(model: Module, batches: Sequence[dict], layers: Sequence[Module], see: Callable) -> None:
    """Watch these layers while the model, in evaluation, finds the loss of each batch."""
    with evaluating(model), no_grad(), watch(layers, see):
        for batch in batches:
            model.loss(batch)


def probabilities(layer: Attention, arguments: tuple) -> np.ndarray:
    """(B, H, T, S): how much each position looked at each other one, in a call with these arguments (without cache)."""
    x, mask, bias, _, memory, *_ = arguments
    memory = x if memory is None else memory
    keys, _ = layer.keys_values(memory) if isinstance(memory, Tensor) else memory
    keys, queries = repeated(keys, layer.groups), layer.queries(x)
    plain = ("causal", "window", "mask", "bias", "scale")
    how = {name: backend.to_numpy(raw(value)) if backend.is_array(raw(value)) else value
           for name, value in layer._how(mask, bias, queries).items() if name in plain}
    how["bias"] = 0.0 if how["bias"] is None else how["bias"]
    return plain_probabilities(queries.numpy(), keys.numpy(), **how)


def silenced(attention: Attention, head: int):
    """Inside this block a head says nothing: `out` reads zeros in its place."""
    kept = np.arange(attention.heads * attention.head_width) // attention.head_width != head

    def answer(layer: Module, own: Callable, arguments: tuple):
        x = arguments[0]
        return own(x * x.xp.asarray(kept, x.dtype))

    return answering([attention.out], answer)


def _asking(kind: type, answer: Callable) -> type:
    """A class of layers that are all that those of `kind` are, and ask `answer` what to say."""
    shape = inspect.signature(kind.__call__)

    class Asking(kind):
        def __call__(self, *args, **kwargs):
            bound = shape.bind(self, *args, **kwargs)
            bound.apply_defaults()
            return answer(self, super().__call__, bound.args[1:])

        activated = Module.activated  # not in one pass, which would be no call

    return Asking
