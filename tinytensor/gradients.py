"""Gradients as an answer: `grad` returns them, and leaves every tensor's `.grad` as it was."""

from collections.abc import Sequence

from tinytensor.tensor import Tensor, starting_gradient, walk


def grad(output: Tensor, inputs: Tensor | Sequence[Tensor], grad_output=None, *, retain_graph: bool = False,
         create_graph: bool = False, allow_unused: bool = False) -> tuple:
    """(dL/dinput for each input), as arrays of the inputs' shapes, of L = sum(output * grad_output).

    inputs: what the output was computed from, made by hand or computed on the way.   grad_output: of the output's
    shape; 1 by default, for a single value.   allow_unused: give None, instead of raising, for an input without a part
    in the output.   The graph is let go of, as by `backward()`, unless retain_graph.
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    if without := [index for index, x in enumerate(inputs) if not x.requires_grad]:
        raise ValueError(f"grad: input {without[0]} does not require a gradient")
    places = [x if x.node is None else (x.node, x.output) for x in inputs]
    wanted = dict.fromkeys(places)
    walk(output, starting_gradient(output, grad_output, create_graph), retain_graph, wanted)
    if not allow_unused and (unused := [index for index, place in enumerate(places) if wanted[place] is None]):
        raise ValueError(f"grad: the output does not depend on input {unused[0]}; allow_unused=True gives None for it")
    return tuple(wanted[place] for place in places)
