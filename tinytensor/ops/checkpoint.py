"""Activation checkpointing: forget what a stretch of the model computed, and compute it again when its gradient is due.

Costs one more forward pass of that stretch and saves all it would have kept for backward.
Chen et al. 2016, "Training deep nets with sublinear memory cost" (arXiv:1604.06174).
"""

from __future__ import annotations

from collections.abc import Callable

from tinytensor import random
from tinytensor.tensor import Tensor, enable_grad, no_grad, record


def checkpoint(fn: Callable[..., Tensor], *inputs) -> Tensor:
    """fn(*inputs), storing only the inputs: backward runs `fn` again, with the same random numbers, for its gradient.

    fn: any function from Tensors (and other things, passed on untouched) to one Tensor; parameters that it uses get
    their gradients too.
    """
    state = random.generator().bit_generator.state
    with no_grad():
        value = fn(*inputs)
    inputs_again = [x.detach() if isinstance(x, Tensor) else x for x in inputs]
    for again, x in zip(inputs_again, inputs):
        if isinstance(x, Tensor):
            again.requires_grad = x.requires_grad

    def backward(g):
        with enable_grad(), random.replayed(state):
            again = fn(*inputs_again)
        if again.requires_grad:
            again.backward(g)
        return [*(x.grad if isinstance(x, Tensor) else None for x in inputs_again), None]

    # Parameters inside fn are not among the inputs, so this op must be recorded even if no input needs a gradient.
    always = Tensor(value.xp.zeros((), value.dtype), requires_grad=True)
    return record(value.data, [*inputs, always], backward)
