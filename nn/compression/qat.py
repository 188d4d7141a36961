"""Quantization-aware training: the model is trained as if it were quantized, and learns the steps of its integers too.

`prepare` replaces linear layers and embedding tables by ones that keep float weights but compute with the values that
integers would give (ops.fake_quantize). What training cannot change smoothly, rounding, it learns to live with. The
distance between values is learned with the weights (LSQ, Esser et al. 2020, arXiv:1902.08153). `finish` then stores
the integers; what the model computes stays the same.
"""

from collections.abc import Sequence

import numpy as np

from nn.compression.integers import encode, levels
from nn.compression.quantize import INPUT_BITS, QuantizedEmbedding, QuantizedLinear, sample_inputs
from nn.compression.surgery import replace_modules
from nn.experts import Stacked
from nn.layers import Embedding, Linear
from nn.module import Module, Parameter
from tinytensor import Tensor, backend, ops


def prepare(model: Module, bits: int, batches: Sequence[dict], group: int = 32) -> Module:
    """Make a model train as if its weights had `bits` bits (2 to 8) and the inputs of its linear layers 8.

    batches: what model.loss reads, to begin with steps that fit the inputs.   group: how many neighbours in a row
    share a step, with 4 bits and fewer (the whole row if it does not divide into such groups); else the row does.
    Returns the model, changed in place.
    """
    if bits not in range(2, 9):
        raise ValueError(f"bits must be 2 to 8, not {bits}")
    if not batches:
        raise ValueError("the steps of the inputs are first found on batches; give batches=[...]")
    layers = [module for module in model.modules() if type(module) is Linear]
    samples = sample_inputs(model, layers, batches)

    def change(module: Module) -> Module:
        if type(module) is Linear:
            return TrainedLinear(module, bits, group, samples.get(id(module)))
        if isinstance(module, Stacked):
            return TrainedExperts(module, bits, group)
        return TrainedEmbedding(module, bits, group) if type(module) is Embedding else module

    replace_modules(model, change)
    return model


def finish(model: Module) -> Module:
    """Store the integers that the model was trained to have."""
    replace_modules(model, lambda module: module.quantized() if isinstance(module, TrainedQuantized) else module)
    return model.eval()


class TrainedQuantized(Module):
    """A matrix (rows, columns) that is used as its quantized values.

    latent: the float weights under them.   steps: one for each row or group, (rows * groups,).
    """

    def __init__(self, layer: Linear | Embedding, bits: int, group: int):
        weight, columns = layer.weight, layer.weight.shape[1]
        self.bits, self.range = bits, levels(bits, symmetric=True)
        self.group = group if bits <= 4 and columns % group == 0 else columns
        self.latent = weight
        self.steps = Parameter(_first_steps(weight.data.reshape(-1, self.group), self.range[1]))

    @property
    def weight(self) -> Tensor:
        """The values that the integers will give, (rows, columns)."""
        grouped = self.latent.reshape(len(self.steps), self.group)
        values = ops.fake_quantize(grouped, self.steps.reshape(len(self.steps), 1), *self.range)
        return values.reshape(*self.latent.shape)

    def matrix(self) -> tuple:
        """(codes, scale, zero_point, columns) for a quantized layer."""
        rows, columns = self.latent.shape
        kernels, scale = backend.backend_of(self.latent.data), self.steps.data.reshape(rows, -1)
        grouped = self.latent.data.reshape(rows, -1, self.group)
        codes = encode(grouped, scale[..., None], np.int8(0), self.bits, symmetric=True).reshape(rows, columns)
        if self.bits <= 4:
            codes = kernels.pack_int4(self.latent.xp.pad(codes, ((0, 0), (0, columns % 2))))
        return codes, scale.copy(), None, columns


class TrainedLinear(TrainedQuantized):
    """Linear with quantized weight and input.   input_step: (1,)"""

    def __init__(self, layer: Linear, bits: int, group: int, sample=None):
        super().__init__(layer, bits, group)
        self.bias = layer.bias
        self.input_range = levels(INPUT_BITS, symmetric=False)
        sample = np.ones(1, np.float32) if sample is None else sample
        self.input_step = Parameter(_first_steps(layer.weight.xp.asarray(sample).reshape(1, -1), self.input_range[1]))

    def __call__(self, x: Tensor) -> Tensor:
        return ops.linear(ops.fake_quantize(x, self.input_step, *self.input_range), self.weight, self.bias)

    def quantized(self) -> QuantizedLinear:
        layer = QuantizedLinear(*self.matrix(), self.bias)
        layer.set_input_range(self.input_step.data.reshape(()).copy(), np.int8(0))
        return layer


class TrainedExperts(TrainedQuantized):
    """Experts' matrices, quantized; what they read stays as it is."""

    def quantized(self) -> QuantizedLinear:
        return QuantizedLinear(*self.matrix())


class TrainedEmbedding(TrainedQuantized):
    """Embedding whose rows are quantized."""

    def __call__(self, ids) -> Tensor:
        return self.weight[ids] if isinstance(ids, slice) else ops.embedding(self.weight, ids)

    def quantized(self) -> QuantizedEmbedding:
        return QuantizedEmbedding(*self.matrix())


def _first_steps(values, highest: int):
    """LSQ's: 2 mean(|x|) / sqrt(highest), for each row of values."""
    xp = backend.array_module(values)
    return xp.maximum(2 * xp.abs(values).mean(axis=1) / highest**0.5, 1e-6).astype(values.dtype)
