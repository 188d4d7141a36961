"""What a writer may write next: the likeliest continuations as a tree, each step with its highest scores.

The page draws tokens from them itself. What the scores of all other tokens add up to is kept for every temperature
that its slider has, so that its probabilities are the model's, though it holds a few hundred scores of each step.
"""

import numpy as np

from models.contract import Writer
from models.generate.draft import Draft
from models.generate.sampling import log_softmax

TOP, WIDTH, STEPS = 256, 12, 12
TEMPERATURES = np.arange(1, 41) / 20  # 0.05, 0.10, ... 2.00


def told(scores: np.ndarray) -> dict:
    """One step: the ids of the highest of scores (V,), those scores, and log(sum(exp(score / t))) of the rest by t."""
    order = np.argsort(-scores, kind="stable")
    top, rest = order[:TOP], scores[order[TOP:]].astype(np.float64)
    highest = rest.max(initial=-1e30)
    with np.errstate(divide="ignore", under="ignore"):
        sums = [np.log(np.exp((rest - highest) / t).sum()) + highest / t if len(rest) else -1e30 for t in TEMPERATURES]
    return dict(ids=top, scores=scores[top], rest=np.array(sums), others=len(rest), next={})


def continuations(model: Writer, start: np.ndarray, source: np.ndarray | None, end: int | None) -> list[dict]:
    """The tree as a list, the root first; `next` of a step: token -> the number of the step behind it.

    At each depth the WIDTH likeliest beginnings go on, each by its own WIDTH likeliest tokens at most.
    """
    steps = STEPS if model.longest is None else min(STEPS, model.longest - start.shape[1])
    draft = Draft(model, start, None, steps, source=source)
    nodes, row_of, log_p = [], [None], np.zeros(1)
    for depth in range(steps + 1):
        scores = draft.scores()
        for row, (before, token) in enumerate(zip(row_of, draft.ids[:, -1].tolist())):
            nodes.append(told(scores[row]) | dict(text=draft.ids[row, start.shape[1] :].tolist()))
            if before is not None:
                nodes[before]["next"][token] = len(nodes) - 1
        if depth == steps:
            break
        first, chances = len(nodes) - len(scores), log_p[:, None] + log_softmax(scores)
        if end is not None:
            chances[:, end] = -np.inf  # nothing follows
        best = np.argsort(-chances, axis=None, kind="stable")[:WIDTH]
        best = best[np.isfinite(chances.flat[best])]
        if not len(best):
            break
        rows, tokens = np.unravel_index(best, chances.shape)
        row_of, log_p = [first + row for row in rows.tolist()], chances[rows, tokens]
        draft.select(rows)
        draft.append(tokens)
    return nodes
