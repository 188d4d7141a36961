"""stream_text: text in, text out, piece by piece. Here also live stop strings, which need not be whole tokens."""

from collections.abc import Iterator, Sequence

import numpy as np

from models.contract import Writer
from models.generate.constraints import Constraints
from models.generate.draft import Draft
from models.generate.loop import steps_of
from models.generate.sampling import Sampling
from models.tokenizers import Tokenizer

UNFINISHED = "\ufffd"  # what bytes decode to before the rest of their character is there


def stream_text(
    model: Writer, tokenizer: Tokenizer, prompt: str | Sequence[int], max_new_tokens: int = 50, *,
    temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None, min_p: float | None = None,
    typical_p: float | None = None, repetition_penalty: float = 1.0, presence_penalty: float = 0.0,
    no_repeat_ngram: int | None = None, stop: str | Sequence[str] = (), end: int | tuple[int, ...] | None = None,
    past_context: str = "slide", graph: bool = False, constraints: Constraints | None = None,
) -> Iterator[str]:  # fmt: skip
    """The continuation of one prompt, a text or its ids, piece by piece, as soon as it is certain.

    A piece is held back while its last bytes are no whole character, or while its end may be the beginning of a stop
    string. The keywords are those of `generate`.
    """
    penalties = repetition_penalty, presence_penalty, no_repeat_ngram
    sampling = Sampling(temperature, top_k, top_p, min_p, typical_p, *penalties)
    stop, start = stop_strings(stop), encoded(tokenizer, prompt)
    ends = np.atleast_1d([] if end is None else end).tolist()
    draft = Draft(model, np.array([start]), None, max_new_tokens, past_context, graph=graph)
    ids, shown, text = [], 0, ""
    for step in steps_of(draft, sampling, max_new_tokens, end=end, constraints=constraints):
        ids.append(int(step.tokens[0]))
        text, stopped = cut(text_after(tokenizer, start, ids, ends), stop)
        if stopped:
            break
        certain = len(text.rstrip(UNFINISHED)) - held_back(text, stop)
        if certain > shown:
            yield text[shown:certain]
            shown = certain
    if len(text) > shown:
        yield text[shown:]


def text_after(tokenizer: Tokenizer, start: list[int], new: list[int], ends: list[int]) -> str:
    """The text of the new ids, up to an end token, as it reads after the prompt."""
    for place, token in enumerate(new):
        if token in ends:
            new = new[:place]
            break
    new = [token for token in new if token < tokenizer.vocab_size]  # a model's table may have rows beyond the tokens
    # Decoded together: a tokenizer may put a space between two tokens that it would not put before the first.
    return tokenizer.decode(start + new)[len(tokenizer.decode(start)) :]


def cut(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text before the first stop string in it, and whether there was one."""
    places = [place for place in (text.find(one) for one in stop) if place >= 0]
    return (text[: min(places)], True) if places else (text, False)


def held_back(text: str, stop: Sequence[str]) -> int:
    """How many characters at the end of the text may be the beginning of a stop string."""
    return max((n for one in stop for n in range(1, len(one)) if text.endswith(one[:n])), default=0)


def stop_strings(stop: str | Sequence[str]) -> list[str]:
    stop = [stop] if isinstance(stop, str) else list(stop)
    if "" in stop:
        raise ValueError("an empty stop string would stop before the first token; leave it out")
    return stop


def encoded(tokenizer: Tokenizer, prompt: str | Sequence[int]) -> list[int]:
    ids = tokenizer.encode(prompt) if isinstance(prompt, str) else list(prompt)
    if not ids:
        raise ValueError(f"the prompt {prompt!r} is empty; give at least one character to go on from")
    return ids
