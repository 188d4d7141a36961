"""Train a GPT: a model that writes, one token after another.

Without any flag it learns from built-in stories, on all cores, in about two minutes.

  python -m train gpt --data book.txt                    learn from your own text
  python -m train gpt --data book.txt --steps 20000 --layers 6 --heads 6 --width 384 --lr 1e-3
  python -m train gpt --resume runs/gpt-1                go on where a run was stopped
  python -m train gpt --init FOLDER --data book.txt      teach a run or a published GPT-2 new text
"""

import argparse
import re

import tinytensor as tt
from models.generate import generate
from train import pretrain, recipes
from train.objectives.windows import Causal
from train.report import describe_loss
from train.trainer import evaluate_on_all_cores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pretrain.add_arguments(parser, recipes.GPT)


def main(args: argparse.Namespace) -> None:
    job = pretrain.start(args, recipes.GPT)
    if not pretrain.train(job):
        return
    text = _write_samples(job)
    print(f"\n{text}\n")
    split, val_loss = job.corpus.val_split, job.trainer.report.val_loss
    print(f"held-out loss {describe_loss(val_loss, split.tokens, split.bytes)}")
    if split.floor is not None:
        print(_compare_with_entropy(job, val_loss))
    print(pretrain.describe(job.folder))
    word = re.search(r"\w+", text)
    prompt = f' --prompt "{word[0]}"' if word else ""
    print(f"to write more: python -m train sample {job.folder}{prompt}")


def _compare_with_entropy(job: pretrain.Job, val_loss: float) -> str:
    """How far above the entropy of the held-out text the loss is.

    The entropy is that of a reader who has read everything before. The second figure comes closer to that: windows
    overlap by half, so every token is read behind half a window of others at least.
    """
    split, model, floor = job.corpus.val_split, job.trainer.model, job.corpus.val_split.floor
    per_character, half = split.tokens / split.characters, model.config.context // 2
    above = lambda loss: f"{100 * (loss / floor - 1):.1f}% above"
    both = f"per character {val_loss * per_character:.4f} and {floor * per_character:.4f} nats"
    text = f"the entropy of this text is {floor:.4f}: the loss is {above(val_loss)} the lowest possible ({both})"
    if half == 0:
        return text
    objective = Causal(model.config.context, 16, apart=half)
    keys = objective.evaluation_batches(job.corpus.val)
    nats, count = evaluate_on_all_cores(model, objective, job.corpus.val, keys)
    far = f"read with at least {half} tokens before each, as the entropy is meant, it is {nats / count:.4f}"
    return f"{text}\n{far}: {above(nats / count)}"


def _write_samples(job: pretrain.Job, count: int = 3, tokens: int = 600) -> str:
    """Let the trained model write a few texts into samples.txt; returns the first."""
    trainer = job.trainer
    start = trainer.val_data[:1].astype(int)  # a token that texts of this kind begin with
    with tt.random.seeded(trainer.config.seed):
        ids = generate(trainer.model, [start] * count, tokens, temperature=0.8)
    texts = [job.tokenizer.decode(row[row < job.tokenizer.vocab_size]).strip() for row in ids]
    pretrain.save_samples(job, ", temperature 0.8", texts)
    return texts[0]
