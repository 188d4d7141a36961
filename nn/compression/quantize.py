"""Quantization: weights (and what flows through them) as small integers, a fourth or an eighth of float32's bytes.

How a number becomes an integer stands in integers.py. Symmetric ranges need no zero point; affine ones do, and waste
nothing on values that lie on one side. There is a scale for the whole matrix, for each of its rows ("channel"), or for
groups of neighbours in a row (4 bits and fewer). A layer quantizes its inputs too, by the row while it runs ("dynamic")
or with ranges calibrated on batches ("static"), and multiplies integers with exact int32 sums
(backend/cpu/quantized.py). On the CPU this saves bytes, not time.

Jacob et al. 2018 (arXiv:1712.05877) for integer arithmetic; Dettmers et al. 2022 (arXiv:2208.07339) for scales by
the row on both sides; Frantar et al. 2023 (arXiv:2210.17323) for GPTQ's rounding (nn/compression/gptq.py).
"""

import math
from collections.abc import Sequence

import numpy as np

from nn.compression.gptq import gptq, input_products
from nn.compression.integers import RANGES, decode, encode, find_range
from nn.compression.surgery import replace_modules
from nn.layers import Embedding, Linear
from nn.lstm import LSTM
from nn.module import Module, Parameter
from nn.softmax import FullSoftmax
from nn.watch import observe
from tinytensor import Tensor, backend, ops
from tinytensor.tensor import record

ACTIVATIONS = ("dynamic", "static", "none")
SAMPLE = 50_000  # values of each layer's input that calibration looks at
INPUT_BITS = 8


def quantize(model: Module, bits: int = 8, *, per: str = "channel", group: int = 32, symmetric: bool = True,
             ranges: str = "minmax", activations: str = "dynamic", rounding: str = "nearest", embeddings: bool = True,
             batches: Sequence[dict] = ()) -> Module:
    """Store the weights of all linear layers, tables and LSTMs as integers of `bits` bits (2 to 8).

    per: "channel" or "tensor", what shares a scale; with 4 bits and fewer it is `group` neighbours in a row, and two
    values are packed into a byte.   symmetric: ranges from -m to m; else from the lowest to the highest value.
    ranges: minmax (nothing is clipped), percentile (99.9% are not), mse (least squared error).
    activations: of linear layers, but experts'. dynamic: 8 bits, a scale per row found from the row. static: 8 bits,
    affine, a range found by `ranges` on the batches. none: they stay float, and so does the arithmetic.
    rounding: nearest, or gptq, which makes up for each rounding in the weights that are still to be rounded.
    batches: what model.loss reads, for static activations and gptq.
    Returns the model, changed in place; it can be used and saved, and is no longer trained.
    """
    _check(bits, per, group, ranges, activations, rounding, batches)
    if is_quantized(model):
        raise ValueError(f"this {type(model).__name__} is quantized already; quantize the one it was made from")
    how = dict(bits=bits, per=group if bits <= 4 else per, symmetric=symmetric, ranges=ranges)
    linear = [module for module in model.modules() if type(module) is Linear]
    products = input_products(model, linear, batches) if rounding == "gptq" else {}
    samples = sample_inputs(model, linear, batches) if activations == "static" else {}

    def change(module: Module) -> Module:
        if isinstance(module, LSTM):
            matrices = {name: p.data for name, p in module.named_parameters() if p.ndim == 2}
            return QuantizedLSTM(module, {name: Quantized(*to_integers(a, **how)) for name, a in matrices.items()})
        if not isinstance(module, REPLACED if embeddings else (Linear, FullSoftmax)):
            return module
        layer = _replacement(module, to_integers(module.weight.data, products.get(id(module)), **how))
        if type(module) is Linear and activations != "none":
            layer.quantize_inputs(samples.get(id(module)), ranges)
        return layer

    replace_modules(model, change)
    return model.eval()


def is_quantized(model: Module) -> bool:
    """Whether any of its weights are integers, which do not learn."""
    return any(isinstance(module, Quantized) for module in model.modules())


def to_integers(weight, products=None, *, bits: int, per: str | int, symmetric: bool, ranges: str) -> tuple:
    """(codes, scale, zero_point, columns) of a float matrix. products: sums of x x^T over its inputs, for gptq."""
    device, (rows, columns) = backend.device_of(weight), weight.shape
    weight = weight if products is None else backend.to_numpy(weight)  # gptq goes column by column, on the CPU
    xp = backend.array_module(weight)
    if bits <= 4:  # a row is cut into groups, the last of which is filled up with zeros
        weight = xp.pad(weight.astype(np.float32, copy=False), ((0, 0), (0, -columns % per)))
        shape = (rows, -1, per)
    else:
        shape = (1, 1, -1) if per == "tensor" else (rows, 1, columns)
    alike = weight.reshape(shape)  # what shares a scale lies along the last axis
    scale, zero = find_range(alike, bits, symmetric, ranges)
    codes = encode(alike, scale, zero, bits, symmetric).reshape(weight.shape)
    scale, zero = scale[..., 0], zero[..., 0]
    if products is not None:
        codes, scale, zero = gptq(weight, products, per if bits <= 4 else None, scale, zero, bits, symmetric, ranges)
    codes, scale, zero = (backend.to_device(array, device) for array in (codes, scale, zero))
    codes = backend.backend_of(codes).pack_int4(codes) if bits <= 4 else codes
    return codes, scale, None if symmetric else zero, columns


# Layers


class Quantized(Module):
    """A matrix (rows, columns) of integers; what the layers below have in common.

    codes: int8 (rows, columns), or two 4-bit values to a byte: uint8 (rows, padded columns / 2).
    scale: float32, and zero_point: int8 or None, both (1, 1), (rows, 1) or (rows, groups).
    """

    def __init__(self, codes, scale, zero_point, columns: int):
        self.codes, self.scale, self.zero_point = _constant(codes), _constant(scale), _constant(zero_point)
        self.columns = columns

    @property
    def packed(self) -> bool:
        return self.codes.dtype == np.uint8

    def floats(self, rows=slice(None)):
        """Rows of the matrix as a float32 array."""
        codes = self.codes.data[rows]
        scale, zero = self.scale.data, None if self.zero_point is None else self.zero_point.data
        if len(scale) > 1:
            scale, zero = scale[rows], zero if zero is None else zero[rows]
        if not self.packed:
            return decode(codes, scale, zero)
        codes = backend.backend_of(codes).unpack_int4(codes)
        codes = codes.reshape(*codes.shape[:-1], scale.shape[-1], -1)
        x = decode(codes, scale[..., None], zero if zero is None else zero[..., None])
        return x.reshape(*x.shape[:-2], -1)[..., : self.columns]

    @property
    def weight(self) -> Tensor:
        """The whole matrix as floats, made anew each time: for a model that uses it other than by calling the layer."""
        return Tensor(self.floats())

    def product(self, x):
        """x (N, columns) float -> x @ weight^T (N, rows), the integers becoming floats on the way."""
        scale, zero = self.scale.data, self.zero_point
        wide = 2 * self.codes.shape[1] if self.packed else self.columns  # the last group is filled up with zeros
        x = self.codes.xp.pad(x, ((0, 0), (0, wide - self.columns))) if wide > self.columns else x
        y = backend.backend_of(x).weight_matmul(x, self.codes.data, scale)
        if zero is not None:
            y -= x.reshape(len(x), scale.shape[1], -1).sum(axis=-1) @ (scale * zero.data).T
        return y

    def compared(self, x: Tensor) -> Tensor:
        return self.recorded(self.product(x.data.reshape(math.prod(x.shape[:-1]), self.columns)), x)

    def recorded(self, y, x: Tensor) -> Tensor:
        """y, made of x, as a Tensor; its gradient goes back to x as through the float weight."""
        backward = lambda g: ((g.reshape(y.shape) @ self.floats()).reshape(x.shape),)
        return record("quantized_linear", y.reshape(*x.shape[:-1], y.shape[1]), (x,), backward)


class QuantizedLinear(Quantized):
    """y = x @ weight^T + bias with the weight, and mostly x too, as integers.

    input_scale: None, x stays float; 0, a scale per row of x is found as it comes; else the scale of every x, and
    input_zero its zero point.   row_sums: the sums of (codes - zero_point) in each row, which the zero point needs.
    A gradient goes back to x as through the float weight, so layers added beside this one can be trained.
    """

    def __init__(self, codes, scale, zero_point, columns: int, bias: Parameter | None = None):
        super().__init__(codes, scale, zero_point, columns)
        self.bias = bias
        self.input_scale = self.input_zero = self.row_sums = None

    def quantize_inputs(self, sample=None, ranges: str = "minmax") -> None:
        """Take inputs as 8-bit integers: with a scale per row (sample None), or the range of a sample of them."""
        xp = self.codes.xp
        if sample is None:
            self.input_scale = _constant(xp.zeros((), np.float32))
            return
        scale, zero = find_range(xp.asarray(sample).reshape(1, -1), INPUT_BITS, False, ranges)
        self.set_input_range(scale.reshape(()), zero.reshape(()))

    def set_input_range(self, scale, zero) -> None:
        self.input_scale, self.input_zero = (_constant(self.codes.xp.asarray(number)) for number in (scale, zero))
        if not self.packed:
            sums = self.codes.data.sum(axis=1, dtype=np.int32)
            if self.zero_point is not None:
                sums = sums - self.columns * self.zero_point.data[:, 0].astype(np.int32)
            self.row_sums = _constant(sums)

    def __call__(self, x: Tensor) -> Tensor:
        rows = x.data.reshape(math.prod(x.shape[:-1]), self.columns)
        y = self.product(rows) if self.input_scale is None else self._integers(rows)
        if self.bias is not None:
            y += self.bias.data
        return self.recorded(y, x)

    def _integers(self, x):
        """x (N, K) float -> x @ weight^T (N, M) float, through products of integers."""
        kernels, dynamic = backend.backend_of(x), self.input_zero is None
        scale, zero = find_range(x, INPUT_BITS) if dynamic else (self.input_scale.data, self.input_zero.data)
        codes = encode(x, scale, zero, INPUT_BITS, symmetric=dynamic)
        if self.packed:
            return self._groups(kernels, codes, None if dynamic else zero) * scale
        sums = kernels.int8_matmul(codes, self.codes.data)
        if self.zero_point is not None:
            sums -= codes.sum(axis=1, dtype=np.int32)[:, None] * self.zero_point.data.reshape(1, -1).astype(np.int32)
        if not dynamic:
            sums -= zero.astype(np.int32) * self.row_sums.data
        y = sums.astype(np.float32)
        y *= self.scale.data.reshape(1, -1)
        y *= scale
        return y

    def _groups(self, kernels, codes, zero):
        """The same with 4-bit weights, but for the inputs' scale. Zero points add sums over groups, times their scales.
        """
        G = self.scale.shape[1]
        padded = self.codes.xp.pad(codes, ((0, 0), (0, 2 * self.codes.shape[1] - self.columns)))
        y = kernels.int4_matmul(padded, self.codes.data, self.scale.data)
        if self.zero_point is not None:
            sums = padded.reshape(len(codes), G, -1).sum(axis=-1, dtype=np.int32).astype(np.float32)
            y -= sums @ (self.scale.data * self.zero_point.data).T
        if zero is not None:
            y -= zero.astype(np.float32) * (self.floats().sum(axis=1))
        return y


class QuantizedEmbedding(Quantized):
    """ids (...) -> (..., width): the rows looked up become floats, the others stay integers."""

    def __call__(self, ids) -> Tensor:
        if not isinstance(ids, slice):
            ids = ids.data if isinstance(ids, Tensor) else self.codes.xp.asarray(ids)
        return Tensor(self.floats(ids))


class QuantizedSoftmax(QuantizedLinear):
    """ELMo's softmax over words with its table as integers, for evaluation: see nn.softmax.FullSoftmax."""

    scores = FullSoftmax.scores

    def loss(self, x: Tensor, targets: np.ndarray) -> Tensor:
        return ops.cross_entropy(self.scores(x), targets, reduction="sum")


class QuantizedLSTM(Module):
    """An LSTM whose matrices are stored as integers; they become floats for the length of a call.

    The state is multiplied at every step of a sequence, so this is once in a sequence, not once in a step.
    """

    def __init__(self, layer: Module, matrices: dict[str, Quantized]):
        self.layer, self.matrices = layer, matrices
        for name in matrices:
            setattr(layer, name, None)

    def __call__(self, x: Tensor, state=None, mask=None):
        for name, matrix in self.matrices.items():
            setattr(self.layer, name, matrix.weight)
        try:
            return self.layer(x, state, mask)
        finally:
            for name in self.matrices:
                setattr(self.layer, name, None)

    def floats(self) -> dict:
        """The parameters of the LSTM that this one is, as arrays by name."""
        return self.layer.state_dict() | {name: matrix.floats() for name, matrix in self.matrices.items()}


REPLACED = (Linear, Embedding, FullSoftmax)  # layers of one matrix


def _replacement(module: Linear | Embedding | FullSoftmax, matrix: tuple) -> Quantized:
    """The layer for one of REPLACED, of (codes, scale, zero_point, columns)."""
    if isinstance(module, Embedding):
        return QuantizedEmbedding(*matrix)
    return (QuantizedSoftmax if isinstance(module, FullSoftmax) else QuantizedLinear)(*matrix, module.bias)


def fit_quantized(module: Module, name: str, arrays: dict[str, np.ndarray]) -> Module:
    """The quantized layer for a layer of a file whose arrays begin with `name`, or the module as it is."""
    parts = lambda name, *fields: [arrays.get(f"{name}.{field}") for field in fields]
    matrix = lambda name, columns: (*parts(name, "codes", "scale", "zero_point"), columns)
    if isinstance(module, REPLACED) and f"{name}.codes" in arrays:
        layer = _replacement(module, matrix(name, module.weight.shape[1]))
        if isinstance(layer, QuantizedLinear):
            inputs = map(_constant, parts(name, "input_scale", "input_zero", "row_sums"))
            layer.input_scale, layer.input_zero, layer.row_sums = inputs
        return layer
    if isinstance(module, LSTM) and any(other.startswith(f"{name}.matrices.") for other in arrays):
        columns = {own: p.shape[1] for own, p in module.named_parameters() if p.ndim == 2}
        read = {own: Quantized(*matrix(f"{name}.matrices.{own}", count)) for own, count in columns.items()}
        return QuantizedLSTM(module, read)
    return module


def _constant(array) -> Parameter | None:
    """A part of the model that is saved with it and not trained."""
    if array is None:
        return None
    return Parameter(array if backend.is_array(array) else np.asarray(array), requires_grad=False)


def sample_inputs(model: Module, layers: list[Module], batches: Sequence[dict]) -> dict[int, np.ndarray]:
    """id(layer) -> some of the values that came into it, spread evenly over the batches."""
    found: dict[int, list] = {id(layer): [] for layer in layers}

    def see(layer: Module, arguments: tuple, result) -> None:
        values = arguments[0].data.reshape(-1)
        found[id(layer)].append(backend.to_numpy(values[:: max(1, values.size * len(batches) // SAMPLE)]))

    observe(model, batches, layers, see)
    return {key: np.concatenate(values) for key, values in found.items() if values}


def _check(bits, per, group, ranges, activations, rounding, batches) -> None:
    """One sentence about the first option that makes no sense."""
    if bits not in range(2, 9):
        raise ValueError(f"bits must be 2 to 8, not {bits}")
    if per not in ("channel", "tensor"):
        raise ValueError(f"scales are per channel or per tensor, not {per!r}")
    if group < 2 or group % 2:
        raise ValueError(f"a group is an even number of neighbours, not {group}")
    if ranges not in RANGES:
        raise ValueError(f"unknown way to find ranges {ranges!r}; choose from {', '.join(RANGES)}")
    if activations not in ACTIVATIONS:
        raise ValueError(f"activations {activations!r} is unknown; choose from {', '.join(ACTIVATIONS)}")
    if rounding not in ("nearest", "gptq"):
        raise ValueError(f"unknown rounding {rounding!r}; choose from nearest, gptq")
    if (activations == "static" or rounding == "gptq") and not batches:
        raise ValueError("static activations and gptq look at what flows through the model; give batches=[...]")
