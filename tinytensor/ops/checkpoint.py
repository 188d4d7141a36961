"""Activation checkpointing: forget what a stretch of the model computed, and compute it again when its gradient is due.

Costs one more forward pass of that stretch and saves all it would have kept for backward.
Chen et al. 2016, "Training deep nets with sublinear memory cost" (arXiv:1604.06174).
"""

from collections.abc import Callable

from tinytensor import random
from tinytensor.tensor import Tensor, enable_grad, no_grad, record


def checkpoint(fn: Callable[..., Tensor], *inputs) -> Tensor:
    """fn(*inputs), storing only the inputs: backward runs `fn` again, with the same random numbers, for its gradient.

    fn: any function from Tensors (and other things, passed on untouched) to one Tensor; parameters and other Tensors
    that it uses get their gradients too.
    """
    state = random.generator().bit_generator.state
    with no_grad():
        value = fn(*inputs)
    # The only parent of this op is the value computed the second time. Until then it is a stand-in without a node; once
    # it has one, the walk that called backward() goes on through the new nodes, which are the youngest of all.
    again = Tensor(value.xp.zeros((), value.dtype), requires_grad=True)

    def backward(g):
        with enable_grad(), random.replayed(state):
            second = fn(*inputs)
        if second.node is None:  # fn computed nothing: its result is a leaf, or needs no gradient
            if second.requires_grad:
                second.accumulate(g)
            return (None,)
        again.node, again.output = second.node, second.output
        return (g,)

    return record("checkpoint", value.data, (again,), backward)
