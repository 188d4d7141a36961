"""The CPU's kernels for floats of 16 bits: each computes in float32, on copies, and rounds its results once.

So does PyTorch. In float16 itself a sum of tenths stops growing at 256, and the square of 300 is infinite.
"""

import functools

import numpy as np

from tinytensor.backend import cpu


def in_float32(kernel, written=(0,)):
    """The kernel with the 16-bit arrays among its arguments as float32, and its results as they were.

    What it saves for backward, a tuple, stays in float32.   written: which results go into `out`, one array or several.
    """

    @functools.wraps(kernel)
    def call(*arguments, out=None, **options):
        narrow = next(a.dtype for a in (*arguments, *options.values()) if _is_array(a) and a.dtype.itemsize == 2)
        up = lambda a: a.astype(np.float32) if _is_array(a) and a.dtype == narrow else a
        down = lambda a: a.astype(narrow) if _is_array(a) and a.dtype == np.float32 else a
        results = kernel(*map(up, arguments), **{name: up(value) for name, value in options.items()})
        results = tuple(map(down, results)) if isinstance(results, tuple) else down(results)
        if out is not None:
            for place, index in zip([out] if _is_array(out) else out, written):
                place[...] = results[index] if isinstance(results, tuple) else results
        return results

    return call


def _is_array(value) -> bool:
    return isinstance(value, np.ndarray)


adamw, sgd, squared_norm, tune_malloc = cpu.adamw, cpu.sgd, cpu.squared_norm, cpu.tune_malloc
dropout, dropout_backward, embedding, id_outside = cpu.dropout, cpu.dropout_backward, cpu.embedding, cpu.id_outside
int4_matmul, int8_matmul, pack_int4, unpack_int4 = cpu.int4_matmul, cpu.int8_matmul, cpu.pack_int4, cpu.unpack_int4

attention, attention_step = in_float32(cpu.attention), in_float32(cpu.attention_step)
attention_backward = in_float32(cpu.attention_backward, written=(0, 1, 2))
cross_entropy, cross_entropy_backward = in_float32(cpu.cross_entropy), in_float32(cpu.cross_entropy_backward)
embedding_backward, matmul = in_float32(cpu.embedding_backward), in_float32(cpu.matmul)
gelu, gelu_backward = in_float32(cpu.gelu), in_float32(cpu.gelu_backward)
linear_cross_entropy = in_float32(cpu.linear_cross_entropy)
linear_cross_entropy_backward = in_float32(cpu.linear_cross_entropy_backward, written=(1,))
lstm, lstm_backward = in_float32(cpu.lstm), in_float32(cpu.lstm_backward)
normalize, normalize_backward = in_float32(cpu.normalize), in_float32(cpu.normalize_backward)
softmax, softmax_backward = in_float32(cpu.softmax), in_float32(cpu.softmax_backward)
