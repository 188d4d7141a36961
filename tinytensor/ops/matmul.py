"""Matrix products, where nearly all of a transformer's arithmetic happens, and the lookup of rows in a table.

A lookup is the product of a one-hot row with the table, without the multiplications by 0.
"""

import math

from tinytensor.backend import as_array, backend_of
from tinytensor.ops.basic import alike, check_alike, check_broadcast, check_fits, unbroadcast
from tinytensor.tensor import Tensor, raw, record


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b over the last two axes, the leading ones broadcast.

    a: (..., N, K); b: (..., K, M).  Returns (..., N, M). A 1-d operand is a row (left) or a column (right).
    dL/da = dL/dy @ b^T,   dL/db = a^T @ dL/dy
    """
    x, y = alike("matmul", a, b)
    if x.ndim == 0 or y.ndim == 0 or x.shape[-1] != y.shape[-2 if y.ndim > 1 else -1]:
        raise ValueError(f"matmul: shapes {x.shape} and {y.shape} do not fit: the inner lengths must be equal")
    check_broadcast("matmul", x.shape[:-2], y.shape[:-2])
    product = backend_of(x).matmul

    def backward(g):
        row, column = x.ndim == 1, y.ndim == 1
        left, right = x[None, :] if row else x, y[:, None] if column else y
        g = g[..., None] if column else g
        g = g[..., None, :] if row else g
        dx, dy = product(g, right.swapaxes(-1, -2)), product(left.swapaxes(-1, -2), g)
        return unbroadcast(dx, left.shape).reshape(x.shape), unbroadcast(dy, right.shape).reshape(y.shape)

    return record("matmul", product(x, y), (a, b), backward)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x @ weight^T + bias, the weight stored as (out, in).

    x: (..., in); weight: (out, in); bias: (out,).  Returns (..., out).
    dL/dx = dL/dy @ weight,   dL/dweight = dL/dy^T @ x,   dL/dbias = sum(dL/dy), over all rows
    """
    if weight.ndim != 2 or x.shape[-1:] != weight.shape[1:]:
        raise ValueError(f"linear: x {x.shape} must end in the length `in` of weight {weight.shape} = (out, in)")
    check_fits("linear", "bias", bias, weight.shape[:1], "weight", weight)
    check_alike("linear", x.data, weight.data)
    w = weight.data
    rows = x.data.reshape(math.prod(x.shape[:-1]), x.shape[-1])  # one product over all rows is the fastest
    kernels = backend_of(w)
    y = kernels.matmul(rows, w.T, bias=raw(bias))
    shape, needs_dx = x.shape, x.requires_grad

    def backward(g):
        g = g.reshape(len(rows), len(w))
        dx = kernels.matmul(g, w).reshape(shape) if needs_dx else None
        dw = kernels.matmul(g.T, rows, out=weight.gradient_buffer()) if weight.requires_grad else None
        db = kernels.column_sums(g) if bias is not None else None
        return dw, dx, db

    # The weight first: its gradient may lie in its buffer already, and must count before x's if both are one tensor.
    return record("linear", y.reshape(*shape[:-1], w.shape[0]), (weight, x, bias), backward)


def embedding(weight: Tensor, ids, padding_idx: int | None = None) -> Tensor:
    """y = weight[ids].

    weight: (V, C); ids: (...) integers in [0, V).  Returns (..., C).
    dL/dweight[v] = the sum of dL/dy over all places where v was looked up; rows that were not are 0, as is that of
    padding_idx, which does not learn.
    """
    ids, rows, kernels = as_array(raw(ids)), len(weight), backend_of(weight.data)
    if ids.dtype.kind not in "iu":
        raise ValueError(f"embedding: ids must be integers, not {ids.dtype}")
    if (wrong := kernels.id_outside(ids, rows)) is not None:
        raise ValueError(f"embedding: id {wrong} is outside the table of {rows} rows (0..{rows - 1})")

    def backward(g):
        dweight = kernels.embedding_backward(g, ids, rows, out=weight.gradient_buffer())
        if padding_idx is not None:
            dweight[padding_idx] = 0
        return (dweight,)

    return record("embedding", kernels.embedding(weight.data, ids), (weight,), backward)
