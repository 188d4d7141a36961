"""The unicorns of GPT-2 (Radford et al. 2019, appendix): a prompt that nobody had written before, and what comes next.

OpenAI showed the best of ten tries, each token chosen among the 40 most probable. Here every try is shown, with the
perplexity that the model itself gives it, and the share of its words that are new: what repeats itself is probable.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import tinytensor as tt
from models.contract import LeftToRight
from models.generate import write
from models.score import score
from train import checkpoint
from train.data.corpus import open_corpus
from train.report import perplexity

PROMPT = (
    "In a shocking finding, scientist discovered a herd of unicorns living in a remote, previously unexplored valley, "
    "in the Andes Mountains. Even more surprising to the researchers was the fact that the unicorns spoke perfect "
    "English."
)


def tries(folder: Path, prompt: str | None, number: int, tokens: int, seed: int) -> Iterator[str]:
    """The prompt with its perplexity, then each continuation with its own, as they are written."""
    model, tokenizer = checkpoint.load_model(folder)
    if not isinstance(model, LeftToRight):
        raise ValueError(f"{folder} holds a {type(model).__name__}, which does not go on from a text; name a GPT")
    if prompt is None:
        prompt = PROMPT if checkpoint.family_in(folder) is None else own_prompt(folder, tokenizer)
    start = len(tokenizer.encode(prompt))
    if start < 2:
        raise ValueError(f"the prompt {prompt!r} is too short; give at least two tokens of text")
    model.for_inference()
    log_probs = lambda text: score(model, tokenizer.encode(text)).log_probs
    yield f"the prompt, {start} tokens of perplexity {perplexity(-log_probs(prompt).mean()):,.1f}:\n{prompt}"
    for attempt in range(number):
        tt.manual_seed(seed, attempt)
        text = write(model, tokenizer, prompt, tokens, top_k=40, end=tokenizer.end_id)[0]
        own, words = log_probs(prompt + text)[start - 1 :], re.findall(r"\w+", text.lower())
        new = f"{len(set(words)) / max(1, len(words)):.0%} of its words new"
        yield f"try {attempt + 1}, perplexity {perplexity(-own.sum() / max(1, own.size)):,.1f}, {new}:\n{text.strip()}"


def own_prompt(folder: Path, tokenizer) -> str:
    """The first sentences, of 60 tokens at most, of what a run was not shown."""
    text = tokenizer.decode(open_corpus(folder).val[:60].tolist()).strip()
    return text[: text.rfind(".") + 1] or text
