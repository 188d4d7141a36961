"""GPT under a head: prediction from the last output vector (Radford et al. 2018, section 3.2 and figure 1).

A text is framed by three tokens that pretraining did not know: start, delimiter (between the parts of a pair) and
classify, after the vocabulary's last. A causal model has seen the whole text only at its last token, so the vector
there, at classify, is what a head reads. While the head learns, half of the language model's loss on the same texts
goes on counting: it keeps what pretraining taught, and helped on the larger tasks of the paper.
"""

import dataclasses

import numpy as np

from models.contract import Body
from models.gpt import GPT
from nn import Module, Parameter, init
from nn.compression.surgery import ShrunkEmbedding
from tinytensor import Tensor
from tinytensor.ops.softmax import IGNORED

MARKS = ("<start>", "<delimiter>", "<classify>")


class GPTBody(Module, Body):
    """A pretrained GPT with a row for each of MARKS."""

    pools = True  # no layer stands between the last vector and a head's own

    def __init__(self, gpt: GPT, language_weight: float = 0.5, marked: bool = True):
        """marked: False for a model that is only to make vectors of texts without marks."""
        self.config = gpt.config  # as it was pretrained
        self.language_weight = language_weight
        self.gpt = gpt
        self._read: tuple[Tensor, np.ndarray, np.ndarray] | None = None
        self._loads: list | None = None  # of its experts, in training
        if marked:
            add_rows(gpt, len(MARKS))

    @property
    def feature_width(self) -> int:
        return self.config.width

    def features(self, batch: dict) -> Tensor:
        """(B, T, C). Padding stands on the right, where a causal model's tokens do not look: no mask is needed."""
        self._loads = [] if self.training else None
        hidden = self.gpt.hidden(batch["ids"], loads=self._loads)
        self._read = hidden, batch["ids"], batch["mask"]
        return hidden

    def summary(self, batch: dict) -> Tensor:
        """(B, C): the vectors at each text's last token."""
        last = batch["mask"].sum(axis=1) - 1
        return self.features(batch)[np.arange(len(last)), last]

    def go_on_learning(self, share: float) -> None:
        self.language_weight = share

    def penalty(self) -> Tensor | None:
        """The balance of the experts' loads, if there are experts: the mean over the texts read last."""
        loads, self._loads = self._loads, None
        return self.gpt.config.penalty(loads, counts={"rows": len(loads[0].p)}) if loads else None

    def own_loss(self) -> Tensor | None:
        """language_weight times the mean of -log p(next token) of each text read last, (B,); its pass is used again."""
        if not self.language_weight:
            return None
        (hidden, ids, mask), self._read = self._read, None
        real = mask[:, 1:]
        targets = np.where(real, ids[:, 1:], IGNORED)
        losses = (self.gpt.head or self.gpt.token_embedding).cross_entropy(hidden[:, :-1], targets, reduction="none")
        share = self.language_weight * real / np.maximum(1, real.sum(axis=1, keepdims=True))
        return (losses * Tensor(losses.xp.asarray(share, losses.dtype))).sum(axis=1)


def add_rows(gpt: GPT, count: int) -> None:
    """Give a pretrained GPT `count` tokens more, behind its vocabulary's last."""
    if isinstance(gpt.token_embedding, ShrunkEmbedding):
        gpt.token_embedding = gpt.token_embedding.whole()
    for layer in (gpt.token_embedding, *([gpt.head] if gpt.head else [])):
        table, mask, xp = layer.weight.data, layer.weight.mask, layer.weight.xp
        rows = init.normal(gpt.config.init_std)((count, table.shape[1])).astype(table.dtype)
        layer.weight = Parameter(xp.concatenate([table, xp.asarray(rows)]))
        if mask is not None:
            layer.weight.mask = xp.concatenate([mask, xp.ones(rows.shape, bool)])
    gpt.config = dataclasses.replace(gpt.config, vocab_size=gpt.config.vocab_size + count)
