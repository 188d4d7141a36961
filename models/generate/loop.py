"""generate and stream: token ids in, token ids out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from models.generate.beam import beam_search
from models.generate.draft import Draft, pad_left
from models.generate.sampling import Sampling, log_softmax
from nn import Module, evaluating


class Step(NamedTuple):
    """What one step wrote, (B,) each: a token per row, its log-probability if asked for, and which rows are done."""

    tokens: np.ndarray
    log_probs: np.ndarray | None
    done: np.ndarray


def generate(
    model: Module,
    ids,
    max_new_tokens: int = 50,
    *,
    samples: int = 1,
    beams: int = 1,
    length_penalty: float = 1.0,
    early_stopping: bool | str = False,
    log_probs: bool = False,
    **how,
):
    """Continue each row of `ids` by up to `max_new_tokens` tokens.

    ids: (B, T) or (T,) token ids, T >= 1; or a list of B rows of unequal lengths.   samples: texts for each row.
    Returns (B * samples, T + new), or without B if ids had none and samples is 1; for unequal rows, a list of such
    rows, each its own prompt and what follows.   log_probs: return (that, (B * samples, new) log p of each new token).
    The other keywords are those of `stream` and the fields of Sampling: temperature, top_k, top_p, ... A row that is
    done before the others is filled up with its end.
    beams: with more than 1, beam search; see `beam_search` for length_penalty and early_stopping.
    """
    if beams < 1:
        raise ValueError(f"beams must be at least 1, not {beams}; 1 draws one token after another")
    single = not isinstance(ids, list) or not any(np.ndim(row) for row in ids)
    lengths = None
    if not single and len({np.shape(row) for row in ids}) > 1:
        lengths = [len(row) for row in ids]
        ids, how["mask"] = pad_left(ids)
    ids = np.asarray(ids)
    rows = np.atleast_2d(ids)
    if beams > 1:
        if log_probs:
            raise ValueError("beam search scores whole texts: call beam_search for them, or leave out log_probs")
        options = dict(length_penalty=length_penalty, early_stopping=early_stopping, returned=samples)
        written, _ = beam_search(model, rows, max_new_tokens, beams, **options, **how)
        chances = None
    else:
        steps = list(stream(model, rows, max_new_tokens, samples=samples, log_probs=log_probs, **how))
        empty = np.zeros((len(rows) * samples, 0))
        written = np.stack([step.tokens for step in steps], axis=1) if steps else empty.astype(rows.dtype)
        chances = np.stack([step.log_probs for step in steps], axis=1) if steps and log_probs else empty
    texts = np.concatenate([np.repeat(rows, samples, axis=0), written], axis=1)
    if lengths:
        texts = [text[rows.shape[1] - lengths[row // samples] :] for row, text in enumerate(texts)]
    elif ids.ndim == 1 and samples == 1:
        texts, chances = texts[0], chances[0] if log_probs else None
    return (texts, chances) if log_probs else texts


def stream(
    model: Module,
    ids: np.ndarray,
    max_new_tokens: int,
    *,
    mask: np.ndarray | None = None,
    samples: int = 1,
    end: int | tuple[int, ...] | None = None,
    until: Callable[[np.ndarray], np.ndarray] | None = None,
    past_context: str = "slide",
    source: np.ndarray | None = None,
    source_mask: np.ndarray | None = None,
    graph: bool = False,
    log_probs: bool = False,
    **how,
) -> Iterator[Step]:
    """Write, yielding each step's tokens as soon as they are chosen.

    ids: (B, T).   mask: (B, T), False at padding, which stands on the left (see pad_left).
    samples: how many texts for each row, one below the other; the prompt is read only once.
    end: the token (or several) that ends a row.   until: called with all new tokens so far (B, n), says which rows end.
        Rows that have ended are given `end` (or their last token) until all have, and then it stops.
    past_context: "slide": where the context is full, the later half of it is read anew and writing goes on;
        "fail": refuse, before anything is written, what would not fit.
    source, source_mask: (B, S), what an encoder-decoder reads.   log_probs: by the model's own distribution.
    graph: on a GPU, repeat a recorded step: see Draft.
    how: the fields of Sampling. Draws from this thread's stream (tinytensor.random).
    """
    sampling = Sampling(**how)
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    ends = np.atleast_1d([] if end is None else end).astype(int)
    draft = Draft(model, ids, mask, max_new_tokens, past_context, source, source_mask, graph)
    done = np.zeros(len(ids) * samples, bool)
    with evaluating(model):
        for number in range(max_new_tokens):
            scores = draft.scores()
            if number == 0 and samples > 1:
                each = np.repeat(np.arange(len(ids)), samples)
                draft.select(each)
                scores = scores[each]
            tokens = sampling.choose(sampling.penalize(scores, draft.ids, draft.mask, draft.prompt))
            tokens = np.where(done, ends[0] if len(ends) else draft.ids[:, -1], tokens)
            chances = np.take_along_axis(log_softmax(scores), tokens[:, None], axis=1)[:, 0] if log_probs else None
            draft.append(tokens)
            done = done | np.isin(tokens, ends)
            if until is not None:
                done = done | until(draft.ids[:, draft.prompt :])
            yield Step(tokens, chances, done)
            if done.all():
                return
