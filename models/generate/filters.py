"""What the rarer options of sampling need: which tokens hold most of the probability, and which repeat the text."""

from __future__ import annotations

import numpy as np


def keep_mass(p: np.ndarray, order_by: np.ndarray, mass: float, candidates: int | None = None) -> np.ndarray:
    """Of each row the fewest tokens, in ascending order of order_by, that have this mass; the rest 0. (B, V) -> (B, V)

    candidates: how many of them come into question at most, which saves sorting the others.
    """
    V = p.shape[-1]
    candidates = V if candidates is None else min(V, candidates)
    first = np.argpartition(order_by, candidates - 1, axis=-1)[:, :candidates]
    first.sort(axis=-1)  # so that equals stand in the order of their ids
    order = np.argsort(np.take_along_axis(order_by, first, axis=-1), axis=-1, kind="stable")
    columns = np.take_along_axis(first, order, axis=-1)
    ranked = np.take_along_axis(p, columns, axis=-1)
    before = ranked.cumsum(axis=-1) - ranked  # the mass ahead of each token: the first always stays
    ranked[before >= mass] = 0
    kept = np.zeros_like(p)
    np.put_along_axis(kept, columns, ranked, axis=-1)
    return normalized(kept)


def normalized(p: np.ndarray) -> np.ndarray:
    return p / p.sum(axis=-1, keepdims=True)


def repeating(text: np.ndarray, n: int) -> np.ndarray:
    """The tokens that would end a run of n tokens which the text holds already."""
    if len(text) < n:
        return text[:0]
    windows = np.lib.stride_tricks.sliding_window_view(text, n)
    tail = text[len(text) - n + 1 :]
    return windows[(windows[:, :-1] == tail).all(axis=1), -1]
