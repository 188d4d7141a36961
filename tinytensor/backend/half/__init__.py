"""The CPU's kernels for floats of 16 bits: each computes in float32, on copies, and rounds its results once.

So does PyTorch. In float16 itself a sum of tenths stops growing at 256, and the square of 300 is infinite.
"""

import functools
import inspect

import numpy as np

from tinytensor.backend import cpu


def in_float32(kernel, written=(0,)):
    """The kernel with the 16-bit arrays among its arguments as float32, and its results as they were.

    What it saves for backward, a tuple, stays in float32.   written: which results go into `out`, one array or several.
    """

    @functools.wraps(kernel)
    def call(*arguments, out=None, **options):
        arrays = [a for a in (*arguments, *options.values()) if isinstance(a, np.ndarray)]
        narrow = next(a.dtype for a in arrays if a.dtype.itemsize == 2)
        up = lambda a: a.astype(np.float32) if isinstance(a, np.ndarray) and a.dtype == narrow else a
        down = lambda a: a.astype(narrow) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a
        results = kernel(*map(up, arguments), **{name: up(value) for name, value in options.items()})
        results = tuple(map(down, results)) if isinstance(results, tuple) else down(results)
        if out is not None:
            for place, index in zip([out] if isinstance(out, np.ndarray) else out, written):
                place[...] = results[index] if isinstance(results, tuple) else results
        return results

    return call


AS_THEY_ARE = {"adamw", "sgd", "squared_norm", "tune_malloc", "dropout", "dropout_backward", "embedding", "id_outside",
               "int4_matmul", "int8_matmul", "pack_int4", "unpack_int4"}  # fmt: skip
WRITTEN = {"attention_backward": (0, 1, 2), "linear_cross_entropy_backward": (1,),
           "expert_linear_backward": (1,)}

for _name, _kernel in vars(cpu).items():
    if inspect.isfunction(_kernel):
        globals()[_name] = _kernel if _name in AS_THEY_ARE else in_float32(_kernel, WRITTEN.get(_name, (0,)))
