"""The loss of a model of the stories beside their entropy, which is known."""

from train.objectives.windows import Causal
from train.pretrain import Job


def compare_with_entropy(job: Job, val_loss: float, objective: Causal) -> str:
    """How far above the entropy of the held-out text the loss is, which this objective measures from left to right.

    The entropy is that of a reader who has read everything before, and a window begins with nothing before it. Windows
    that overlap come closer to it: a second evaluation, which `eval --stride` makes.
    """
    split, half = job.corpus.val_split, objective.context // 2
    per_character, floor = split.tokens / split.characters, split.floor
    both = f"per character {val_loss * per_character:.4f} and {floor * per_character:.4f} nats"
    text = f"the entropy of this text is {floor:.4f}: the loss is {above(val_loss, floor)} the lowest possible ({both})"
    if half == 0:
        return text
    further = f"python -m train eval {job.folder} --stride {half}"
    return f"{text}\nthe entropy is that of a reader who knows all before; with {half} tokens at least: {further}"


def above(loss: float, floor: float) -> str:
    return f"{100 * (loss / floor - 1):.1f}% above"
