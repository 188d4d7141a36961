"""Replies of a talker: drawn from it, and how probable each is to it, token by token."""

import numpy as np

from models.chat import replies
from models.gpt import GPT
from nn import evaluating
from tinytensor import Tensor, no_grad, ops, random
from tinytensor.ops.softmax import IGNORED
from train.finetune import FineTuned
from train.tasks import Row

BATCH = 32


def drawn(tuned: FineTuned, conversations: list[list[dict]], samples: int, temperature: float = 1.0,
          seed: int = 0) -> tuple[list[np.ndarray], list[list[np.ndarray]]]:  # fmt: skip
    """The prompts' ids, and `samples` replies to each (see models/chat.py); those of like length are written together.

    temperature: 0 for the most probable reply.
    """
    room = tuned.inputs.room(tuned.task.longest)
    prompts = [np.array(tuned.inputs.prompt(messages, room)) for messages in conversations]
    order, written = np.argsort([len(ids) for ids in prompts], kind="stable"), {}
    with evaluating(tuned.model), no_grad():
        for start in range(0, len(order), BATCH):
            some = order[start : start + BATCH]
            with random.seeded(seed, start, 8):
                texts = replies(tuned.model.body, [prompts[i] for i in some], room, temperature, samples)
            written |= {i: texts[n * samples : (n + 1) * samples] for n, i in enumerate(some.tolist())}
    return prompts, [written[i] for i in range(len(prompts))]


def text_of(tuned: FineTuned, ids: np.ndarray) -> str:
    """A reply as it reads."""
    return tuned.task.decode(Row({}, tuned.inputs.tokenizer), np.asarray(ids))


def token_log_probs(gpt: GPT, hidden: Tensor, targets, temperature: float = 1.0) -> Tensor:
    """(B, T): log p of each target, 0 where it is IGNORED.   hidden: (B, T, C), what the GPT made of the tokens.

    temperature: what all scores are divided by, as where the replies were drawn so.
    """
    scaled = hidden if temperature == 1 else hidden * (1 / temperature)
    return -ops.linear_cross_entropy(scaled, gpt.output_table, targets, reduction="none")


def reply_log_probs(gpt: GPT, ids, targets) -> Tensor:
    """(B,): log p of all targets (B, T) of a row together."""
    return token_log_probs(gpt, gpt.hidden(ids), targets).sum(axis=1)


def measured(gpt: GPT, rows: list[dict], pad, batch: int = BATCH) -> np.ndarray:
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
