"""Weights of models that were made smaller: in files of our own, and as those of an ordinary model, for all others.

A masked parameter is stored as the values that were kept, in order, and a bit per element that says which those are
("NAME.mask"), so that sparse weights are small on disk. A quantized layer has `codes` instead of a `weight`. A shrunk
layer has fewer rows. So what is in a file says how the model must be made to fit: `load` takes a model of the full
shape and changes its layers to what the file has. `plain_state` goes the other way: the weights with which an ordinary
model, as `transformers` has it, computes the same.
"""

from collections.abc import Sequence

import numpy as np

from nn.attention import Attention
from nn.compression import surgery
from nn.compression.lora import LoRALinear
from nn.compression.qat import TrainedQuantized
from nn.compression.quantize import Quantized, QuantizedLinear, QuantizedLSTM, fit_quantized
from nn.compression.surgery import ShrunkEmbedding, first_layers, projections, stretches
from nn.experts import Networks
from nn.layers import Embedding
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


def load(model: Module, arrays: dict[str, np.ndarray], assign: bool = False) -> None:
    """Give the model the weights of a file, and first the shapes, the kinds of layers and the masks they need.

    assign: as in load_state_dict.
    """
    fit(model, arrays)
    values = {name: array for name, array in arrays.items() if not name.endswith(MASK)}
    for name, parameter in model.named_parameters():
        if name in values and name + MASK in arrays:
            array, mask = values[name], backend.to_numpy(parameter.mask)
            if mask.sum() != array.size:
                raise ValueError(f"the mask of {name} keeps {mask.sum()} values, but the file has {array.size}")
            values[name] = np.zeros(mask.shape, array.dtype)
            values[name][mask] = array
    model.load_state_dict(values, assign)


def fit(model: Module, arrays: dict[str, np.ndarray]) -> None:
    """Change the layers of a model of the full shape to those of a file's arrays; set the masks. Weights come later.

    Layers that are as in the file already stay, so that an optimizer that knows their parameters keeps them.
    """
    device, names = model.parameters()[0].device, {id(module): name for name, module in model.named_modules()}
    for name, module in list(model.named_modules()):
        if isinstance(module, Attention):
            first, *others = projections(module)  # qkv; or q, and kv
            heads = _rows(arrays, names[id(first)]) // (module.head_width * (1 if others else 3))
            if 0 < heads < module.heads and module.groups == 1:
                surgery.keep_heads(module, np.arange(heads))
        elif isinstance(module, FeedForward):
            neurons = _rows(arrays, f"{name}.into")
            if 0 < neurons < len(first_layers(module)[0].weight):
                surgery.keep_neurons(module, np.arange(neurons))

    def fitted(module: Module) -> Module:
        name = names.get(id(module), "")
        if not isinstance(module, Embedding) or f"{name}.place" not in arrays:
            return fit_quantized(module, name, arrays)
        rows = np.zeros((len(arrays[f"{name}.rows{MASK}"]), module.weight.shape[1]), np.float32)
        return ShrunkEmbedding(Parameter(rows), arrays[f"{name}.place"])

    surgery.replace_modules(model, fitted)
    for name, parameter in model.named_parameters():
        parameter.data = backend.to_device(parameter.data, device)
        bits = arrays.get(name + MASK)
        if bits is not None and bits.shape == (*parameter.shape[:-1], -(-parameter.shape[-1] // 8)):
            mask = np.unpackbits(bits, axis=-1, count=parameter.shape[-1]).astype(bool)
            parameter.mask = backend.to_device(mask, parameter.device)


def _rows(arrays: dict[str, np.ndarray], layer: str) -> int:
    """How many outputs a linear layer has in the file, 0 if it is not there."""
    names = f"{layer}.weight{MASK}", f"{layer}.weight", f"{layer}.codes"
    return next((len(arrays[name]) for name in names if name in arrays), 0)


# Back to ordinary models, which others can read


def plain_state(model: Module, full: Module) -> dict[str, np.ndarray]:
    """The weights of `full`, an ordinary model of the same class, that make it compute what `model` does.

    model: pruned, shrunk, with adapters, or with weights as integers, in any combination.   full: only its shapes and
    names matter; it has at least as many heads and neurons in each layer. What `model` lost of them is filled up with
    zeros, also in the columns of `out` that read them, so that it adds nothing; biases that it does not have are zeros.
    ValueError, if layers round their inputs too, which no weights of an ordinary model do.
    """
    for module in model.modules():
        rounds = isinstance(module, QuantizedLinear) and module.input_scale is not None
        if rounds or isinstance(module, TrainedQuantized):
            raise ValueError(f"this {type(model).__name__} rounds what goes into its layers to 8 bits, which no "
                             "published model does; write the model it was made from, or quantize that with "
                             'activations="none"')
    weights = {name: backend.to_numpy(array) for name, array in model.state_dict().items()}
    names: dict[int, str] = {}
    for name, module in model.named_modules():
        names.setdefault(id(module), name)
        if isinstance(module, (ShrunkEmbedding, LoRALinear, Quantized)):
            weights[f"{name}.weight"] = backend.to_numpy(module.weight.data)
        if isinstance(module, LoRALinear) and module.bias is not None:
            weights[f"{name}.bias"] = backend.to_numpy(module.bias.data)
        if isinstance(module, QuantizedLSTM):
            weights |= {f"{name}.{part}": backend.to_numpy(array) for part, array in module.floats().items()}
    wholes = dict(full.named_modules())
    for name, module in model.named_modules():
        if isinstance(module, Attention):
            whole, D = wholes[name], wholes[name].head_width
            kept = weights.get(f"{name}.kept_heads", np.arange(module.heads))
            first, places, size = projections(module), stretches(kept, D), whole.heads * D
        elif isinstance(module, FeedForward):
            first, size = first_layers(module), len(first_layers(wholes[name])[0].weight)
            places = np.arange(len(weights[f"{names[id(first[0])]}.weight"]))
        else:
            continue
        if weights[f"{name}.out.weight"].shape[1] < size:
            _spread(weights, [names[id(layer)] for layer in first], f"{name}.out", places, size)
    zeros = {name: np.zeros(p.shape, p.dtype) for name, p in full.named_parameters() if name.endswith(".bias")}
    return zeros | {name: weights[name] for name in full.state_dict() if name in weights or name not in zeros}


def _spread(weights: dict[str, np.ndarray], first: Sequence[str], last: str, places: np.ndarray, size: int) -> None:
    """Put the rows of the layers `first` and the columns of `last` at these places of `size`, and zeros elsewhere."""
    for name in [f"{layer}.{part}" for layer in first for part in ("weight", "bias")]:
        if name in weights:
            parts = weights[name].reshape(-1, len(places), *weights[name].shape[1:])  # q, k, v one after the other
            whole = np.zeros((len(parts), size, *parts.shape[2:]), parts.dtype)
            whole[:, places] = parts
            weights[name] = whole.reshape(-1, *parts.shape[2:])
    columns = weights[f"{last}.weight"]
    weights[f"{last}.weight"] = np.zeros((len(columns), size), columns.dtype)
    weights[f"{last}.weight"][:, places] = columns


def most_neurons(model: Module) -> int:
    """The most neurons that any feed-forward network has, an expert's among them."""
    return max(first_layers(module)[0].weight.shape[0] if isinstance(module, FeedForward) else module.hidden
               for module in model.modules() if isinstance(module, (FeedForward, Networks)))


def heads_alike(model: Module) -> np.ndarray | None:
    """The numbers of the heads that are left, if some are lost, and the same in all attention of the model."""
    kept = {tuple(p.data.tolist()) for name, p in model.named_parameters() if name.endswith(".kept_heads")}
    counts = {module.heads for module in model.modules() if isinstance(module, Attention)}
    return np.array(kept.pop()) if len(kept) == len(counts) == 1 else None
