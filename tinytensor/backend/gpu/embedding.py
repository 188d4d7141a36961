"""Embedding: pick rows of a table; the gradient adds rows up by id, in one order and without atomics."""

from tinytensor.backend import array_module

from .arrays import integers, to_device_of
from .launch import blocks_for, c_name, launch
from .rows import as_rows


def embedding(weight, ids):
    """y = weight[ids].  weight: (V, C); ids: integers of any shape.  Returns (*ids.shape, C)."""
    return array_module(weight).take(weight, to_device_of(weight, ids), axis=0)


def embedding_backward(dy, ids, rows, out=None):
    """dweight[i] = the sum of dy where ids == i.  dy: (*ids.shape, C).  Returns (rows, C), in `out` if given.

    ids must be in [0, rows).
    """
    xp, dy, ids = array_module(dy), as_rows(dy), integers(dy, ids)
    if out is None:
        out = xp.empty((rows, dy.shape[1]), dy.dtype)
    out[...] = 0
    places = xp.argsort(ids, kind="stable")
    launch("embedding.cu", f"embedding_backward<{c_name(dy)}, {c_name(out)}>", (ids.size,),
           min(256, max(1, blocks_for(dy.shape[1], 32)) * 32), (dy, ids[places], places, out, ids.size, dy.shape[1]))
    return out
