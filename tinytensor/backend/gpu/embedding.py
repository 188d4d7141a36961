"""Embedding: pick rows of a table; the gradient adds rows up by id, in one order and without atomics."""

from tinytensor.backend import array_module, cpu, device_of
from tinytensor.backend.gpu.arrays import as_rows, integers, to_device_of
from tinytensor.backend.gpu.capture import capture
from tinytensor.backend.gpu.launch import blocks_for, c_name, launch

SORTED_BY_RANK = 1 << 17  # up to so many ids


def embedding(weight, ids):
    """y = weight[ids].  weight: (V, C); ids: integers of any shape.  Returns (*ids.shape, C)."""
    return array_module(weight).take(weight, to_device_of(weight, ids), axis=0)


def id_outside(ids, count, ignored=None):
    """One of the ids that are neither in [0, count) nor `ignored`; None if there is none.

    Those on the GPU of a step that is to be repeated are not looked at: that would be to wait for the GPU.
    """
    unseen = capture.recorder and device_of(ids) == "cuda"
    return None if unseen else cpu.id_outside(ids, count, ignored)


def embedding_backward(dy, ids, rows, out=None):
    """dweight[i] = the sum of dy where ids == i: see backend.cpu.embedding_backward."""
    xp, dy, ids = array_module(dy), as_rows(dy), integers(dy, ids)
    if out is None:
        out = xp.empty((rows, dy.shape[1]), dy.dtype)
    out[...] = 0
    ids, places = sort_ids(ids, xp)
    launch("embedding.cu", f"embedding_backward<{c_name(dy)}, {c_name(out)}>", (ids.size,),
           min(256, max(1, blocks_for(dy.shape[1], 32)) * 32), (dy, ids, places, out, ids.size, dy.shape[1]))
    return out


def sort_ids(ids, xp):
    """(the ids in order, where each stood); equal ids stay in the order they had."""
    if ids.size > SORTED_BY_RANK:
        places = xp.argsort(ids, kind="stable")
        return ids[places], places
    ordered, places = xp.empty_like(ids), xp.empty_like(ids)
    launch("embedding.cu", "sort_ids<256>", (blocks_for(ids.size, 256),), 256, (ids, ordered, places, ids.size))
    return ordered, places
