"""Writing text: ask the model for the next token's scores, choose one, append it, and ask again.

Works over any model with `new_cache(batch, capacity)`, `step(ids, cache, mask)` and `config.vocab_size`; if there is a
longest input, it is `config.context`. The cache holds the keys and values of what was read, so each new token costs
one position's work instead of a whole sequence's. An encoder-decoder's new_cache also takes source= and source_mask=.

    sampling.py   from scores to the distribution one token is drawn from: temperature, top-k, nucleus, penalties, ...
    draft.py      the texts so far and the model's memory of them; unequal prompts; what happens past the context
    loop.py       generate and stream: ids in, ids out
    beam.py       beam search: keep the few most probable texts, not one
    text.py       write and stream_text: text in, text out, with stop strings
    answers.py    answer: text in, text out, for encoder-decoders
"""

from models.generate.answers import answer, answer_ids, answer_text
from models.generate.beam import beam_search
from models.generate.draft import pad_left
from models.generate.loop import Step, generate, stream
from models.generate.sampling import Sampling
from models.generate.text import stream_text, write

__all__ = [
    "Sampling", "Step", "answer", "answer_ids", "answer_text", "beam_search", "generate", "pad_left", "stream",
    "stream_text", "write",
]  # fmt: skip
