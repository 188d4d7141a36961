"""Embedding: pick rows of a table; the gradient adds rows up by id.

np.add.at(dweight, ids, dy) says it in one line and took 1.3 to 11 times as long over the shapes measured. A product
with a one-hot matrix is faster while it is small (half the time for 384 ids of 65), and slower once it is not (5 times
for 1024 ids of 1024). Sorting with add.reduceat is level on few ids and takes 1.2 to 3 times as long on many.
"""

import numpy as np

from tinytensor.backend.cpu.arrays import as_rows

ONE_HOT_WORK = 16 << 20  # multiplications up to which the one-hot product is faster


def embedding(weight, ids):
    """y = weight[ids].  weight: (V, C); ids: integers of any shape.  Returns (*ids.shape, C)."""
    if weight.flags.f_contiguous:  # np.take would first copy the whole table
        return np.ascontiguousarray(weight[ids])
    return np.take(weight, ids, axis=0)


def id_outside(ids, count, ignored=None):
    """One of the ids that are neither in [0, count) nor `ignored`; None if there is none."""
    wrong = (ids < 0) | (ids >= count)
    if ignored is not None:
        wrong &= ids != ignored
    return int(ids[wrong][0]) if wrong.any() else None


def embedding_backward(dy, ids, rows, out=None):
    """dweight[i] = the sum of dy where ids == i.  dy: (*ids.shape, C).  Returns (rows, C), in `out` if given.

    ids must be in [0, rows).
    """
    dy, ids = as_rows(dy), np.asarray(ids).reshape(-1)
    if out is None:
        out = np.empty((rows, dy.shape[1]), dy.dtype)
    if rows * dy.size <= ONE_HOT_WORK:
        one_hot = np.zeros((rows, ids.size), dy.dtype)
        one_hot[ids, np.arange(ids.size)] = 1
        return np.matmul(one_hot, dy, out=out)
    out[...] = 0
    add_rows(out, ids, dy)
    return out


def add_rows(table, ids, rows):
    """table[ids[n]] += rows[n] for every n, where ids may repeat.

    Sorted by id, the rows to add up stand together, and a product with ones adds up a run in one call.
    """
    order = np.argsort(ids, kind="stable")
    ids, rows = ids[order], rows[order]
    starts = np.flatnonzero(np.diff(ids, prepend=ids[:1] - 1))  # prepend: the first row starts a run too
    stops = np.append(starts[1:], ids.size)
    sums, ones = np.empty((starts.size, rows.shape[1]), rows.dtype), np.ones(ids.size, rows.dtype)
    for total, start, stop in zip(sums, starts.tolist(), stops.tolist()):
        np.dot(ones[start:stop], rows[start:stop], out=total)
    table[ids[starts]] += sums
