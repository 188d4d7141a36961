"""Files of pruned, shrunk and quantized models: what is in them says how the model must be made to fit.

A masked parameter is stored as the values that were kept, in order, and a bit per element that says which those are
("NAME.mask"), so that sparse weights are small on disk. A quantized layer has `codes` instead of a `weight`. A shrunk
layer has fewer rows. `load` takes a model of the full shape and changes its layers to what the file has.
"""

from __future__ import annotations

import numpy as np

from nn.attention import Attention
from nn.compression.quantize import fit_quantized
from nn.compression.surgery import ShrunkEmbedding, first_layers, keep_heads, keep_neurons, replace_modules
from nn.embedding import Embedding
from nn.module import Module, Parameter
from nn.transformer import FeedForward
from tinytensor import backend

MASK = ".mask"


def state(model: Module) -> dict[str, np.ndarray]:
    """Name -> array, for a file: state_dict, with masked parameters as their kept values and a mask of bits."""
    arrays = {}
    for name, parameter in model.named_parameters():
        array = backend.to_numpy(parameter.data)
        if parameter.mask is not None and not parameter.mask.all():
            mask = backend.to_numpy(parameter.mask)
            arrays[name + MASK] = np.packbits(mask, axis=-1)
            array = array[mask]
        arrays[name] = array
    return arrays


def load(model: Module, arrays: dict[str, np.ndarray]) -> None:
    """Give the model the weights of a file, and first the shapes, the kinds of layers and the masks they need."""
    fit(model, arrays)
    parameters = dict(model.named_parameters())
    values = {}
    for name, array in arrays.items():
        if name.endswith(MASK):
            continue
        if name + MASK in arrays and name in parameters:
            mask = backend.to_numpy(parameters[name].mask)
            if mask.sum() != array.size:
                raise ValueError(f"the mask of {name} keeps {mask.sum()} values, but the file has {array.size}")
            values[name] = np.zeros(mask.shape, array.dtype)
            values[name][mask] = array
        else:
            values[name] = array
    model.load_state_dict(values)


def fit(model: Module, arrays: dict[str, np.ndarray]) -> None:
    """Change the layers of a model of the full shape to those of a file's arrays; set the masks. Weights come later.

    Layers that are as in the file already stay, so that an optimizer that knows their parameters keeps them.
    """
    device = model.parameters()[0].device
    for name, module in list(model.named_modules()):
        if isinstance(module, Attention):
            layer, parts = ("q", 1) if module.qkv is None else ("qkv", 3)
            heads = (_rows(arrays, f"{name}.{layer}") or 0) // (parts * module.head_width)
            if 0 < heads < module.heads:
                keep_heads(module, np.arange(heads))
        elif isinstance(module, FeedForward):
            neurons = _rows(arrays, f"{name}.into") or 0
            if 0 < neurons < len(first_layers(module)[0].weight):
                keep_neurons(module, np.arange(neurons))
    names = {id(module): name for name, module in model.named_modules()}
    replace_modules(model, lambda module: _fitted(module, names.get(id(module), ""), arrays))
    for name, parameter in model.named_parameters():
        parameter.data = backend.to_device(parameter.data, device)
        bits = arrays.get(name + MASK)
        if bits is not None and bits.shape[:-1] == parameter.shape[:-1]:
            mask = np.unpackbits(bits, axis=-1, count=parameter.shape[-1]).astype(bool)
            parameter.mask = backend.to_device(mask, parameter.device)


def _rows(arrays: dict[str, np.ndarray], layer: str) -> int | None:
    """How many outputs a linear layer has in the file."""
    for name in (f"{layer}.weight{MASK}", f"{layer}.weight", f"{layer}.codes"):
        if name in arrays:
            return len(arrays[name])
    return None


def _fitted(module: Module, name: str, arrays: dict[str, np.ndarray]) -> Module:
    if f"{name}.place" in arrays and isinstance(module, Embedding):
        rows = arrays[f"{name}.rows{MASK}"].shape[0]
        return ShrunkEmbedding(Parameter(np.zeros((rows, module.weight.shape[1]), np.float32)), arrays[f"{name}.place"])
    return fit_quantized(module, name, arrays)
