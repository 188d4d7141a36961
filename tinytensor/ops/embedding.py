"""Embedding: a table with one row per token; looking a token up is reading its row."""

from __future__ import annotations

import numpy as np

from tinytensor.backend import backend_of, device_of, repeated
from tinytensor.tensor import Tensor, record


def embedding(weight: Tensor, ids) -> Tensor:
    """y = weight[ids].

    weight: (V, C); ids: (...) integers in [0, V).  Returns (..., C).
    dL/dweight[v] = the sum of dL/dy over all places where v was looked up; rows that were not are 0.
    """
    ids = ids.data if isinstance(ids, Tensor) else ids
    ids = ids if hasattr(ids, "dtype") else np.asarray(ids)
    rows = len(weight)
    if ids.dtype.kind not in "iu":
        raise ValueError(f"embedding: ids must be integers, not {ids.dtype}")
    unseen = repeated() and device_of(ids) == "cuda"  # to look at them would be to wait for the GPU
    if ids.size and not unseen and not (0 <= int(ids.min()) and int(ids.max()) < rows):
        wrong = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
        raise ValueError(f"embedding: id {wrong} is outside the table of {rows} rows (0..{rows - 1})")
    kernels = backend_of(weight.data)

    def backward(g):
        return (kernels.embedding_backward(g, ids, rows, out=weight.gradient_buffer()),)

    return record(kernels.embedding(weight.data, ids), (weight,), backward)
