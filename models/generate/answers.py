"""answer: what an encoder-decoder writes for each of a few texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.generate.loop import generate
from models.tokenizers import Tokenizer
from nn import Module


def answer(model: Module, tokenizer: Tokenizer, inputs: Sequence[str], max_new_tokens: int = 100, **how) -> list[str]:
    """The answers to texts of any lengths; with samples=n (or samples=n, beams=m), n for each, one after another.

    Special tokens in them are read as such, so a T5 fills the gaps of "a <extra_id_0> dog".
    how: the keywords of `generate`: beams, temperature, top_p, ... Greedy if none is given.
    """
    if not all(inputs):
        raise ValueError("an input is empty; give at least one character")
    batch = tokenizer.prepare(list(inputs), special=True)
    written = answer_ids(model, batch.ids, batch.mask, max_new_tokens, **how)
    return [answer_text(row, tokenizer, model.config.eos_id) for row in written]


def answer_ids(model: Module, source: np.ndarray, mask: np.ndarray | None, max_new_tokens: int, **how) -> np.ndarray:
    """source, mask: (B, S).  Returns (B * samples, n), without the token that outputs start from."""
    if not how:
        how = {"temperature": 0}
    starts = np.full((len(source), 1), model.config.pad_id)
    end = model.config.eos_id
    return generate(model, starts, max_new_tokens, source=source, source_mask=mask, end=end, **how)[:, 1:]


def answer_text(ids: np.ndarray, tokenizer: Tokenizer, end: int | None = None) -> str:
    """The text of one row, up to the token `end`; padding and ids that are no token (targets that do not count) are
    left out."""
    ids = ids.tolist()
    ids = ids[: ids.index(end)] if end in ids else ids
    return tokenizer.decode([i for i in ids if 0 <= i < tokenizer.vocab_size and i != tokenizer.pad_id])
