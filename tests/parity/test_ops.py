"""Our ops on the cases PyTorch tests its own with: its table OpInfo, in float64 and float32, on integers and booleans,
on strided arrays, and on extreme inputs (infinities, NaN, numbers at the ends of their type, steep places).

A case is right if values, types and gradients are PyTorch's and the inputs are as they were. What we do not take is
refused with a sentence, and stands in REFUSED with the reason. A reason that no case needs is a mistake too.
"""

import functools
import re
import warnings

import numpy as np
import pytest

from tests.helpers import assert_close
from tinytensor import Tensor, ops

pytestmark = [pytest.mark.parity, pytest.mark.filterwarnings("ignore::RuntimeWarning")]  # NumPy's, about infinities
torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")  # which PyTorch's tables import


# ---- PyTorch's words for our arguments


def over(op):
    """A reduction. An empty tuple of axes is all of them to PyTorch, and none here, as in NumPy."""

    def call(x, dim=None, keepdim=False, dtype=None, **options):
        return op(of_type(x, dtype), dim if dim not in ((), []) else None, keepdim, **options)

    return call


def of_type(x, dtype):
    return x if dtype is None else ops.astype(x, str(dtype).removeprefix("torch."))


def product(x, *args, dtype=None, **options):
    return of_type(over(ops.prod)(of_type(x, dtype), *args, **options), dtype)


def spread(op):
    """torch.var and torch.std, whose correction is 1 by default."""

    def call(x, dim=None, unbiased=True, keepdim=False, correction=None):
        if isinstance(dim, bool):  # var(x, unbiased)
            dim, unbiased = None, dim
        return over(op)(x, dim, keepdim, correction=int(unbiased) if correction is None else correction)

    return call


def extreme(op, places, of_two):
    """torch.max and torch.min: of all elements, along an axis with the places, or of two tensors."""

    def call(x, dim=None, keepdim=False):
        if isinstance(dim, Tensor):
            return of_two(x, dim)
        return op(x) if dim is None else (op(x, dim, keepdim), places(x, dim, keepdim))

    return call


def scaled(op):
    return lambda a, b, alpha=1: op(a, b if alpha == 1 else b * alpha)


def clamp(x, low=None, high=None):
    """Between numbers this is ops.clip; between tensors, as in all of these cases, it is written so."""
    x = x if low is None else ops.maximum(x, low)
    return x if high is None else ops.minimum(x, high)


def swapped(op):
    return lambda a, b: op(b, a)


def pad(x, widths, mode="constant", value=None):
    pairs = [tuple(widths[i : i + 2]) for i in range(0, len(widths), 2)][::-1]
    value = int(value or 0) if x.dtype.kind in "ib" else value or 0  # 1.0 beside integers makes float32 of them here
    return ops.pad(x, [(0, 0)] * (x.ndim - len(pairs)) + pairs, value)


def expand(x, *shape):
    shape = shape[0] if isinstance(shape[0], tuple | list) else shape
    own = (None,) * (len(shape) - x.ndim) + x.shape
    return ops.broadcast_to(x, [mine if n == -1 else n for n, mine in zip(shape, own)])


def take_along(x, index, dim=None):
    return ops.take_along_axis(x.flatten(), index.flatten(), 0) if dim is None else ops.take_along_axis(x, index, dim)


def attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False):
    """PyTorch's causal queries are level with the first keys, ours with the last."""
    if dropout_p:
        raise ValueError("another stream of chance")
    if q.ndim == k.ndim == 3:
        return attention(q[None], k[None], v[None], attn_mask, dropout_p, is_causal)[0]
    if is_causal:
        attn_mask = Tensor(np.tri(q.shape[-2], k.shape[-2], dtype=bool))
    masked = attn_mask is not None and attn_mask.dtype == bool
    return ops.attention(q, k, v, mask=attn_mask if masked else None, bias=None if masked else attn_mask)


def normalized(op, default):
    """Over the axes of the weight, which has to be there where they are several."""

    def call(x, shape, *weights, eps=default):
        weights = weights or ((Tensor(np.ones(shape, x.dtype)),) if len(shape) > 1 else ())
        return op(x, *weights, eps=np.finfo(x.dtype).eps if eps is None else eps)

    return call


def with_last_classes(x):
    """PyTorch's axis of classes is the second, or the only one; ours the last."""
    return x.transpose(0, *range(2, x.ndim), 1) if x.ndim > 1 else x


def cross_entropy(x, targets, weight=None, **options):
    soft = targets.dtype.kind == "f"
    return ops.cross_entropy(with_last_classes(x), with_last_classes(targets) if soft else targets, weight, **options)


def linear_cross_entropy(x, matrix, targets, weight=None, linear_bias=None, **options):
    """The matrix of classes may have further axes in front, which PyTorch's logits then have behind the classes."""
    if weight is None and matrix.ndim == 2 and targets.dtype.kind == "i":
        return ops.linear_cross_entropy(x, matrix, targets, bias=linear_bias, **options)
    logits = ops.linear(x, matrix.flatten(0, -2), None if linear_bias is None else linear_bias.flatten())
    logits = logits.reshape(*x.shape[:-1], *matrix.shape[:-1])
    return cross_entropy(logits, targets, weight, **options)


def conv1d(x, weight, bias=None, stride=(1,), padding=0, dilation=1, groups=1):
    alone = lambda value: value[0] if isinstance(value, tuple | list) else value
    if x.ndim == 2:
        return conv1d(x[None], weight, bias, stride, padding, dilation, groups)[0]
    y = ops.conv1d(x.swapaxes(1, 2), weight, bias, stride=alone(stride), padding=alone(padding),
                   dilation=alone(dilation), groups=groups)  # fmt: skip
    return y.swapaxes(1, 2)


OURS = {
    "abs": ops.abs, "neg": ops.neg, "exp": ops.exp, "log": ops.log, "log1p": ops.log1p, "sqrt": ops.sqrt,
    "sin": ops.sin, "cos": ops.cos, "tanh": ops.tanh, "sigmoid": ops.sigmoid, "nn.functional.relu": ops.relu,
    "nn.functional.silu": ops.silu, "nn.functional.gelu": ops.gelu, "nn.functional.softplus": ops.softplus,
    "nn.functional.leaky_relu": ops.leaky_relu, "clamp": clamp,
    "add": scaled(ops.add), "sub": scaled(ops.sub), "mul": ops.mul, "div": ops.div, "true_divide": ops.div,
    "pow": ops.power, "rsub": lambda a, b, alpha=1: b - (a if alpha == 1 else a * alpha),
    "__radd__": swapped(lambda a, b: a + b), "__rsub__": swapped(lambda a, b: a - b),
    "__rmul__": swapped(lambda a, b: a * b), "__rdiv__": swapped(lambda a, b: a / b),
    "__rpow__": swapped(lambda a, b: a**b), "__rmatmul__": swapped(lambda a, b: a @ b),
    "maximum": ops.maximum, "minimum": ops.minimum, "where": lambda a, condition, b: ops.where(condition, a, b),
    "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b, "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b, "bitwise_not": lambda a: ~a,
    "bitwise_and": lambda a, b: a & b, "bitwise_or": lambda a, b: a | b, "bitwise_xor": lambda a, b: a ^ b,
    "__rand__": swapped(lambda a, b: a & b), "__ror__": swapped(lambda a, b: a | b),
    "__rxor__": swapped(lambda a, b: a ^ b),
    "sum": over(ops.sum), "mean": over(ops.mean), "amax": over(ops.max), "amin": over(ops.min), "all": over(ops.all),
    "any": over(ops.any), "logsumexp": over(ops.logsumexp), "argmax": over(ops.argmax), "argmin": over(ops.argmin),
    "prod": product, "var": spread(ops.var), "std": spread(ops.std),
    "max": extreme(ops.max, ops.argmax, ops.maximum), "min": extreme(ops.min, ops.argmin, ops.minimum),
    "cumsum": lambda x, dim, dtype=None: ops.cumsum(of_type(x, dtype), dim),
    "softmax": lambda x, dim, dtype=None: ops.softmax(of_type(x, dtype), dim),
    "log_softmax": lambda x, dim, dtype=None: ops.log_softmax(of_type(x, dtype), dim),
    "reshape": ops.reshape, "view": ops.reshape, "permute": ops.transpose, "transpose": ops.swapaxes,
    "flatten": lambda x, start_dim=0, end_dim=-1: ops.flatten(x, start_dim, end_dim), "squeeze": ops.squeeze,
    "unsqueeze": ops.expand_dims, "broadcast_to": ops.broadcast_to, "expand": expand, "T": lambda x: x.T,
    "cat": lambda tensors, dim=0: ops.concatenate(tensors, dim),
    "stack": lambda tensors, dim=0: ops.stack(tensors, dim),
    "split_with_sizes": ops.split, "split": ops.split, "chunk": ops.chunk,
    "flip": lambda x, dims: ops.flip(x, dims), "tril": ops.tril, "triu": ops.triu, "repeat": ops.repeat,
    "nn.functional.pad": pad, "constant_pad_nd": lambda x, widths, value=0: pad(x, widths, value=value),
    "__getitem__": ops.getitem, "gather": ops.gather, "take_along_dim": take_along,
    "sort": lambda x, dim=-1, descending=False, stable=True: ops.sort(x, dim, descending),
    "argsort": lambda x, dim=-1, descending=False, stable=True: ops.argsort(x, dim, descending),
    "topk": lambda x, k, dim=-1, largest=True, sorted=True: ops.topk(x, k, dim, largest),
    "matmul": ops.matmul, "mm": ops.matmul, "bmm": ops.matmul, "mv": ops.matmul, "dot": ops.matmul,
    "einsum": lambda tensors, subscripts: ops.einsum(subscripts, *tensors),
    "nn.functional.linear": ops.linear, "nn.functional.embedding": ops.embedding,
    "nn.functional.layer_norm": normalized(ops.layer_norm, 1e-5),
    "nn.functional.rms_norm": normalized(ops.rms_norm, None),
    "nn.functional.scaled_dot_product_attention": attention, "nn.functional.conv1d": conv1d,
    "nn.functional.cross_entropy": cross_entropy, "nn.functional.linear_cross_entropy": linear_cross_entropy,
    "nn.functional.mse_loss": ops.mse_loss,
    "nn.functional.binary_cross_entropy_with_logits": ops.binary_cross_entropy,
}  # fmt: skip

# Kinds of PyTorch's functions that are other functions here, or none.
OTHERS = {"trunc_rounding", "floor_rounding", "reflect", "replicate", "replicate_negative", "circular", "complex",
          "chunked", "chunked_none"}

REFUSED = {
    "__rpow__": {"Integers to negative integer powers": "the result is a fraction; PyTorch rounds it to 0"},
    "cat": {
        r"shapes .* differ outside": "an empty vector fits nothing; PyTorch lets it pass for old code's sake",
        "float64 and float16 do not mix": "nothing changes its type unseen"},
    "clamp": {"do not mix": "nothing changes its type unseen"},
    "constant_pad_nd": {"must not be negative": "indexing cuts elements off"},
    "gather": {"with axes as those": "PyTorch passes over other shapes where there is nothing to take"},
    "logsumexp": {"nothing to add up": "a sum of nothing has no logarithm; PyTorch's is -inf"},
    "nn.functional.pad": {"must not be negative": "indexing cuts elements off"},
    "nn.functional.scaled_dot_product_attention": {
        r"must be \(B, H, T, D\)": "heads have an axis of their own",
        "another stream": "dropout draws its mask from another stream"},
    "squeeze": {"has length 5, not 1": "PyTorch leaves the axis as it is, and the mistake unseen"},
    "where": {"not complex128": "no complex numbers here"},
}  # fmt: skip

KINDS = {"float64": torch.float64, "float32": torch.float32, "strided": torch.float64, "extreme": torch.float64,
         "integers": torch.int64, "booleans": torch.bool}  # fmt: skip
AXIS_OF_PLACES = {"sort": 0, "argsort": 0, "topk": 1}  # whose last result is places, along this of their arguments
LARGEST = 10_000  # elements of an input; PyTorch's large ones only take long


@functools.cache
def table() -> dict:
    from torch.testing._internal.common_methods_invocations import op_db

    return {name: [op for op in op_db if op.name == name and op.variant_test_name not in OTHERS] for name in OURS}


def cases(op, kind: str):
    dtype = KINDS[kind]
    if dtype not in op.dtypes:
        return
    make = op.reference_inputs if kind == "extreme" else op.sample_inputs
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own
        try:
            made = list(make("cpu", dtype, requires_grad=dtype.is_floating_point and op.supports_autograd))
        except ValueError:  # PyTorch cannot make integers among them that need gradients
            made = list(make("cpu", dtype, requires_grad=False))
    for sample in made:
        arrays = [x for x in (sample.input, *sample.args) if isinstance(x, torch.Tensor)]
        if all(x.numel() <= LARGEST for x in arrays):
            yield sample.noncontiguous() if kind == "strided" else sample


@pytest.mark.parametrize("name", OURS)
def test_values_types_and_gradients_are_pytorchs(name):
    needed, compared = set(), 0
    for op in table()[name]:
        for kind in KINDS:
            for sample in cases(op, kind):
                try:
                    compared += compare(op, sample)
                except (ValueError, TypeError) as error:
                    reasons = [words for words in REFUSED.get(name, ()) if re.search(words, str(error))]
                    if not reasons:
                        raise AssertionError(f"{op.formatted_name}, {kind}: {shown(sample)}: {error}") from error
                    needed.update(reasons)
                except AssertionError as error:
                    raise AssertionError(f"{op.formatted_name}, {kind}: {shown(sample)}: {error}") from error
    assert compared > 0 and needed == set(REFUSED.get(name, ()))


def compare(op, sample) -> bool:
    """Theirs and ours on one case; False where PyTorch itself has no answer."""
    pairs = []  # (ours, theirs, what was in it)

    def twins(value):
        """(theirs, ours): leaves of the same layout over the same memory, wherever a tensor stands."""
        if isinstance(value, torch.Tensor):
            leaf = value.detach().requires_grad_(value.requires_grad)
            made = Tensor(leaf.detach().numpy(), requires_grad=leaf.requires_grad)
            pairs.append((made, leaf, value.detach().clone()))
            return leaf, made
        if isinstance(value, tuple | list):
            both = [twins(part) for part in value]
            return type(value)(a for a, _ in both), type(value)(b for _, b in both)
        return value, value

    args, options = twins((sample.input, *sample.args)), {word: twins(v) for word, v in sample.kwargs.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = listed(op.op(*args[0], **{word: value for word, (value, _) in options.items()}))
    if theirs == [NotImplemented]:
        return False
    mine = listed(OURS[op.name](*args[1], **{word: value for word, (_, value) in options.items()}))
    assert [x.shape for x in mine] == [tuple(x.shape) for x in theirs]
    assert [str(x.dtype) for x in mine] == [str(x.dtype).removeprefix("torch.") for x in theirs]
    assert [x.requires_grad for x in mine] == [x.requires_grad for x in theirs]
    for x, right in zip(mine, theirs):
        if op.name in AXIS_OF_PLACES and x is mine[-1]:  # PyTorch chooses freely among equals: look at what is there
            place = AXIS_OF_PLACES[op.name] + 1
            axis = args[1][place] if len(args[1]) > place else options.get("dim", (-1, -1))[1]
            x, right = (ops.take_along_axis(args[1][0], places, axis) for places in (x, right.numpy()))
            right = torch.from_numpy(right.data)
        assert_close(x.data, right.detach().numpy(), 1e-5 if x.dtype == np.float32 else 1e-9)
    draw = lambda x: np.random.default_rng(1).uniform(0.5, 1.5, x.shape).astype(x.dtype)
    starts = [(x, right, draw(x)) for x, right in zip(mine, theirs) if x.requires_grad]
    leaves = [(x, leaf) for x, leaf, _ in pairs if leaf.requires_grad]
    if starts:
        rights = torch.autograd.grad([right for _, right, _ in starts], [leaf for _, leaf in leaves],
                                     [torch.from_numpy(start) for _, _, start in starts], allow_unused=True)
        for x, _, start in starts:
            x.backward(start, retain_graph=True)
        for (x, _), right in zip(leaves, rights):
            right = np.zeros(x.shape) if right is None else right.numpy()
            got = np.zeros(x.shape) if x.grad is None else x.grad
            assert_close(got, right, 5e-5 if x.dtype == np.float32 else 1e-9)  # sums of products of up to 80
    for x, _, before in pairs:
        np.testing.assert_array_equal(x.data, before.numpy())
    return True


def listed(value) -> list:
    return list(value) if isinstance(value, tuple | list) else [value]


def shown(value) -> str:
    """A case in a few words."""
    if isinstance(value, torch.Tensor):
        return f"{tuple(value.shape)} {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, str | int | float | None | slice | type(...) | torch.dtype):
        return repr(value)
    return f"{shown((value.input, *value.args))} {({word: shown(v) for word, v in value.kwargs.items()})}"
