"""Bidirectional language modelling: predict the next word from those before, and each word from those after (ELMo).

The text is read as a stream: each row of a batch goes on where the same row of the batch before ended, so that a model
which carries its state along has read everything up to there, though gradients go back through one batch only. The
rows start at places evenly spread over the text and go round and round. The backward rows go the other way, from
places in between, so that no sentence is in both halves of a batch.

What a row reads is a function of the batch's number alone, so a resumed run goes on with the very same words.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.tokenizers.words import END, START, UNKNOWN
from tinytensor.ops.softmax import IGNORED
from train.objectives import Objective
from train.objectives.windows import even_starts

EVALUATED = 8  # windows of `context` that are evaluated in one go, after one to warm up


@dataclass(frozen=True)
class Bidirectional(Objective):
    """Cuts word ids (models/tokenizers/words.py) into batches for ELMo.

    A batch is {"ids": (B, T, M) characters, "targets": (B, T) the word after each, "back_ids": (B, T, M),
    "back_targets": (B, T) the word before each}.
    spelling: (words, M), the characters of every word by its id; vocab_size: the words from there on count as <UNK>.
    Where a sentence follows another, there is nothing to predict: the mark that begins it is no target.
    """

    context: int
    batch: int
    spelling: np.ndarray = field(repr=False)
    vocab_size: int

    one_shape = True

    def check(self, words: np.ndarray, what: str) -> None:
        if len(words) <= self.context:
            few = f"the {what} part has {len(words)} words, no more than one window of {self.context}"
            raise ValueError(f"{few}; give more --data or a smaller --context")

    def training_batch(self, words: np.ndarray, number: int) -> dict[str, np.ndarray]:
        rows, moved = np.arange(self.batch), number * self.context
        ahead = (rows * len(words)) // self.batch + moved
        back = ((2 * rows + 1) * len(words)) // (2 * self.batch) - moved
        steps = np.arange(self.context)
        return self._batch(words, ahead[:, None] + steps, back[:, None] + steps)

    def evaluation_batches(self, words: np.ndarray, limit: int | None = None) -> list[np.ndarray]:
        """The first places of stretches of EVALUATED windows, in groups of a batch."""
        return even_starts(len(words), EVALUATED * self.context, self.batch, limit)

    def evaluation_batch(self, words: np.ndarray, starts: np.ndarray) -> dict[str, np.ndarray]:
        """Each stretch with a window before it (for the backward rows: after it) that is read but does not count."""
        size, warm = EVALUATED * self.context, self.context
        ahead = starts[:, None] + np.arange(-warm, size)
        back = starts[:, None] + np.arange(0, size + warm)
        batch = self._batch(words, ahead, back)
        beyond = lambda places: (places < starts[:, None]) | (places >= np.minimum(starts + size, len(words))[:, None])
        batch["targets"][beyond(ahead)] = IGNORED
        batch["back_targets"][beyond(back)] = IGNORED
        return batch

    def _batch(self, words: np.ndarray, ahead: np.ndarray, back: np.ndarray) -> dict[str, np.ndarray]:
        """What stands at these places of the text, as characters, and as targets what stands beside them."""
        at = lambda places: np.asarray(words[places % len(words)]).astype(np.int64)
        targets = lambda ids, mark: np.where(ids == mark, IGNORED, np.where(ids < self.vocab_size, ids, UNKNOWN))
        ahead_targets, back_targets = targets(at(ahead + 1), START), targets(at(back - 1), END)
        ids, back_ids = self.spelling[at(ahead)], self.spelling[at(back)]
        return {"ids": ids, "targets": ahead_targets, "back_ids": back_ids, "back_targets": back_targets}
