"""stream: token ids in, token ids out, as soon as they are chosen."""

from collections.abc import Callable, Iterator

import numpy as np

from models.contract import Writer
from models.generate.constraints import Constraints
from models.generate.draft import Draft
from models.generate.loop import Step, steps_of
from models.generate.sampling import Sampling


def stream(
    model: Writer, ids: np.ndarray, max_new_tokens: int, *,
    temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None, min_p: float | None = None,
    typical_p: float | None = None, repetition_penalty: float = 1.0, presence_penalty: float = 0.0,
    no_repeat_ngram: int | None = None,
    mask: np.ndarray | None = None, samples: int = 1, end: int | tuple[int, ...] | None = None,
    until: Callable[[np.ndarray], np.ndarray] | None = None, past_context: str = "slide",
    source: np.ndarray | None = None, source_mask: np.ndarray | None = None, graph: bool = False,
    log_probs: bool = False, constraints: Constraints | None = None,
) -> Iterator[Step]:  # fmt: skip
    """Write, yielding each step's tokens as soon as they are chosen.

    ids: (B, T).   mask: (B, T), False at padding, which stands on the left (see pad_left).
    temperature ... no_repeat_ngram: see Sampling. Draws from this thread's stream (tinytensor.random).
    samples: how many texts for each row, one below the other; the prompt is read only once.
    end: the token (or several) that ends a row.   until: called with all new tokens so far (B, n), says which rows end.
        Rows that have ended are given `end` (or their last token) until all have, and then it stops.
    past_context: "slide": where the context is full, the later half of it is read anew and writing goes on;
        "fail": refuse, before anything is written, what would not fit.
    source, source_mask: (B, S), what an encoder-decoder reads.   log_probs: by the model's own distribution.
    graph: on a GPU, repeat a recorded step: see Draft.   constraints: what must and must not be written.
    """
    penalties = repetition_penalty, presence_penalty, no_repeat_ngram
    sampling = Sampling(temperature, top_k, top_p, min_p, typical_p, *penalties)
    draft = Draft(model, ids, mask, max_new_tokens, past_context, source, source_mask, graph)
    yield from steps_of(draft, sampling, max_new_tokens, samples, end, until, log_probs, constraints)
