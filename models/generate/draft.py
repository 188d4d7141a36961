"""Texts being written: their ids so far, the model's memory of them, and what happens where the memory ends."""

import numpy as np

from models.contract import Writer
from tinytensor import backend

PAST_CONTEXT = ("slide", "fail")


class Draft:
    """A batch of texts being written by one model.

    ids: (B, T), the texts so far.   mask: (B, T), False at padding on the left; None where there is none.
    scores() reads what is new and answers for the next token; append() adds the tokens chosen.
    """

    def __init__(self, model: Writer, ids: np.ndarray, mask: np.ndarray | None, max_new_tokens: int,
                 past_context: str = "slide", source: np.ndarray | None = None, source_mask: np.ndarray | None = None,
                 graph: bool = False):  # fmt: skip
        """past_context: "slide": where the context is full, the later half of it is read anew and writing goes on;
            "fail": refuse, before anything is written, what would not fit.
        source, source_mask: (B, S), what an encoder-decoder reads before it writes.
        graph: on a GPU, record the step from one token to the next and repeat it as a whole.
        """
        read = 0 if source is None else source.shape[1]
        check_prompt(model, ids, mask, max_new_tokens, past_context, read)
        self.model, self.ids, self.mask, self.step = model, ids, mask, model.step
        if graph:
            from models.generate.graph import RecordedStep
            self.step = RecordedStep(model, mask)
        self.prompts, self.prompt = ids.shape  # how many, how long
        self.source = {} if source is None else {"source": source, "source_mask": source_mask}
        longest = self.prompt + max_new_tokens
        self.capacity = longest if model.longest is None else min(model.longest - read, longest)
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
        self.read, scores = self.ids.shape[1], backend.to_numpy(scores)
        if not (scores < np.inf).all():
            raise ValueError("the scores of this model are NaN or infinite, as after a training that went wrong")
        return scores

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


def check_prompt(model: Writer, ids: np.ndarray, mask, max_new_tokens: int, past_context: str, read: int) -> None:
    """One sentence about the first thing that makes no sense, before any work is done."""
    if ids.ndim != 2 or ids.size == 0 or ids.dtype.kind not in "iu":
        raise ValueError(f"generation starts from rows of at least one id each, not {ids.dtype} of shape {ids.shape}")
    vocab_size, longest = model.config.vocab_size, model.longest and model.longest - read
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
        more = f"a prompt of {ids.shape[1]} tokens and {max_new_tokens} new ones are more than the context of {longest}"
        raise ValueError(f'{more}; ask for fewer, or let it slide with past_context="slide"')
