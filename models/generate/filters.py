"""The rarer options of sampling: penalties for what stands in the text, nucleus and typical sampling."""

import numpy as np


def penalized(
    scores: np.ndarray, ids: np.ndarray, mask: np.ndarray | None, prompt: int,
    repetition_penalty: float, presence_penalty: float, no_repeat_ngram: int | None,
) -> np.ndarray:  # fmt: skip
    """Sampling.penalize, where there is a penalty.

    repetition_penalty: Keskar et al. 2019 (CTRL, arXiv:1909.05858), section 4.1, over the whole text.
    presence_penalty: as in OpenAI's interface, over what was written after the prompt.
    """
    scores = scores.copy()
    # Padding stands for the row's last token, which is in the text anyway.
    real = ids if mask is None else np.where(mask, ids, ids[:, -1:])
    if repetition_penalty != 1:
        seen = np.take_along_axis(scores, real, axis=1)
        changed = np.where(seen < 0, seen * repetition_penalty, seen / repetition_penalty)
        np.put_along_axis(scores, real, changed, axis=1)
    if presence_penalty and ids.shape[1] > prompt:
        written = ids[:, prompt:]
        lowered = np.take_along_axis(scores, written, axis=1) - presence_penalty
        np.put_along_axis(scores, written, lowered, axis=1)
    if no_repeat_ngram is not None:
        for row in range(len(ids)):
            text = ids[row] if mask is None else ids[row, mask[row]]
            scores[row, repeating(text, no_repeat_ngram)] = -np.inf
        if (scores == -np.inf).all(axis=1).any():
            raise ValueError(f"every token would repeat {no_repeat_ngram} in a row; ask for fewer tokens")
    return scores


def repeating(text: np.ndarray, n: int) -> np.ndarray:
    """The tokens that would end a run of n tokens which the text holds already."""
    if len(text) < n:
        return text[:0]
    windows = np.lib.stride_tricks.sliding_window_view(text, n)
    tail = text[len(text) - n + 1 :]
    return windows[(windows[:, :-1] == tail).all(axis=1), -1]


def nucleus(p: np.ndarray, mass: float) -> np.ndarray:
    """The most probable tokens that have this mass (Holtzman et al. 2020, arXiv:1904.09751, section 3.1)."""
    # All tokens less probable than this have less than 1 - mass together, so none of them is in the nucleus.
    candidates = int((p >= (1 - mass) / p.shape[-1]).sum(axis=-1).max())
    return keep_mass(p, -p, mass, candidates)


def typical(p: np.ndarray, mass: float) -> np.ndarray:
    """The tokens whose surprise is nearest the expected surprise (Meister et al. 2023, arXiv:2202.00666)."""
    with np.errstate(divide="ignore"):
        surprise = -np.log(p)
    expected = (p * np.where(p > 0, surprise, 0)).sum(axis=-1, keepdims=True)
    return keep_mass(p, abs(surprise - expected), mass)


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
