"""The ops: differentiable functions of Tensors, each with its gradient beside it, one family a file."""

from tinytensor.ops.attention import attention, self_attention
from tinytensor.ops.checkpoint import checkpoint
from tinytensor.ops.conv import conv1d, conv1d_max
from tinytensor.ops.elementwise import (
    abs,
    add,
    astype,
    clip,
    cos,
    div,
    dropout,
    exp,
    gelu,
    log,
    maximum,
    minimum,
    mul,
    neg,
    power,
    relu,
    sigmoid,
    silu,
    sin,
    sqrt,
    sub,
    tanh,
    to,
    where,
)
from tinytensor.ops.matmul import embedding, linear, matmul
from tinytensor.ops.norm import add_layer_norm, add_rms_norm, layer_norm, rms_norm
from tinytensor.ops.quantize import fake_quantize
from tinytensor.ops.recurrent import lstm
from tinytensor.ops.reduce import logsumexp, max, mean, min, sum, var
from tinytensor.ops.shape import (
    broadcast_to,
    concatenate,
    expand_dims,
    flip,
    getitem,
    pad,
    reshape,
    split,
    squeeze,
    stack,
    swapaxes,
    take_along_axis,
    toeplitz,
    transpose,
)
from tinytensor.ops.softmax import (
    binary_cross_entropy,
    count_targets,
    cross_entropy,
    linear_cross_entropy,
    log_softmax,
    mse_loss,
    softmax,
)
