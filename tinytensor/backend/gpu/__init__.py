"""The kernels for an NVIDIA GPU: CUDA C++ sources in cuda/, started through CuPy.

The same names with the same signatures as backend.cpu, and the same numbers up to rounding. They take float32, float64,
float16 and bfloat16 arrays (bfloat16 through ml_dtypes); sums are kept in float32 where the type is narrower. launch.py
says how a kernel is compiled and started, and how all of this is tested where there is no GPU.
"""

from .activation import gelu, gelu_backward
from .attention import attention, attention_backward, attention_step
from .cublas import matmul
from .dropout import dropout, dropout_backward
from .embedding import embedding, embedding_backward, id_outside
from .losses import (
    cross_entropy,
    cross_entropy_backward,
    linear_cross_entropy,
    linear_cross_entropy_backward,
)
from .lstm import lstm, lstm_backward
from .memory import tune_malloc
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
