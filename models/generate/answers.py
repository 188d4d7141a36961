"""write and answer: whole texts; a decoder goes on from prompts, an encoder-decoder replies to inputs."""

from collections.abc import Sequence

import numpy as np

from models.contract import Writer
from models.generate.constraints import Constraints
from models.generate.loop import generate
from models.generate.sampling import Sampling
from models.generate.text import cut, encoded, stop_strings, text_after
from models.tokenizers import Tokenizer


def write(
    model: Writer, tokenizer: Tokenizer, prompts: str | Sequence[str], max_new_tokens: int = 50, *,
    temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None, min_p: float | None = None,
    typical_p: float | None = None, repetition_penalty: float = 1.0, presence_penalty: float = 0.0,
    no_repeat_ngram: int | None = None, samples: int = 1, beams: int = 1, length_penalty: float = 1.0,
    early_stopping: bool | str = False, stop: str | Sequence[str] = (), end: int | tuple[int, ...] | None = None,
    past_context: str = "slide", graph: bool = False, constraints: Constraints | None = None,
) -> list[str]:  # fmt: skip
    """What the model writes after each prompt (the prompt itself not repeated); `samples` texts each, if asked for.

    stop: texts end before the first of these strings.   The other keywords are those of `generate`.
    """
    prompts, stop = [prompts] if isinstance(prompts, str) else list(prompts), stop_strings(stop)
    rows = [encoded(tokenizer, prompt) for prompt in prompts]
    ends = np.atleast_1d([] if end is None else end).tolist()
    starts = [row for row in rows for _ in range(samples)]
    said = lambda start, new: cut(text_after(tokenizer, start, new.tolist(), ends), stop)
    until = lambda new: np.array([said(start, row)[1] for start, row in zip(starts, new)])
    texts = generate(
        model, rows, max_new_tokens,
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, typical_p=typical_p,
        repetition_penalty=repetition_penalty, presence_penalty=presence_penalty, no_repeat_ngram=no_repeat_ngram,
        samples=samples, beams=beams, length_penalty=length_penalty, early_stopping=early_stopping, end=end,
        until=until if stop else None, past_context=past_context, graph=graph, constraints=constraints,
    )  # fmt: skip
    return [said(start, text[len(start) :])[0] for start, text in zip(starts, texts)]


def answer(
    model: Writer, tokenizer: Tokenizer, inputs: Sequence[str], max_new_tokens: int = 100, *,
    temperature: float | None = None, top_k: int | None = None, top_p: float | None = None,
    min_p: float | None = None, typical_p: float | None = None, repetition_penalty: float = 1.0,
    presence_penalty: float = 0.0, no_repeat_ngram: int | None = None, samples: int = 1, beams: int = 1,
    length_penalty: float = 1.0, early_stopping: bool | str = False, graph: bool = False,
    constraints: Constraints | None = None,
) -> list[str]:  # fmt: skip
    """The answers to texts of any lengths; with samples=n (or samples=n, beams=m), n for each, one after another.

    Special tokens in them are read as such, so a T5 fills the gaps of "a <extra_id_0> dog".
    The keywords are those of `generate`. Greedy if none is given; else a temperature of 1, where none is said.
    """
    if not all(inputs):
        raise ValueError("an input is empty; give at least one character")
    sampling = Sampling(1, top_k, top_p, min_p, typical_p, repetition_penalty, presence_penalty, no_repeat_ngram)
    if temperature is None:
        temperature = 0.0 if samples == beams == 1 and sampling == Sampling() else 1.0
    batch, config = tokenizer.prepare(list(inputs), special=True), model.config
    written = generate(
        model, np.full((len(batch.ids), 1), config.start_id), max_new_tokens,
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, typical_p=typical_p,
        repetition_penalty=repetition_penalty, presence_penalty=presence_penalty, no_repeat_ngram=no_repeat_ngram,
        samples=samples, beams=beams, length_penalty=length_penalty, early_stopping=early_stopping,
        end=config.eos_id, source=batch.ids, source_mask=batch.mask, graph=graph, constraints=constraints,
    )  # fmt: skip
    return [answer_text(row[1:], tokenizer, config.eos_id) for row in written]


def answer_ids(model: Writer, source: np.ndarray, mask: np.ndarray | None, max_new_tokens: int) -> np.ndarray:
    """The most probable token at each step.   source, mask: (B, S).  Returns (B, n), without the first, start_id."""
    starts, end = np.full((len(source), 1), model.config.start_id), model.config.eos_id
    return generate(model, starts, max_new_tokens, temperature=0, end=end, source=source, source_mask=mask)[:, 1:]


def answer_text(ids: np.ndarray, tokenizer: Tokenizer, end: int | None = None) -> str:
    """The text of one row, up to the token `end`; padding and ids that are no token (targets that do not count) are
    left out."""
    ids = ids.tolist()
    ids = ids[: ids.index(end)] if end in ids else ids
    return tokenizer.decode([i for i in ids if 0 <= i < tokenizer.vocab_size and i != tokenizer.pad_id])
