"""A GPT with a longer context than it learned with, to go on learning from longer texts: its positions are stretched.

Learned positions: the table is drawn out over the new length, and rows between are mixed of their neighbours, as in
position interpolation (Chen et al. 2023, arXiv:2306.15595): new place p takes what stood at p * old / new. No place is
unknown to the model then, but near ones are harder to tell apart until it has learned anew.

Rotary positions: their base grows by (new / old)^(D / (D - 2)), so that the slowest pair of numbers turns over the new
length as far as over the old one, and the fastest, which tells neighbours apart, as fast as before ("NTK-aware").
"""

import dataclasses

import numpy as np

from models.gpt import GPT
from nn import Parameter, Rotary
from tinytensor import backend


def stretched(gpt: GPT, context: int) -> GPT:
    """The same model, changed: it reads up to `context` tokens."""
    old = gpt.config
    if context == old.context:
        return gpt
    if context < old.context:
        raise ValueError(f"--context {context} is not longer than the {old.context} that it has; leave it out")
    base = old.rotary
    if gpt.rotary:
        D = old.width // old.heads
        base = float(old.rotary * (context / old.context) ** (D / max(1, D - 2)))
        gpt.rotary = Rotary(D, base)
        for block in gpt.blocks:
            block.attention.rotary = gpt.rotary
    else:
        gpt.position_embedding.weight = Parameter(drawn_out(gpt.position_embedding.weight.data, context))
    gpt.config = dataclasses.replace(old, context=context, rotary=base)
    return gpt


def recomputing(gpt: GPT, recompute: bool) -> GPT:
    """The same model, which runs its blocks again in backward, or keeps what they computed."""
    gpt.config = dataclasses.replace(gpt.config, recompute=recompute)
    for block in gpt.blocks:
        block.attention.recompute = recompute
    return gpt


def drawn_out(table, length: int):
    """(T, C) -> (length, C): row p is what stands at place p * T / length, between two rows a mixture of them."""
    rows = backend.to_numpy(table)
    places = np.minimum(np.arange(length) * (len(rows) / length), len(rows) - 1)
    below = places.astype(int)
    above, share = np.minimum(below + 1, len(rows) - 1), (places - below)[:, None]
    mixed = rows[below] * (1 - share) + rows[above] * share
    return backend.beside(table, mixed.astype(rows.dtype))
