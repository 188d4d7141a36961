"""Beam search: instead of one text, keep the `beams` most probable ones at every step.

Greedy writing can miss a text that begins with a less probable token and is more probable as a whole. A beam is a text
with the sum of its tokens' log-probabilities. Every step continues all beams by all tokens and keeps the best. A beam
that reaches the end token is finished and scored by its sum divided by length^length_penalty, since a sum alone favours
short texts. The rules for ties, for stopping and for what counts as finished are those of `transformers`.
"""

from dataclasses import dataclass, field

import numpy as np

from models.contract import Writer
from models.generate.constraints import Constraints
from models.generate.draft import Draft
from models.generate.sampling import Sampling, log_softmax
from nn import evaluating

NEVER = -1e9  # the score of a beam that must not be chosen


@dataclass
class Finished:
    """The best finished texts of one prompt, best first."""

    beams: int
    texts: list[tuple[float, np.ndarray]] = field(default_factory=list)
    open: bool = True  # whether a running beam may still become better than these

    def add(self, score: float, text: np.ndarray) -> None:
        self.texts.append((score, text))
        self.texts.sort(key=lambda item: -item[0])  # stable: of equal scores the older one stays ahead
        del self.texts[self.beams :]


def beam_search(
    model: Writer, ids: np.ndarray, max_new_tokens: int, beams: int = 4, *,
    repetition_penalty: float = 1.0, presence_penalty: float = 0.0, no_repeat_ngram: int | None = None,
    length_penalty: float = 1.0, early_stopping: bool | str = False, returned: int = 1,
    mask: np.ndarray | None = None, end: int | tuple[int, ...] | None = None, past_context: str = "slide",
    source: np.ndarray | None = None, source_mask: np.ndarray | None = None, graph: bool = False,
    constraints: Constraints | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The `returned` best continuations of each row of ids (B, T), best first.

    Returns (tokens (B * returned, new), filled up with the end token; scores (B * returned,)).
    repetition_penalty, presence_penalty, no_repeat_ngram: see Sampling.
    length_penalty: above 0 favours longer texts (scores are negative), below 0 shorter ones.
    early_stopping: True: stop as soon as `beams` texts are finished.   False: when no running beam, scored as if it
        ended now, is better than the worst of them.   "never": when none can become better, even at full length.
    The others are those of `generate`.
    """
    sampling = Sampling(1.0, None, None, None, None, repetition_penalty, presence_penalty, no_repeat_ngram)
    draft = Draft(model, ids, mask, max_new_tokens, past_context, source, source_mask, graph)
    return search(draft, sampling, max_new_tokens, beams, length_penalty, early_stopping, returned, end, constraints)


def search(
    draft: Draft, sampling: Sampling, max_new_tokens: int, beams: int, length_penalty: float,
    early_stopping: bool | str, returned: int, end, constraints: Constraints | None = None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The search itself. Of the sampling only the penalties have a meaning here."""
    check_options(sampling, beams, returned, early_stopping)
    if constraints is not None:
        constraints.check(draft.model.config.vocab_size)
    ends, ids = np.atleast_1d([] if end is None else end).astype(int), draft.ids
    B, K = len(ids), beams
    candidates = max(2, 1 + len(ends)) * K  # so that K of them go on, even if the best K all end here
    first_row = K * np.arange(B)[:, None]
    running = np.full((B, K), NEVER, np.float32)
    running[:, 0] = 0  # all beams of a prompt are the same text at first: only one of them counts
    finished = [Finished(K) for _ in range(B)]
    with evaluating(draft.model):
        for length in range(1, max_new_tokens + 1):
            scores = draft.scores()
            if length == 1:
                each = np.repeat(np.arange(B), K)
                draft.select(each)
                scores = scores[each]
            log_p = sampling.penalize(log_softmax(scores), draft.ids, draft.mask, draft.prompt)
            if constraints is not None:
                over = np.isin(draft.ids[:, draft.prompt :], ends).any(axis=1)  # beams that stay for want of others
                log_p = constraints.constrain(log_p, draft, ends, over)
            V = log_p.shape[-1]
            total = (running.reshape(B * K, 1) + log_p).reshape(B, K * V)
            best = top(total, min(candidates, K * V))  # (B, candidates), best first
            sums = np.take_along_axis(total, best, axis=1)
            parents, tokens = best // V, best % V
            ending = np.isin(tokens, ends) | (length == max_new_tokens)
            for row, found in enumerate(finished):
                for place in np.flatnonzero(found.open & ending[row, :K]):  # the others are there to go on only
                    text = draft.ids[row * K + parents[row, place], draft.prompt :]
                    found.add(sums[row, place] / length**length_penalty, np.append(text, tokens[row, place]))
            if length == max_new_tokens:
                break
            going_on = top(np.where(ending, sums + np.float32(NEVER), sums), K)
            running = np.take_along_axis(np.where(ending, NEVER, sums), going_on, axis=1).astype(np.float32)
            draft.select((first_row + np.take_along_axis(parents, going_on, axis=1)).reshape(-1))
            draft.append(np.take_along_axis(tokens, going_on, axis=1).reshape(-1))
            reach = max_new_tokens if early_stopping == "never" and length_penalty > 0 else length
            for row, found in enumerate(finished):
                hope = running[row, 0] / reach**length_penalty
                if len(found.texts) == K and (early_stopping is True or not hope > found.texts[-1][0]):
                    found.open = False
            if not any(found.open for found in finished):
                break
    texts = [item for found in finished for item in found.texts[:returned]]
    new = max((len(text) for _, text in texts), default=0)
    written = np.full((B * returned, new), ends[0] if len(ends) else 0, ids.dtype)
    for row, (_, text) in enumerate(texts):
        written[row, : len(text)] = text
    return written, np.array([score for score, _ in texts])


def top(scores: np.ndarray, k: int) -> np.ndarray:
    """The places of the k largest in each row, the largest first.   (B, N) -> (B, k)"""
    places = np.argpartition(-scores, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, places, axis=1), axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1)


def check_options(sampling: Sampling, beams: int, returned: int, early_stopping) -> None:
    if beams < 1 or not 1 <= returned <= beams:
        raise ValueError(f"beam search keeps at least 1 beam and returns 1 to all of them, not {returned} of {beams}")
    if early_stopping not in (True, False, "never"):
        raise ValueError(f'early_stopping must be True, False or "never", not {early_stopping!r}')
    plain, asked = vars(Sampling()), vars(sampling)
    for name in ("temperature", "top_k", "top_p", "min_p", "typical_p"):
        if asked[name] != plain[name]:
            raise ValueError(f"beam search draws nothing, so {name} has no meaning in it; leave it out")
