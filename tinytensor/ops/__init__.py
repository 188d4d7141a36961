"""The ops: differentiable functions of Tensors, each with its gradient beside it, one family a file."""

import functools
import inspect

from tinytensor.ops.activations import leaky_relu, relu, sigmoid, silu, softplus, tanh
from tinytensor.ops.attention import attention, self_attention
from tinytensor.ops.basic import add, astype, div, getitem, mul, neg, reshape, sub, swapaxes, to
from tinytensor.ops.checkpoint import checkpoint
from tinytensor.ops.conv import conv1d, conv1d_max, stretches, toeplitz
from tinytensor.ops.einsum import einsum
from tinytensor.ops.experts import combine, dispatch, expert_linear
from tinytensor.ops.layers import add_layer_norm, add_rms_norm, dropout, gelu, layer_norm, rms_norm
from tinytensor.ops.layout import chunk, flatten, repeat, tril, triu
from tinytensor.ops.losses import binary_cross_entropy, cross_entropy, mse_loss
from tinytensor.ops.maths import abs, clip, cos, exp, log, log1p, maximum, minimum, power, sin, sqrt, where
from tinytensor.ops.matmul import embedding, linear, matmul
from tinytensor.ops.recurrent import lstm
from tinytensor.ops.reduce import logsumexp, max, mean, min, sum, var
from tinytensor.ops.rounding import fake_quantize
from tinytensor.ops.shape import broadcast_to, concatenate, expand_dims, flip, pad, split, squeeze, stack, transpose
from tinytensor.ops.softmax import count_targets, linear_cross_entropy, log_softmax, softmax
from tinytensor.ops.sorting import argmax, argmin, argsort, gather, sort, take_along_axis, topk
from tinytensor.ops.totals import all, any, cumsum, prod, std

OUR_WORDS = {"dim": "axis", "dims": "axis", "keepdim": "keepdims"}


def _explained(op):
    """The op; called with PyTorch's word for one of its arguments, it says ours."""

    @functools.wraps(op)
    def call(*args, **options):
        try:
            return op(*args, **options)
        except TypeError:
            for theirs in OUR_WORDS.keys() & options:
                raise TypeError(f"{op.__name__}: {theirs!r} is called {OUR_WORDS[theirs]!r} here") from None
            raise

    return call


for _name, _op in list(globals().items()):
    if inspect.isfunction(_op) and "axis" in inspect.signature(_op).parameters:
        globals()[_name] = _explained(_op)
