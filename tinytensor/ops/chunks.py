"""The loss of many tokens over a large vocabulary, without ever having all logits: some rows at a time.

32,768 tokens times GPT-2's 50,257 words are 1.6 billion logits, 6.6 GB. A stretch of rows is a checkpoint: its logits
are let go of in forward and made again in backward, for one matrix product more.
"""

from tinytensor.ops.checkpoint import checkpoint
from tinytensor.ops.shape import concatenate
from tinytensor.tensor import Tensor

MOST = 2**30  # logits at once, 4 GB in float32; more are done in chunks
CHUNK = 2**27  # logits in each of those


def in_chunks(loss, x: Tensor, weight: Tensor, targets, bias: Tensor | None, reduction: str, *,
              ignore_index: int, **how) -> Tensor:  # fmt: skip
    """loss(x, weight, targets, bias, reduction=reduction, ...) for x (..., C), over CHUNK logits at a time."""
    rows, step = x.reshape(-1, x.shape[-1]), max(1, CHUNK // len(weight))
    ids = targets.reshape(-1)
    losses = [checkpoint(lambda x, ids: loss(x, weight, ids, bias, reduction="none", ignore_index=ignore_index, **how),
                         rows[i : i + step], ids[i : i + step]) for i in range(0, len(ids), step)]  # fmt: skip
    losses = concatenate(losses)
    if reduction == "none":
        return losses.reshape(targets.shape)
    return losses.sum() if reduction == "sum" else losses.sum() / max(1, int((ids != ignore_index).sum()))
