"""What a text must and must not say, whatever the model would rather write.

Applied after the penalties of Sampling and before anything is drawn, in the order of `transformers`, whose logits
processors these are: bad words, the least length, a function's choice, a forced beginning.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from models.tokenizers import Tokenizer


@dataclass(frozen=True)
class Constraints:
    """min_new_tokens: before so many are written, no text ends.
    bad_words: rows of ids that are never written in a row.
    begin: the ids that every text begins with, behind its prompt.
    allowed: (number of the prompt, the ids so far) -> the ids one of which comes next; so a text can be kept within a
        grammar, or a list of titles (De Cao et al. 2021, arXiv:2010.00904).
    written_penalty: as Sampling's repetition_penalty, but for what was written only, not for the prompt.
    """

    min_new_tokens: int = 0
    bad_words: Sequence[Sequence[int]] = ()
    begin: Sequence[int] = ()
    allowed: Callable[[int, np.ndarray], Sequence[int]] | None = None
    written_penalty: float = 1.0

    def __post_init__(self):
        if self.min_new_tokens < 0:
            raise ValueError(f"min_new_tokens must not be negative: {self.min_new_tokens}")
        if not 0 < self.written_penalty < np.inf:
            raise ValueError(f"written_penalty {self.written_penalty} must be above 0; 1 changes nothing")
        if not all(len(word) for word in self.bad_words):
            raise ValueError("an empty bad word would forbid everything; leave it out")

    def check(self, vocab_size: int) -> None:
        """ValueError, if there are ids that the model does not know."""
        known = range(vocab_size)
        if wrong := [i for ids in (self.begin, *self.bad_words) for i in ids if i not in known]:
            raise ValueError(f"the constraints hold id {wrong[0]}; the model knows ids 0..{vocab_size - 1}")

    def constrain(self, scores: np.ndarray, draft, ends: Sequence[int], over: np.ndarray) -> np.ndarray:
        """scores (B, V) of the texts of a Draft, -inf where a token must not come next.

        ends: the tokens that end a text.   over: (B,), the texts that have ended, about which no function is asked.
        """
        scores, written = scores.copy(), draft.ids.shape[1] - draft.prompt
        if self.written_penalty != 1 and written:
            ids = draft.ids[:, draft.prompt :]
            seen = np.take_along_axis(scores, ids, axis=1)
            seen = np.where(seen < 0, seen * self.written_penalty, seen / self.written_penalty)
            np.put_along_axis(scores, ids, seen, axis=1)
        for row in range(len(scores)) if self.bad_words or self.allowed else ():
            text = draft.ids[row] if draft.mask is None else draft.ids[row, draft.mask[row]]
            for *before, last in self.bad_words:
                if len(before) < len(text) and text[len(text) - len(before) :].tolist() == before:
                    scores[row, last] = -np.inf
            if self.allowed and not over[row]:
                only = list(self.allowed(row * draft.prompts // len(scores), text))
                scores[row] = np.where(np.isin(np.arange(scores.shape[1]), only), scores[row], -np.inf)
        if written < self.min_new_tokens:
            scores[:, list(ends)] = -np.inf
        if written < len(self.begin):
            scores[:] = -np.inf
            scores[:, self.begin[written]] = 0
        if ((scores == -np.inf).all(axis=1) & ~over).any():
            raise ValueError(f"the constraints leave no token to write at place {written + 1}; ask for fewer, or less")
        return scores


def of_texts(tokenizer: Tokenizer, bad_words: Sequence[str] = (), begin: str = "", **others) -> Constraints:
    """Constraints whose words are texts. A bad word is forbidden as it is encoded alone and behind a space."""
    spelled = [tokenizer.encode(text) for word in bad_words for text in (word, f" {word}")]
    if empty := [word for word in bad_words if not tokenizer.encode(word)]:
        raise ValueError(f"the bad word {empty[0]!r} has no token; leave it out")
    return Constraints(bad_words=spelled, begin=tokenizer.encode(begin) if begin else (), **others)
