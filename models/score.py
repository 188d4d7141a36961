"""How probable a text is to a model that writes from left to right, token by token."""

from typing import NamedTuple

import numpy as np

from models.contract import LeftToRight
from models.generate.sampling import log_softmax
from nn import evaluating
from tinytensor import backend, no_grad, ops

ROWS = 64  # positions whose scores over the whole vocabulary are held at once


class Scores(NamedTuple):
    """Of each token after the first, given those before it: log p in nats, and its rank among all tokens (1: first)."""

    log_probs: np.ndarray
    ranks: np.ndarray


def score(model: LeftToRight, ids) -> Scores:
    """Score a text of T >= 2 ids; the results have length T - 1.

    Past the context a window moves on by half of it, so every token is seen with at least half a context before it.
    Of a model that could read more, the context is how much it usually reads.
    """
    ids = np.asarray(ids)
    if ids.ndim != 1 or len(ids) < 2:
        raise ValueError(f"scoring needs a text of at least two tokens, not {len(ids) if ids.ndim == 1 else ids.shape}")
    context, table = model.longest or model.config.context, model.output_table
    log_probs, ranks, done = [], [], 1
    with evaluating(model), no_grad():
        while done < len(ids):
            start = 0 if done == 1 else done - max(1, context // 2)
            window = ids[start : start + context]
            hidden = model.hidden(window[None])[0]  # (T, C)
            for place in range(done - 1 - start, min(len(window), len(ids) - 1 - start), ROWS):
                stop = min(place + ROWS, len(window), len(ids) - 1 - start)
                logits = backend.to_numpy(ops.linear(hidden[place:stop], table, model.output_bias).data)
                target = ids[start + place + 1 : start + stop + 1, None]
                own = np.take_along_axis(logits, target, axis=1)
                log_probs.append(np.take_along_axis(log_softmax(logits), target, axis=1)[:, 0])
                ranks.append(1 + (logits > own).sum(axis=1))
            done = start + len(window) + 1
    return Scores(np.concatenate(log_probs), np.concatenate(ranks))
