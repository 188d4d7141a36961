"""The kernels for an NVIDIA GPU: CUDA C++ sources in cuda/, started through CuPy.

The same names with the same signatures as backend.cpu, and the same numbers up to rounding. They take float32, float64,
float16 and bfloat16 arrays (bfloat16 through ml_dtypes); sums are kept in float32 where the type is narrower. launch.py
says how a kernel is compiled and started, and how all of this is tested where there is no GPU.
"""

from tinytensor.backend.gpu.arrays import column_sums, embedding, embedding_backward, id_outside, tune_malloc
from tinytensor.backend.gpu.attention import attention, attention_backward, attention_step
from tinytensor.backend.gpu.cublas import matmul
from tinytensor.backend.gpu.experts import expert_linear, expert_linear_backward
from tinytensor.backend.gpu.layers import dropout, dropout_backward, gelu, gelu_backward, normalize, normalize_backward
from tinytensor.backend.gpu.lstm import lstm, lstm_backward
from tinytensor.backend.gpu.optimizer import adamw, sgd, squared_norm
from tinytensor.backend.gpu.quantized import int4_matmul, int8_matmul, pack_int4, unpack_int4, weight_matmul
from tinytensor.backend.gpu.softmax import (
    cross_entropy,
    cross_entropy_backward,
    linear_cross_entropy,
    linear_cross_entropy_backward,
    softmax,
    softmax_backward,
)
