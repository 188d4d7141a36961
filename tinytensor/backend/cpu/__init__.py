"""The kernels for the CPU, in NumPy: what is worth fusing, as plain functions of raw arrays.

They take and return float32 or float64 arrays and know nothing of Tensors or gradients; a forward kernel returns what
its backward kernel needs. All of it is single-core code without state: the trainer gives each worker thread or process
a share of the batch instead. backend.gpu has the same names with the same signatures.
"""

from .activation import gelu, gelu_backward
from .arrays import matmul, tune_malloc
from .attention import attention, attention_backward, attention_step
from .dropout import dropout, dropout_backward
from .embedding import embedding, embedding_backward, id_outside
from .losses import (
    cross_entropy,
    cross_entropy_backward,
    linear_cross_entropy,
    linear_cross_entropy_backward,
)
from .lstm import lstm, lstm_backward
from .norm import normalize, normalize_backward
from .optimizer import adamw, sgd, squared_norm
from .quantized import int4_matmul, int8_matmul, pack_int4, unpack_int4
from .softmax import log_softmax, log_softmax_backward, softmax, softmax_backward

__all__ = [
    "adamw", "attention", "attention_backward", "attention_step", "cross_entropy", "cross_entropy_backward",
    "dropout", "dropout_backward", "embedding", "embedding_backward", "gelu", "gelu_backward",
    "id_outside", "int4_matmul", "int8_matmul", "linear_cross_entropy", "linear_cross_entropy_backward",
    "log_softmax", "log_softmax_backward", "lstm", "lstm_backward", "matmul", "normalize", "normalize_backward",
    "pack_int4", "sgd", "softmax", "softmax_backward", "squared_norm", "tune_malloc", "unpack_int4",
]
