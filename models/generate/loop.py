"""generate and stream: token ids in, token ids out; and Draft, the texts so far and the model's memory of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from models import tokenizers
from models.contract import Writer
from models.generate.sampling import Sampling, log_softmax
from nn import evaluating
from tinytensor import backend

PAST_CONTEXT = ("slide", "fail")


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
    log_probs: bool = False,
):  # fmt: skip
    """Continue each row of `ids` by up to `max_new_tokens` tokens.

    ids: (B, T) or (T,) token ids, T >= 1; or a list of B rows of unequal lengths.   samples: texts for each row.
    Returns (B * samples, T + new), or without B if ids had none and samples is 1; for unequal rows, a list of such
    rows, each its own prompt and what follows.   log_probs: return (that, (B * samples, new) log p of each new token).
    temperature ... no_repeat_ngram: see Sampling.   past_context, source, source_mask, graph: see Draft.
    end, until: see `stream`. A row that is done before the others is filled up with its end.
    beams: with more than 1, beam search; see `beam_search` for length_penalty and early_stopping.
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

        new, _ = search(draft, sampling, max_new_tokens, beams, length_penalty, early_stopping, samples, end)
    else:
        steps = list(stream(draft, sampling, max_new_tokens, samples, end, until, log_probs))
        none = np.zeros((len(rows) * samples, 0))
        new = np.stack([step.tokens for step in steps], axis=1) if steps else none.astype(rows.dtype)
        chances = np.stack([step.log_probs for step in steps], axis=1) if steps and log_probs else none
    texts = np.concatenate([np.repeat(rows, samples, axis=0), new], axis=1)
    if lengths:
        texts = [text[rows.shape[1] - lengths[row // samples] :] for row, text in enumerate(texts)]
    elif ids.ndim == 1 and samples == 1:
        texts, chances = texts[0], chances[0] if log_probs else None
    return (texts, chances) if log_probs else texts


def stream(
    draft: Draft, sampling: Sampling, max_new_tokens: int, samples: int = 1, end: int | tuple[int, ...] | None = None,
    until: Callable[[np.ndarray], np.ndarray] | None = None, log_probs: bool = False,
) -> Iterator[Step]:  # fmt: skip
    """The loop itself: ask for scores, choose, append; each step's tokens are yielded as soon as they are chosen.

    samples: how many texts for each row, one below the other; the prompt is read only once.
    end: the token (or several) that ends a row.   until: called with all new tokens so far (B, n), says which rows end.
        Rows that have ended are given `end` (or their last token) until all have, and then it stops.
    log_probs: by the model's own distribution. Draws come from this thread's stream (tinytensor.random).
    """
    if samples < 1:
        raise ValueError(f"samples must be at least 1, not {samples}")
    ends = np.atleast_1d([] if end is None else end).astype(int)
    done = np.zeros(len(draft.ids) * samples, bool)
    with evaluating(draft.model):
        for number in range(max_new_tokens):
            scores = draft.scores()
            if number == 0 and samples > 1:
                each = np.repeat(np.arange(len(draft.ids)), samples)
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


class Draft:
    """A batch of texts being written by one model.

    ids: (B, T), the texts so far.   mask: (B, T), False at padding on the left; None where there is none.
    scores() reads what is new and answers for the next token; append() adds the tokens chosen.
    """

    def __init__(
        self, model: Writer, ids: np.ndarray, mask: np.ndarray | None, max_new_tokens: int, past_context: str = "slide",
        source: np.ndarray | None = None, source_mask: np.ndarray | None = None, graph: bool = False,
    ):  # fmt: skip
        """past_context: "slide": where the context is full, the later half of it is read anew and writing goes on;
            "fail": refuse, before anything is written, what would not fit.
        source, source_mask: (B, S), what an encoder-decoder reads before it writes.
        graph: on a GPU, record the step from one token to the next and repeat it as a whole.
        """
        check_prompt(model, ids, mask, max_new_tokens, past_context)
        self.model, self.ids, self.mask, self.step = model, ids, mask, model.step
        if graph:
            from models.generate.graph import RecordedStep

            self.step = RecordedStep(model, mask)
        self.prompt = ids.shape[1]
        self.source = {} if source is None else {"source": source, "source_mask": source_mask}
        longest = self.prompt + max_new_tokens
        self.capacity = longest if model.longest is None else min(model.longest, longest)
        self._start_at(max(0, self.prompt - self.capacity))

    def _start_at(self, column: int) -> None:
        """Forget what was read and begin anew at this column."""
        self.start = self.read = column
        self.cache = self.model.new_cache(len(self.ids), self.capacity, **self.source)

    def scores(self) -> np.ndarray:
        """The scores of the next token, (B, V), after reading what was not read yet.

        Where that would not fit into the context, the later half of the context is read anew, and writing goes on.
        """
        if self.ids.shape[1] - self.start > self.capacity:
            self._start_at(self.ids.shape[1] - max(1, self.capacity // 2))
        mask = None if self.mask is None else self.mask[:, self.read :]
        scores = self.step(self.ids[:, self.read :], self.cache, mask)
        self.read = self.ids.shape[1]
        return backend.to_numpy(scores)

    def append(self, tokens: np.ndarray) -> None:
        self.ids = np.concatenate([self.ids, tokens[:, None]], axis=1)
        if self.mask is not None:
            self.mask = np.concatenate([self.mask, np.ones((len(tokens), 1), bool)], axis=1)

    def select(self, rows: np.ndarray) -> None:
        """Go on with these rows, in this order; a row may come several times."""
        self.ids = self.ids[rows]
        self.mask = None if self.mask is None else self.mask[rows]
        self.source = {name: array if array is None else array[rows] for name, array in self.source.items()}
        self.cache.select(rows)


def pad_left(rows: Sequence[Sequence[int]], pad: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows of ids of any lengths -> ids (B, T) and mask (B, T), False at the padding; no mask if none is needed.

    On the left, so that all texts end in the last column, where they go on.
    """
    rows = [np.asarray(row) for row in rows]
    if any(row.ndim != 1 or len(row) == 0 or row.dtype.kind not in "iu" for row in rows) or not rows:
        raise ValueError("generation starts from rows of at least one id each")
    mask = tokenizers.pad([np.ones(len(row), bool) for row in rows], False, left=True)
    return tokenizers.pad([row.astype(int) for row in rows], pad, left=True), None if mask.all() else mask


def check_prompt(model: Writer, ids: np.ndarray, mask, max_new_tokens: int, past_context: str) -> None:
    """One sentence about the first thing that makes no sense, before any work is done."""
    if ids.ndim != 2 or ids.size == 0 or ids.dtype.kind not in "iu":
        raise ValueError(f"generation starts from rows of at least one id each, not {ids.dtype} of shape {ids.shape}")
    vocab_size, longest = model.config.vocab_size, model.longest
    if ids.min() < 0 or ids.max() >= vocab_size:
        wrong = ids.min() if ids.min() < 0 else ids.max()
        raise ValueError(f"the prompt holds id {wrong}; the model knows ids 0..{vocab_size - 1}")
    if mask is not None and (mask.shape != ids.shape or mask.dtype != bool):
        raise ValueError(f"the mask must be boolean and {ids.shape} like the ids, not {mask.dtype} {mask.shape}")
    if mask is not None and not (mask[:, -1].all() and (mask[:, 1:] >= mask[:, :-1]).all()):
        raise ValueError("the padding of a prompt must stand on its left, before at least one id")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens must not be negative: {max_new_tokens}")
    if past_context not in PAST_CONTEXT:
        raise ValueError(f"unknown past_context {past_context!r}; choose from {', '.join(PAST_CONTEXT)}")
    if past_context == "fail" and longest is not None and ids.shape[1] + max_new_tokens > longest:
        raise ValueError(
            f"a prompt of {ids.shape[1]} tokens and {max_new_tokens} new ones are more than the context of {longest}; "
            'ask for fewer, or let it slide with past_context="slide"'
        )
