"""PyTorch's own table of layers and losses (ModuleInfo), each of its cases given to ours: values and gradients.

In float64 and float32, with strided and with large inputs. An adaptor says what of ours a module is and how its
parameters lie; a case that is not ours stands in REFUSED with its reason, and a module in ABSENT.
"""

import numpy as np
import pytest

from nn import LSTM, Attention, Block, Conv1d, Embedding, FeedForward, LayerNorm, Linear, Module, RMSNorm, Stream
from tests.helpers import assert_close
from tinytensor import Tensor, ops

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore::UserWarning")]  # of PyTorch, about its own ways

from torch.testing._internal.common_modules import module_db  # noqa: E402

# What a language model has no use for, by the beginning or end of its name.
ABSENT = {
    "pictures, and grids of any kind": "Conv2d Conv3d ConvTranspose Pool InstanceNorm BatchNorm GroupNorm "
                                       "LocalResponseNorm Softmax2d ReflectionPad ReplicationPad CircularPad "
                                       "Pad2d Pad3d",
    "layers whose shapes are found on the first call": "Lazy",
    "recurrent layers older than the LSTM": "RNN GRU",
    "activations that a line of ops makes": "CELU ELU GLU Hardshrink Hardswish Hardtanh LogSigmoid Mish PReLU ReLU6 "
                                            "SELU Softmin Softshrink Softsign Tanhshrink Threshold",
    "losses that a line of ops makes": "BCELoss CosineEmbeddingLoss GaussianNLLLoss HingeEmbeddingLoss HuberLoss "
                                       "KLDivLoss L1Loss MarginRankingLoss MultiLabelMarginLoss SmoothL1Loss "
                                       "MultiLabelSoftMarginLoss MultiMarginLoss NLLLoss PoissonNLLLoss SoftMarginLoss",
    "another family": "CTCLoss Bilinear",
}  # fmt: skip
REFUSED = {  # module: (which of its cases, why)
    "MultiheadAttention": (lambda c, f: c.kwargs["add_bias_kv"] or c.kwargs["add_zero_attn"],
                           "keys that stand for nothing are not added"),
    "LayerNorm": (lambda c, f: c.args[2:] == (False,), "it always scales"),
    "RMSNorm": (lambda c, f: c.args[2:] == (False,), "it always scales"),
    "LinearCrossEntropyLoss": (lambda c, f: f.args[1].is_floating_point() or c.kwargs["weight"] is not None
                               or c.kwargs["out_features"] != (), "the fused loss is of one class a row, unweighted"),
    "CrossEntropyLoss": (lambda c, f: (f.args[1] == c.kwargs.get("ignore_index", -100)).all(),
                         "the mean over no row is 0, not NaN"),
    "Softplus": (lambda c, f: c.args != (), "no beta and no threshold"),
    "Transformer": (lambda c, f: True, "it is its encoder's and decoder's layers, which are compared"),
}  # fmt: skip


class Copied:
    """A torch module's parameters and arguments as ours, so that their gradients can be compared afterwards."""

    def __init__(self, module):
        self.pairs, self.module = [], module

    def leaf(self, tensor):
        """An argument: integers and booleans as an array, numbers as a Tensor."""
        if tensor is None or not isinstance(tensor, torch.Tensor):
            return tensor
        array = tensor.detach().numpy()
        if not tensor.is_floating_point():
            return array
        ours = Tensor(array, requires_grad=tensor.requires_grad)
        self.pairs.append((lambda: [ours.grad], [tensor]))
        return ours

    def give(self, module: Module, names: dict[str, tuple]) -> Module:
        """Our parameter's name -> the torch parameters it is made of, one below the other."""
        for name, parameter in module.named_parameters():
            parts = names[name]
            parameter.data = np.concatenate([part.detach().numpy() for part in parts])
            self.pairs.append((lambda p=parameter, parts=parts: np.split(p.grad, len(parts)), parts))
        return module


def batched(x, first: bool = True, axes: int = 3):
    """(ours, whether it had no batch axis): our layers have one, and it comes first."""
    if x is None:
        return None
    if x.ndim == axes - 1:
        return x.expand_dims(0) if isinstance(x, Tensor) else x[None]
    return x if first else x.swapaxes(0, 1)


def unbatched(y, like, first: bool = True, axes: int = 3):
    return y.squeeze(0) if like.ndim == axes - 1 else y if first else y.swapaxes(0, 1)


def linear(m, copied, input):
    layer = Linear(m.in_features, m.out_features, m.bias is not None)
    return copied.give(layer, {"weight": (m.weight,), "bias": (m.bias,)})(copied.leaf(input))


def embedding(m, copied, ids):
    layer = Embedding(m.num_embeddings, m.embedding_dim, padding_idx=m.padding_idx)
    return copied.give(layer, {"weight": (m.weight,)})(copied.leaf(ids))


def norm(m, copied, x):
    made = LayerNorm(m.normalized_shape, m.bias is not None, m.eps) if isinstance(m, torch.nn.LayerNorm) else None
    made = made or RMSNorm(m.normalized_shape, m.eps)
    return copied.give(made, {"weight": (m.weight,), "bias": (vars(m)["_parameters"].get("bias"),)})(copied.leaf(x))


def conv1d(m, copied, x):
    options = dict(stride=m.stride[0], dilation=m.dilation[0], groups=m.groups)
    options["padding"] = m.padding if isinstance(m.padding, str) else m.padding[0]
    layer = copied.give(Conv1d(m.in_channels, m.out_channels, m.kernel_size[0], **options),
                        {"weight": (m.weight,), "bias": (m.bias,)})  # fmt: skip
    x = copied.leaf(x)
    return unbatched(layer(batched(x).swapaxes(1, 2)).swapaxes(1, 2), x)


def allowed(mask, padding, heads: int) -> dict:
    """Ours of PyTorch's masks: booleans that are True where it may not look, or numbers to be added."""
    how = {}
    if mask is not None and mask.dtype != bool:
        how["bias"] = mask.reshape(-1, heads, *mask.shape[1:]) if mask.ndim == 3 else mask
    elif mask is not None:
        how["mask"] = ~(mask.reshape(-1, heads, *mask.shape[1:]) if mask.ndim == 3 else mask[None, None])
    if padding is not None:
        seen = ~(padding if padding.ndim == 2 else padding[None])[:, None, None]
        how["mask"] = seen & how["mask"] if "mask" in how else seen
    return how


def attention_names(m, name: str = "", apart: bool = False) -> dict:
    """Of torch's one stacked product of q, k and v: ours, too, or of q apart from k and v."""
    C, names = m.embed_dim, {f"{name}out.weight": (m.out_proj.weight,), f"{name}out.bias": (m.out_proj.bias,)}
    if not apart:
        return names | {f"{name}qkv.weight": (m.in_proj_weight,), f"{name}qkv.bias": (m.in_proj_bias,)}
    for part, value in (("weight", m.in_proj_weight), ("bias", m.in_proj_bias)):
        if value is not None:
            names |= {f"{name}q.{part}": (Part(value, 0, C),), f"{name}kv.{part}": (Part(value, C, 3 * C),)}
    return names


class Part:
    """Some rows of a torch parameter, and of its gradient."""

    def __init__(self, whole, start: int, stop: int):
        self.whole, self.rows, self.requires_grad = whole, slice(start, stop), True

    def detach(self):
        return self.whole.detach()[self.rows]

    @property
    def grad(self):
        return self.whole.grad[self.rows]


def multihead(m, copied, query, key, value, key_padding_mask=None, attn_mask=None, **_):
    C, first = m.embed_dim, m.batch_first
    layer = Attention(C, m.num_heads, memory_width=C, bias=m.in_proj_bias is not None)
    copied.give(layer, attention_names(m, apart=True))
    q, k, v = (copied.leaf(x) for x in (query, key, value))
    mask = allowed(copied.leaf(attn_mask), copied.leaf(key_padding_mask), m.num_heads)
    y = layer(batched(q, first), memory=layer.keys_values(batched(k, first), batched(v, first)), **mask)
    return unbatched(y, q, first)


def block_of(m, copied, name: str = ""):
    """(our Block, the names of its parameters) of an encoder's or a decoder's layer."""
    C, hidden, biased = m.self_attn.embed_dim, m.linear1.out_features, m.linear1.bias is not None
    activation = {torch.nn.functional.relu: "relu", torch.nn.functional.gelu: "gelu"}[m.activation]
    decoder = isinstance(m, torch.nn.TransformerDecoderLayer)
    cross = Attention(C, m.self_attn.num_heads, memory_width=C, bias=biased) if decoder else None
    network = FeedForward(C, hidden, activation=activation, bias=biased)
    attention = Attention(C, m.self_attn.num_heads, bias=biased)
    norm = lambda: LayerNorm(C, biased, m.norm1.eps)
    block = Block(attention, network, norm, cross=cross, post_norm=not m.norm_first)
    norms = {"norm1": m.norm1, "norm2": m.norm2}
    norms = norms if not decoder else {"norm1": m.norm1, "cross_norm": m.norm2, "norm2": m.norm3}
    layers = norms | {"feed_forward.into": m.linear1, "feed_forward.out": m.linear2}
    names = {f"{part}.{one}": (getattr(layer, one),) for part, layer in layers.items() for one in ("weight", "bias")}
    names |= attention_names(m.self_attn, "attention.")
    names |= attention_names(m.multihead_attn, "cross.", apart=True) if decoder else {}
    return copied.give(block, names)


def encoder_layer(m, copied, src, src_mask=None, src_key_padding_mask=None, is_causal=False):
    return encoder_stack([m], copied, src, src_mask, src_key_padding_mask)


def encoder(m, copied, src, mask=None, src_key_padding_mask=None, is_causal=None):
    return encoder_stack(m.layers, copied, src, mask, src_key_padding_mask)


def encoder_stack(layers, copied, src, mask, padding):
    attention = layers[0].self_attn
    x, first = copied.leaf(src), attention.batch_first
    how, stream = allowed(copied.leaf(mask), copied.leaf(padding), attention.num_heads), Stream(batched(x, first))
    for layer in layers:
        stream = block_of(layer, copied)(stream, **how)
    return unbatched(stream.full, x, first)


def decoder_layer(m, copied, tgt, memory, tgt_mask=None, memory_mask=None, tgt_key_padding_mask=None,
                  memory_key_padding_mask=None, **_):  # fmt: skip
    H, first, x, source = m.self_attn.num_heads, m.self_attn.batch_first, copied.leaf(tgt), copied.leaf(memory)
    block = block_of(m, copied)
    own, other = (allowed(copied.leaf(mask), copied.leaf(padding), H)
                  for mask, padding in ((tgt_mask, tgt_key_padding_mask), (memory_mask, memory_key_padding_mask)))
    assert "bias" not in other  # a block adds none to its cross-attention
    seen = block.cross.keys_values(batched(source, first))
    return unbatched(block(Stream(batched(x, first)), memory=seen, memory_mask=other.get("mask"), **own).full, x, first)


def lstm(m, copied, x, state=None):
    layer = LSTM(m.input_size, m.hidden_size, m.num_layers, proj_size=m.proj_size, bidirectional=m.bidirectional,
                 bias=m.bias)  # fmt: skip
    copied.give(layer, {name: (p,) for name, p in m.named_parameters()})
    x = copied.leaf(x)
    start = None
    if state is not None:
        start = tuple(part if part.ndim == 3 else part.expand_dims(1) for part in map(copied.leaf, state))
    y, (h, c) = layer(batched(x, m.batch_first), start)
    ends = [end if x.ndim == 3 else end.squeeze(1) for end in (h, c)]
    return unbatched(y, x, m.batch_first), *ends


def lstm_cell(m, copied, x, state=None):
    layer = LSTM(m.input_size, m.hidden_size, bias=m.bias)
    copied.give(layer, {f"{name}_l0": (p,) for name, p in m.named_parameters()})
    x, start = copied.leaf(x), None if state is None else tuple(map(copied.leaf, state))
    flat = x.ndim == 1
    start = start and tuple(part.reshape(1, -1, part.shape[-1]) for part in start)
    _, (h, c) = layer(x.reshape(-1, 1, x.shape[-1]), start)
    return tuple(end.reshape(-1) if flat else end.squeeze(0) for end in (h, c))


def last(x):
    """Classes last, where PyTorch has them second."""
    return x if x.ndim < 2 else x.transpose(0, *range(2, x.ndim), 1)


def cross_entropy(m, copied, logits, target):
    target = last(copied.leaf(target)) if target.is_floating_point() else copied.leaf(target)
    how = dict(ignore_index=m.ignore_index, label_smoothing=m.label_smoothing, reduction=m.reduction)
    weight = m.weight if m.weight is None else m.weight.numpy()
    return ops.cross_entropy(last(copied.leaf(logits)), target, weight, **how)


def linear_cross_entropy(m, copied, x, target):
    weight, bias = map(copied.leaf, (m.linear.weight, m.linear.bias))
    how = dict(label_smoothing=m.label_smoothing, reduction=m.reduction)
    how |= {} if m.ignore_index is None else {"ignore_index": m.ignore_index}
    return ops.linear_cross_entropy(copied.leaf(x), weight, copied.leaf(target), bias, **how)


def binary_cross_entropy(m, copied, logits, target):
    weights = [one if one is None else one.numpy() for one in (m.weight, m.pos_weight)]
    return ops.binary_cross_entropy(copied.leaf(logits), copied.leaf(target), *weights, m.reduction)


def mse_loss(m, copied, x, target):
    return ops.mse_loss(copied.leaf(x), copied.leaf(target), m.reduction)


def constant_pad(m, copied, x):
    x = copied.leaf(x)
    return ops.pad(x, [(0, 0)] * (x.ndim - 1) + [tuple(m.padding)], m.value)


plain = lambda op: lambda m, copied, x: op(copied.leaf(x))
along = lambda op: lambda m, copied, x: op(copied.leaf(x), m.dim)
OURS = {
    "Linear": linear, "Embedding": embedding, "LayerNorm": norm, "RMSNorm": norm, "Conv1d": conv1d, "LSTM": lstm,
    "LSTMCell": lstm_cell, "MultiheadAttention": multihead, "TransformerEncoderLayer": encoder_layer,
    "TransformerEncoder": encoder, "TransformerDecoderLayer": decoder_layer, "CrossEntropyLoss": cross_entropy,
    "LinearCrossEntropyLoss": linear_cross_entropy, "BCEWithLogitsLoss": binary_cross_entropy, "MSELoss": mse_loss,
    "ConstantPad1d": constant_pad, "ZeroPad1d": constant_pad, "Softmax": along(ops.softmax),
    "LogSoftmax": along(ops.log_softmax), "ReLU": plain(ops.relu), "SiLU": plain(ops.silu), "Tanh": plain(ops.tanh),
    "Sigmoid": plain(ops.sigmoid), "Transformer": None,
    "GELU": lambda m, copied, x: ops.gelu(copied.leaf(x), m.approximate),
    "LeakyReLU": lambda m, copied, x: ops.leaky_relu(copied.leaf(x), m.negative_slope),
    "Softplus": lambda m, copied, x: ops.softplus(copied.leaf(x)),
}  # fmt: skip
DB = {info.name.removeprefix("nn."): info for info in module_db}


def test_every_module_of_the_table_is_ours_or_is_said_to_be_absent():
    unknown = [name for name in DB if name not in OURS and absence(name) is None]
    assert unknown == [] and OURS.keys() <= DB.keys()
    assert not [name for name in OURS if name in ("".join(ABSENT.values()).split())]


def absence(name: str) -> str | None:
    hit = lambda word: name.startswith(word) or (word in ("Pool", "Pad2d", "Pad3d") and word in name)
    return next((why for why, words in ABSENT.items() if any(map(hit, words.split()))), None)


def strided(tensor):
    """The same numbers, every second of a longer row."""
    if tensor.ndim == 0 or not tensor.is_floating_point():
        return tensor
    wide = torch.stack([tensor.detach(), tensor.detach()], dim=-1)[..., 0]
    return wide.requires_grad_(tensor.requires_grad)


VARIANTS = {  # the dtype, what becomes of the inputs, and how near ours must be
    "float64": (torch.float64, lambda x: x, 1e-9),
    "float32": (torch.float32, lambda x: x, 2e-5),
    "strided": (torch.float64, strided, 1e-9),
    "large": (torch.float64, lambda x: (x.detach() * 100).requires_grad_(x.requires_grad), 1e-9),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", OURS)
def test_every_case_of_a_module_has_the_value_and_the_gradients_of_ours(name, variant):
    dtype, change, tolerance = VARIANTS[variant]
    info, (refused, why) = DB[name], REFUSED.get(name, (lambda c, f: False, ""))
    compared = left_out = 0
    torch.manual_seed(0)
    for case in info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=True):
        made, given = case.constructor_input, case.forward_input
        if given is None or refused(made, given):
            left_out += given is not None
            continue
        module = info.module_cls(*made.args, **made.kwargs).to(dtype)
        arguments = [change(x) if isinstance(x, torch.Tensor) and x.is_floating_point() and n == 0 else x
                     for n, x in enumerate(given.args)]  # fmt: skip
        compare(name, module, arguments, given.kwargs, tolerance)
        compared += 1
    assert compared or why.startswith("it is its")
    assert bool(left_out) == bool(why)


def compare(name: str, module, arguments: list, keywords: dict, tolerance: float) -> None:
    module.train()
    copied = Copied(module)
    theirs = module(*arguments, **keywords)
    ours = OURS[name](module, copied, *arguments, **keywords)
    if name == "MultiheadAttention":
        theirs = theirs[0]
    flat = lambda found: [one for part in found for one in flat(part)] if isinstance(found, tuple) else [found]
    total = None
    for y, z in zip(flat(ours), flat(theirs), strict=True):
        assert_close(y.data, z.detach().numpy(), tolerance)
        g = np.random.default_rng(1).standard_normal(y.shape).astype(y.dtype)
        piece = (y * g).sum()
        total = piece if total is None else total + piece
    if not total.requires_grad:
        return
    total.backward()
    weights = [torch.tensor(np.random.default_rng(1).standard_normal(z.shape)).to(z.dtype) for z in flat(theirs)]
    sum((z * g).sum() for z, g in zip(flat(theirs), weights)).backward()
    for mine, parts in copied.pairs:
        for got, part in zip(mine(), parts):
            if part.requires_grad and part.grad is not None:
                assert_close(got, part.grad.numpy(), tolerance * 10)
