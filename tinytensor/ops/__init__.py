"""The ops: differentiable functions of Tensors, each with its gradient beside it, one family a file."""

from tinytensor.ops.attention import attention, self_attention
from tinytensor.ops.basic import add, astype, div, getitem, mul, neg, power, reshape, sub, swapaxes, take_along_axis, to
from tinytensor.ops.checkpoint import checkpoint
from tinytensor.ops.conv import conv1d, conv1d_max, toeplitz
from tinytensor.ops.layers import add_layer_norm, add_rms_norm, dropout, fake_quantize, gelu, layer_norm, rms_norm
from tinytensor.ops.maths import abs, clip, cos, exp, log, maximum, minimum, relu, sigmoid, silu, sin, sqrt, tanh, where
from tinytensor.ops.matmul import embedding, linear, matmul
from tinytensor.ops.recurrent import lstm
from tinytensor.ops.reduce import binary_cross_entropy, logsumexp, max, mean, min, mse_loss, sum, var
from tinytensor.ops.shape import broadcast_to, concatenate, expand_dims, flip, pad, split, squeeze, stack, transpose
from tinytensor.ops.softmax import count_targets, cross_entropy, linear_cross_entropy, log_softmax, softmax
