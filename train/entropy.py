"""The loss of a model of the stories beside their entropy, which is known."""

import dataclasses

from train.evaluation import evaluate_on_all_cores
from train.objectives.windows import Causal
from train.pretrain import Job


def compare_with_entropy(job: Job, val_loss: float, objective: Causal) -> str:
    """How far above the entropy of the held-out text the loss is, which this objective measures from left to right.

    The entropy is that of a reader who has read everything before. The second figure comes closer to that: windows
    overlap by half, so every token is read behind half a window of others at least.
    """
    split, model, floor = job.corpus.val_split, job.trainer.model, job.corpus.val_split.floor
    per_character, half = split.tokens / split.characters, objective.context // 2
    above = lambda loss: f"{100 * (loss / floor - 1):.1f}% above"
    both = f"per character {val_loss * per_character:.4f} and {floor * per_character:.4f} nats"
    text = f"the entropy of this text is {floor:.4f}: the loss is {above(val_loss)} the lowest possible ({both})"
    if half == 0:
        return text
    objective = dataclasses.replace(objective, batch=16, apart=half)
    keys = objective.evaluation_batches(job.corpus.val)
    nats, count = evaluate_on_all_cores(model, objective, job.corpus.val, keys)
    far = f"read with at least {half} tokens before each, as the entropy is meant, it is {nats / count:.4f}"
    return f"{text}\n{far}: {above(nats / count)}"
