"""Writing text: ask the model for the next token's scores, choose one, append it, and ask again.

Works over any Writer (models/contract.py). Its cache holds the keys and values of what was read, so each new token
costs one position's work instead of a whole sequence's.

    sampling.py   from scores to the distribution one token is drawn from: temperature, top-k, ...
    filters.py    the rarer options: nucleus and typical sampling, penalties
    constraints.py  what must and must not be written
    draft.py      the texts so far and the model's memory of them; unequal prompts; what happens past the context
    loop.py       generate: ids in, ids out;   streaming.py  one after another
    text.py       stream_text: text in, text out, with stop strings
    answers.py    write and answer: several texts, or one, as a whole
    beam.py       beam_search: keep the few most probable texts, not one
    graph.py      steps that a GPU repeats as a whole
"""

from models.generate.answers import answer, write
from models.generate.beam import beam_search
from models.generate.constraints import Constraints
from models.generate.loop import Step, generate
from models.generate.rows import pad_left
from models.generate.sampling import Sampling
from models.generate.streaming import stream
from models.generate.text import stream_text
