"""Writing text: ask the model for the next token's scores, choose one, append it, and ask again.

Works over any model with `new_cache(batch)`, `step(ids, cache)` and `config.context` (GPT has them). The cache holds
the keys and values of what was read, so each new token costs one position's work instead of a whole sequence's.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nn import Module
from tinytensor import backend, random


def generate(
    model: Module,
    ids,
    max_new_tokens: int = 50,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> np.ndarray:
    """Continue each row of `ids` by `max_new_tokens` tokens.

    ids: (B, T) or (T,) token ids, T >= 1.  Returns (B, T + max_new_tokens), or without B if ids had none.
    temperature: the logits are divided by it; 0 always takes the most probable token (greedy).
    top_k: choose among the k most probable tokens only.   top_p: choose among the fewest most probable tokens whose
    probabilities add up to p ("nucleus sampling", Holtzman et al. 2020, arXiv:1904.09751, section 3.1).
    Past the model's context it slides: the later half of the window is read anew and writing goes on.
    Draws from this thread's stream (tinytensor.random).
    """
    ids = np.asarray(ids)
    rows = np.atleast_2d(ids)
    chosen = list(stream(model, rows, max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p))
    rows = np.concatenate([rows, *(token[:, None] for token in chosen)], axis=1)
    return rows[0] if ids.ndim == 1 else rows


def stream(
    model: Module,
    ids: np.ndarray,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Iterator[np.ndarray]:
    """Like `generate`, for ids (B, T), yielding each step's tokens (B,) as soon as they are chosen."""
    check_options(model, ids, temperature, top_k, top_p)
    context = model.config.context
    training = model.training
    model.eval()
    try:
        cache, length = model.new_cache(len(ids)), 0
        window = fresh = ids[:, -context:]
        for _ in range(max_new_tokens):
            if length + fresh.shape[1] > context:  # slide: read the later half of the window anew
                fresh = window = window[:, -max(1, context // 2) :]
                cache, length = model.new_cache(len(ids)), 0
            logits = backend.to_numpy(model.step(fresh, cache))
            length += fresh.shape[1]
            token = choose(logits, temperature=temperature, top_k=top_k, top_p=top_p)
            yield token
            fresh = token[:, None]
            window = np.concatenate([window, fresh], axis=1)
    finally:
        model.train(training)


def choose(
    logits: np.ndarray, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> np.ndarray:
    """Draw one token per row from filtered, tempered logits.   (B, V) -> (B,)"""
    if temperature == 0:
        return logits.argmax(axis=-1)
    p = probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    # The inverse of the cumulative distribution at a uniform draw; rounding may leave its end just short of 1.
    ladder = p.cumsum(axis=-1)
    draw = random.generator().random((len(p), 1)) * ladder[:, -1:]
    return (ladder <= draw).sum(axis=-1)


def probabilities(
    logits: np.ndarray, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> np.ndarray:
    """softmax(logits / temperature), in float64, after all but the top k and the nucleus p are set to 0."""
    scores = logits.astype(np.float64) / temperature
    if top_k is not None and top_k < scores.shape[-1]:
        kth = np.partition(scores, -top_k, axis=-1)[:, -top_k, None]
        scores = np.where(scores >= kth, scores, -np.inf)
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    if top_p is not None and top_p < 1:
        order = np.argsort(-p, axis=-1, kind="stable")
        ranked = np.take_along_axis(p, order, axis=-1)
        before = ranked.cumsum(axis=-1) - ranked  # the mass ahead of each token: the first always stays
        ranked[before >= top_p] = 0
        np.put_along_axis(p, order, ranked / ranked.sum(axis=-1, keepdims=True), axis=-1)
    return p


def check_options(model: Module, ids: np.ndarray, temperature: float, top_k: int | None, top_p: float | None) -> None:
    """One sentence about the first option that makes no sense."""
    if ids.ndim != 2 or ids.size == 0 or ids.dtype.kind not in "iu":
        raise ValueError(f"generation starts from rows of at least one id each, not {ids.dtype} of shape {ids.shape}")
    vocab_size = model.config.vocab_size
    if ids.min() < 0 or ids.max() >= vocab_size:
        wrong = ids.min() if ids.min() < 0 else ids.max()
        raise ValueError(f"the prompt holds id {wrong}; the model knows ids 0..{vocab_size - 1}")
    if not temperature >= 0:
        raise ValueError(f"temperature {temperature} is not a number >= 0; 0 is greedy, 1 the model's own mixture")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k {top_k} leaves nothing to choose from; it must be at least 1")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p {top_p} must be in (0, 1]")
