"""generate: token ids in, token ids out; and the loop under all that writes."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from models.contract import Writer
from models.generate.constraints import Constraints
from models.generate.draft import Draft
from models.generate.rows import pad_left
from models.generate.sampling import Sampling, log_softmax
from nn import evaluating


class Step(NamedTuple):
    """What one step wrote, (B,) each: a token per row, its log-probability if asked for, and which rows are done."""

    tokens: np.ndarray
    log_probs: np.ndarray | None
    done: np.ndarray


def generate(
    model: Writer, ids, max_new_tokens: int = 50, *,
    temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None, min_p: float | None = None,
    typical_p: float | None = None, repetition_penalty: float = 1.0, presence_penalty: float = 0.0,
    no_repeat_ngram: int | None = None, samples: int = 1, beams: int = 1, length_penalty: float = 1.0,
    early_stopping: bool | str = False, end: int | tuple[int, ...] | None = None,
    until: Callable[[np.ndarray], np.ndarray] | None = None, past_context: str = "slide",
    source: np.ndarray | None = None, source_mask: np.ndarray | None = None, graph: bool = False,
    log_probs: bool = False, constraints: Constraints | None = None,
):  # fmt: skip
    """Continue each row of `ids` by up to `max_new_tokens` tokens.

    ids: (B, T) or (T,) token ids, T >= 1; or a list of B rows of unequal lengths.   samples: texts for each row.
    Returns (B * samples, T + new), or without B if ids had none and samples is 1; for unequal rows, a list of such
    rows, each its own prompt and what follows.   log_probs: return (that, (B * samples, new) log p of each new token).
    temperature ... no_repeat_ngram: see Sampling.   end ... graph: see `stream`. A row that is done before the others
    is filled up with its end.
    beams: with more than 1, beam search; see `beam_search` for length_penalty and early_stopping.
    constraints: what must and must not be written, see Constraints.
    """
    penalties = repetition_penalty, presence_penalty, no_repeat_ngram
    sampling = Sampling(temperature, top_k, top_p, min_p, typical_p, *penalties)
    if beams < 1:
        raise ValueError(f"beams must be at least 1, not {beams}; 1 draws one token after another")
    if beams > 1 and log_probs:
        raise ValueError("beam search scores whole texts: call beam_search for them, or leave out log_probs")
    lengths = mask = None
    if isinstance(ids, list) and len({np.shape(row) for row in ids}) > 1:
        lengths = [np.size(row) for row in ids]
        ids, mask = pad_left(ids)
    ids = np.asarray(ids)
    rows = np.atleast_2d(ids)
    draft = Draft(model, rows, mask, max_new_tokens, past_context, source, source_mask, graph)
    if beams > 1:
        from models.generate.beam import search  # who draws tokens one by one need not know of it

        new, _ = search(draft, sampling, max_new_tokens, beams, length_penalty, early_stopping, samples, end,
                        constraints)
    else:
        steps = list(steps_of(draft, sampling, max_new_tokens, samples, end, until, log_probs, constraints))
        none = np.zeros((len(rows) * samples, 0))
        new = np.stack([step.tokens for step in steps], axis=1) if steps else none.astype(rows.dtype)
        chances = np.stack([step.log_probs for step in steps], axis=1) if steps and log_probs else none
    texts = np.concatenate([np.repeat(rows, samples, axis=0), new], axis=1)
    if lengths:
        texts = [text[rows.shape[1] - lengths[row // samples] :] for row, text in enumerate(texts)]
    elif ids.ndim == 1 and samples == 1:
        texts, chances = texts[0], chances[0] if log_probs else None
    return (texts, chances) if log_probs else texts


def steps_of(
    draft: Draft, sampling: Sampling, max_new_tokens: int, samples: int = 1, end: int | tuple[int, ...] | None = None,
    until: Callable[[np.ndarray], np.ndarray] | None = None, log_probs: bool = False,
    constraints: Constraints | None = None,
) -> Iterator[Step]:  # fmt: skip
    """The loop itself: ask for scores, choose, append, up to `max_new_tokens` times. See `stream`."""
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    ends = np.atleast_1d([] if end is None else end).astype(int)
    done = np.zeros(len(draft.ids) * samples, bool)
    if constraints is not None:
        constraints.check(draft.model.config.vocab_size)
    with evaluating(draft.model):
        for number in range(max_new_tokens):
            scores = draft.scores()
            if number == 0 and samples > 1:
                each = np.repeat(np.arange(len(draft.ids)), samples)
                draft.select(each)
                scores = scores[each]
            penalized = sampling.penalize(scores, draft.ids, draft.mask, draft.prompt)
            if constraints is not None:
                penalized = constraints.constrain(penalized, draft, ends, done)
            tokens = sampling.choose(penalized)
            tokens = np.where(done, ends[0] if len(ends) else draft.ids[:, -1], tokens)
            chances = np.take_along_axis(log_softmax(scores), tokens[:, None], axis=1)[:, 0] if log_probs else None
            draft.append(tokens)
            done = done | np.isin(tokens, ends)
            if until is not None:
                done = done | until(draft.ids[:, draft.prompt :])
            yield Step(tokens, chances, done)
            if done.all():
                return
