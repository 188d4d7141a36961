"""LSTM layers, stacked and in both directions, with PyTorch's parameter names: torch.nn.LSTM's state_dict loads."""

import math

import numpy as np

from nn import init
from nn.layers import Dropout
from nn.module import Module, Parameter
from tinytensor import Tensor, ops

State = tuple[Tensor, Tensor]


class LSTM(Module):
    """x (B, T, inputs) -> y (B, T, D * P), and the last state (h, c), (layers * D, B, P) and (layers * D, B, hidden).

    P is proj_size, or hidden if that is 0; D is 2 if bidirectional, else 1. Each layer reads what the one below wrote,
    both directions side by side. For the arithmetic see tinytensor.ops.lstm.

    proj_size: h is that many learned mixtures of the cell's hidden outputs (Sak et al. 2014).
    dropout: on the outputs of all layers but the last, in training.
    reverse: one direction only, from the end of each sequence to its start.
    forget_bias: what the forget gate's bias starts from; 1 lets a new network remember (Jozefowicz et al. 2015).
    cell_clip, proj_clip: the longest value of the cell and of the projected output.
    The weights start uniform within 1 / sqrt(hidden), as PyTorch's.
    """

    def __init__(self, inputs: int, hidden: int, layers: int = 1, *, proj_size: int = 0, bidirectional: bool = False,
                 bias: bool = True, dropout: float = 0.0, reverse: bool = False, forget_bias: float = 0.0,
                 cell_clip: float | None = None, proj_clip: float | None = None):
        if min(inputs, hidden, layers) < 1 or proj_size < 0:
            raise ValueError(f"LSTM needs at least one input, hidden unit and layer, not {inputs}, {hidden}, {layers}; "
                             f"and proj_size {proj_size} must not be negative")
        if bidirectional and reverse:
            raise ValueError("LSTM: bidirectional has the reversed direction already; leave out reverse")
        if proj_clip is not None and not proj_size:
            raise ValueError(f"LSTM: proj_clip {proj_clip} clips a projection; give a proj_size")
        self.hidden, self.layers, self.outputs = hidden, layers, proj_size or hidden
        self.directions = (False, True) if bidirectional else (reverse,)
        self.clips = dict(cell_clip=cell_clip, proj_clip=proj_clip)
        self.dropout = Dropout(dropout)
        weights = init.uniform(1 / math.sqrt(hidden))
        second_gate = np.repeat(np.array([0, forget_bias, 0, 0], np.float32), hidden)
        forgetful = lambda shape: weights(shape) + second_gate
        for layer in range(layers):
            width = len(self.directions) * self.outputs if layer else inputs
            shapes = {"weight_ih": (4 * hidden, width), "weight_hh": (4 * hidden, self.outputs)}
            shapes |= {"bias_ih": (4 * hidden,), "bias_hh": (4 * hidden,)} if bias else {}
            shapes |= {"weight_hr": (proj_size, hidden)} if proj_size else {}
            for suffix in self.suffixes(layer):
                for name, shape in shapes.items():
                    setattr(self, name + suffix, Parameter.make(shape, forgetful if name == "bias_ih" else weights))

    def suffixes(self, layer: int) -> list[str]:
        """What PyTorch adds to the names of a layer's parameters, direction by direction."""
        return [f"_l{layer}", f"_l{layer}_reverse"][: len(self.directions)]

    def __call__(self, x: Tensor, state: State | None = None, mask=None) -> tuple[Tensor, State]:
        """mask: (B, T) booleans, False on padding, where the state stands still and y is 0."""
        count = self.layers * len(self.directions)
        h, c = state or ([None] * count, [None] * count)
        if len(h) != count or len(c) != count:
            raise ValueError(f"LSTM: the state has {len(h)} and {len(c)} parts, expected {count} of h and c")
        ends: list = []
        for layer in range(self.layers):
            x = self.dropout(x) if layer else x
            outputs = []
            for suffix, reverse in zip(self.suffixes(layer), self.directions):
                start = (h[len(ends)], c[len(ends)]) if state else None
                y, *end = self._run(x, suffix, reverse, start, mask)
                outputs.append(y)
                ends.append(end)
            x = outputs[0] if len(outputs) == 1 else ops.concatenate(outputs, axis=-1)
        return x, tuple(ops.stack(part) for part in zip(*ends))

    def _run(self, x: Tensor, suffix: str, reverse: bool, start: State | None, mask) -> tuple[Tensor, Tensor, Tensor]:
        own = lambda name: vars(self).get(name + suffix)
        bias = None if own("bias_ih") is None else own("bias_ih") + own("bias_hh")
        weights = own("weight_ih"), own("weight_hh"), bias, own("weight_hr")
        return ops.lstm(x, *weights, start, mask, reverse=reverse, **self.clips)
