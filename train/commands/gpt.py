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
from models.tokenizers import ByteLevelBPE, Characters
from train import pretrain
from train.entropy import compare_with_entropy
from train.recipes import Recipe
from train.report import describe_loss

RECIPE = Recipe(
    family="gpt", usual=("bpe", "characters"), vocab_size=1024, floor=True,
    tokenizers={"characters": lambda texts, vocab_size: Characters.train(texts), "bpe": ByteLevelBPE.train},
    # What learns most from the stories in two minutes on two cores.
    model=dict(context=256, layers=2, heads=4, width=128, bias=False, init_std=0.08),
    training=dict(steps=3500, batch=4, lr=3e-3),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pretrain.add_arguments(parser, RECIPE)


def main(args: argparse.Namespace) -> None:
    job = pretrain.start(args, RECIPE)
    job.trainer.report.sample = job.trainer.config.tensor == 1 and (lambda: _written(job, 1, 60)[0])
    if not pretrain.train(job):
        return
    texts = _written(job)
    pretrain.save_samples(job, ", temperature 0.8", texts)
    print(f"\n{texts[0]}\n")
    split, val_loss = job.corpus.val_split, job.trainer.report.val_loss
    print(f"held-out loss {describe_loss(val_loss, split.tokens, split.bytes)}")
    if split.floor is not None:
        print(compare_with_entropy(job, val_loss, job.trainer.objective))
    print(pretrain.describe(job.folder))
    word = re.search(r"\w+", texts[0])
    prompt = f' --prompt "{word[0]}"' if word else ""
    print(f"to write more: python -m train sample {job.folder}{prompt}")


def _written(job: pretrain.Job, count: int = 3, tokens: int = 300) -> list[str]:
    """What the model writes."""
    trainer = job.trainer
    start = trainer.val_data[:1].astype(int)  # a token that texts of this kind begin with
    with tt.random.seeded(trainer.config.seed):
        ids = generate(trainer.model, [start] * count, tokens, temperature=0.8)
    return [job.tokenizer.decode(row[row < job.tokenizer.vocab_size]).strip() for row in ids]
