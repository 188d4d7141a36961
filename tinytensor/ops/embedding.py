"""Embedding: a table with one row per token; looking a token up is reading its row."""

from __future__ import annotations

from tinytensor.backend import as_array, backend_of
from tinytensor.tensor import Tensor, raw, record


def embedding(weight: Tensor, ids) -> Tensor:
    """y = weight[ids].

    weight: (V, C); ids: (...) integers in [0, V).  Returns (..., C).
    dL/dweight[v] = the sum of dL/dy over all places where v was looked up; rows that were not are 0.
    """
    ids, rows, kernels = as_array(raw(ids)), len(weight), backend_of(weight.data)
    if ids.dtype.kind not in "iu":
        raise ValueError(f"embedding: ids must be integers, not {ids.dtype}")
    if (wrong := kernels.id_outside(ids, rows)) is not None:
        raise ValueError(f"embedding: id {wrong} is outside the table of {rows} rows (0..{rows - 1})")

    def backward(g):
        return (kernels.embedding_backward(g, ids, rows, out=weight.gradient_buffer()),)

    return record("embedding", kernels.embedding(weight.data, ids), (weight,), backward)
