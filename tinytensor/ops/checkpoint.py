"""Activation checkpointing: forget what a stretch of the model computed, and compute it again when its gradient is due.

Costs one more forward pass of that stretch and saves all it would have kept for backward.
Chen et al. 2016, "Training deep nets with sublinear memory cost" (arXiv:1604.06174).
"""

from collections.abc import Callable, Sequence

from tinytensor import random
from tinytensor.backend import is_float
from tinytensor.ops.basic import reshape
from tinytensor.tensor import Tensor, enable_grad, no_grad, record_many


def checkpoint(fn: Callable[..., Tensor | Sequence[Tensor]], *inputs) -> Tensor | list[Tensor]:
    """fn(*inputs), storing only the inputs: backward runs `fn` again, with the same random numbers, for its gradient.

    fn: any function from Tensors (and other things, passed on untouched) to one Tensor or several; parameters and other
    Tensors that it uses get their gradients too.   Returns a Tensor, or a list of them.
    """
    state = random.generator().bit_generator.state
    with no_grad():
        value = fn(*inputs)
    alone = isinstance(value, Tensor)
    values = [value] if alone else list(value)
    # The parents of this op are the values computed the second time. Until then they are stand-ins without a node; once
    # they have one, the walk that called backward() goes on through the new nodes, which are the youngest of all.
    again = [Tensor(v.xp.zeros((), v.dtype), requires_grad=is_float(v.dtype)) for v in values]

    def backward(*gradients):
        with enable_grad(), random.replayed(state):
            second = fn(*inputs)
            for place, out in zip(again, [second] if alone else second):
                out = reshape(out, out.shape)  # has a node also where fn computed nothing and its result is a leaf
                place.node, place.output = out.node, out.output
        return gradients

    outputs = record_many("checkpoint", [v.data for v in values], again, backward)
    return outputs[0] if alone else outputs
