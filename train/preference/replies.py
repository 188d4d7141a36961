"""How probable replies are to a talker, token by token."""

import numpy as np

from models.gpt import GPT
from nn import evaluating
from tinytensor import Tensor, no_grad, ops
from tinytensor.ops.softmax import IGNORED


def token_log_probs(gpt: GPT, hidden: Tensor, targets, temperature: float = 1.0) -> Tensor:
    """(B, T): log p of each target, 0 where it is IGNORED.   hidden: (B, T, C), what the GPT made of the tokens.

    temperature: what all scores are divided by, as where the replies were drawn so.
    """
    scaled = hidden if temperature == 1 else hidden * (1 / temperature)
    return -ops.linear_cross_entropy(scaled, gpt.output_table, targets, reduction="none")


def reply_log_probs(gpt: GPT, ids, targets) -> Tensor:
    """(B,): log p of all targets (B, T) of a row together."""
    return token_log_probs(gpt, gpt.hidden(ids), targets).sum(axis=1)


def measured(gpt: GPT, rows: list[dict], pad, batch: int = 32) -> np.ndarray:
    """What reply_log_probs gives for rows of (N, T) arrays "ids" and "targets": (rows, N), without a graph."""
    found = []
    with evaluating(gpt), no_grad():
        for start in range(0, len(rows), batch):
            arrays = pad(rows[start : start + batch])
            B, N, T = arrays["ids"].shape
            logs = reply_log_probs(gpt, arrays["ids"].reshape(B * N, T), arrays["targets"].reshape(B * N, T))
            found.append(logs.data.reshape(B, N))
    return np.concatenate(found)


def counted(targets) -> np.ndarray:
    """Where a target counts."""
    return np.asarray(targets) != IGNORED
