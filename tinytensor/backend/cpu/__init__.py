"""The kernels for the CPU, in NumPy: what is worth fusing, as plain functions of raw arrays.

They take and return float32 or float64 arrays and know nothing of Tensors or gradients; a forward kernel returns what
its backward kernel needs. All of it is single-core code without state: the trainer gives each worker thread or process
a share of the batch instead. backend.gpu has the same names with the same signatures.
"""

from tinytensor.backend.cpu.arrays import (
    column_sums,
    embedding,
    embedding_backward,
    id_outside,
    matmul,
    tune_malloc,
)
from tinytensor.backend.cpu.attention import attention, attention_backward, attention_step
from tinytensor.backend.cpu.dropout import dropout, dropout_backward
from tinytensor.backend.cpu.experts import expert_linear, expert_linear_backward
from tinytensor.backend.cpu.layers import gelu, gelu_backward, normalize, normalize_backward
from tinytensor.backend.cpu.lstm import lstm, lstm_backward
from tinytensor.backend.cpu.optimizer import adamw, squared_norm
from tinytensor.backend.cpu.quantized import int4_matmul, int8_matmul, pack_int4, unpack_int4, weight_matmul
from tinytensor.backend.cpu.sgd import sgd
from tinytensor.backend.cpu.softmax import (
    cross_entropy,
    cross_entropy_backward,
    linear_cross_entropy,
    linear_cross_entropy_backward,
    softmax,
    softmax_backward,
)
