"""What the parts of the house may ask of one another: what a model, a body, a writer promises.

Whoever is given a model knows from this page alone what it can do; nobody looks for attributes to find out. A class
says what it keeps by naming these Protocols among its bases, and inherits what most of its kind answer. What differs
from family to family stands in models/families.py; what differs from task to task in train/tasks.

A batch is a dict of arrays with the batch axis first. B rows, T (or S) tokens, C width, V vocabulary, K answers.
"""

from typing import Any, ClassVar, Protocol, runtime_checkable

from nn import DecoderCache
from tinytensor import Tensor, ops
from tinytensor.ops.softmax import IGNORED


class StaticBatch(dict):
    """A batch whose arrays have the same shapes and places in every step, so that a CUDA graph can repeat the step. Its
    values are not known while it is recorded: whoever chooses by them (which rows have a target) must take all instead.
    """


@runtime_checkable
class Model(Protocol):
    """What can be trained, evaluated, made smaller and taught: a pretrained model, or a body under a task's head."""

    config: Any  # its frozen dataclass; of a body under a head, the body's
    answers_are_numbers: ClassVar[bool] = False  # regression: scores are the numbers themselves, not scores of choices
    repeatable: bool = False  # whether `loss` computes a StaticBatch in the same way, whatever is in it

    def counts(self, batch: dict) -> dict[str, int]:
        """How many predictions or rows each part of the loss is a mean over, the main part first; there may be none."""
        return {"targets": ops.count_targets(batch["targets"]), "rows": len(batch["targets"])}

    def divisors(self, *batches: dict) -> dict[str, int]:
        """What the sums of several batches are divided by to be the loss of the one batch they make up."""
        counts = [self.counts(batch) for batch in batches]
        return {part: max(1, sum(one.get(part, 0) for one in counts)) for part in counts[0]}

    def loss(self, batch: dict, counts: dict[str, int] | None = None) -> Tensor:
        """The mean loss, a scalar; in training with everything that is added to it (penalties, balance of experts).

        counts: what to divide the sums by, if not by the batch's own `divisors`: those of the whole it is a part of.
        """

    def scores(self, batch: dict) -> Tensor:
        """(..., K): the score of every answer to every question that the batch asks; of numbers, (...)."""

    def right(self, batch: dict):
        """(...): the right answers, as an array of the batch; IGNORED where nothing is asked."""
        return batch["targets"]

    def meaningful(self, batch: dict):
        """(...), booleans: which scores a student should learn from its teacher; those of all questions asked."""
        return self.right(batch) != IGNORED

    def real(self, batch: dict):
        """(B, T), booleans: which of the vectors between its blocks are of tokens, not of padding; None: all."""
        return batch.get("mask")

    def new_state(self, rows: int) -> dict:
        """What is carried on from batch to batch (ELMo's LSTM states), arrays by name with a row per sequence: `loss`
        finds them beside the batch and overwrites them."""
        return {}


@runtime_checkable
class Body(Protocol):
    """What makes vectors of texts, to be read by a task's head (models/heads.py)."""

    @property
    def feature_width(self) -> int:
        """C, the length of its vectors."""

    @property
    def pools(self) -> bool:
        """Whether `summary` needs no further layer; otherwise the head brings one."""

    def features(self, batch: dict) -> Tensor:
        """(B, T, C): a vector for every token."""

    def summary(self, batch: dict) -> Tensor:
        """(B, C): a vector for every text."""

    def go_on_learning(self, share: float) -> None:
        """Let this share of the loss that it was pretrained with go on counting, if it has one of its own."""

    def penalty(self) -> Tensor | None:
        """A scalar to be added to a task's loss."""

    def own_loss(self) -> Tensor | None:
        """(texts,): the loss of what the body goes on learning itself from the texts just read."""


@runtime_checkable
class Writer(Protocol):
    """What writes token by token (models/generate): a decoder, or an encoder-decoder, which reads a source first.

    config: has vocab_size; of one that reads a source also start_id, which every output starts from, pad_id and eos_id.
    """

    config: Any
    reads_source: ClassVar[bool] = False  # whether new_cache takes source= and source_mask=
    label_smoothing: float = 0.0  # of one that reads a source: the share of a target spread over all, in training

    @property
    def longest(self) -> int | None:
        """The most tokens that can be read and written together; None: any number."""
        return None

    @property
    def steps_alike(self) -> bool:
        """Whether a step with a static cache is the same at every place, so that a CUDA graph can repeat it."""
        return True

    def new_cache(self, batch: int, capacity: int | None = None, **source) -> DecoderCache:
        """Memory for `batch` texts of up to `capacity` tokens, behind a source (B, S) where one is read."""

    def step(self, ids, cache: DecoderCache, mask=None):
        """Read ids (B, T), which follow the cached ones; answers the next token's scores, a raw (B, V)."""


@runtime_checkable
class LeftToRight(Writer, Protocol):
    """A writer that reads every text from left to right, so that a pass scores all its tokens (models/score.py)."""

    output_table: Tensor  # (V, C): a row per token, to be compared with a position's final vector
    output_bias: Tensor | None = None  # (V,): added to what that gives

    def hidden(self, ids, mask=None, cache: DecoderCache | None = None) -> Tensor:
        """ids (B, T) -> the final vectors (B, T, C), each made of the tokens up to there."""


@runtime_checkable
class Filler(Protocol):
    """What guesses masked tokens in the middle of a text (python -m train fill)."""

    def fill_scores(self, ids, token_types, mask) -> Tensor:
        """(B, T, V): the score of every token at every place."""
