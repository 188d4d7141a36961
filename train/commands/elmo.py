"""Train an ELMo: two LSTMs that read a text both ways, and give each word a vector that depends on its sentence.

Without any flag it learns from built-in stories, on all cores, in a few minutes.

  python -m train elmo --data book.txt                   learn from your own text
  python -m train elmo --data book.txt --softmax sampled --samples 1000 --vocab-size 50000
  python -m train elmo --resume runs/elmo-1              go on where a run was stopped

Then put it to use: python -m train finetune runs/elmo-1 --task tag --data FILE.tsv
"""

import argparse
import shlex

from models.elmo import PRESETS
from models.tokenizers import Words
from train import pretrain
from train.recipes import Recipe
from train.report import perplexity

RECIPE = Recipe(
    family="elmo", tokenizers={"words": Words.train}, usual=("words", "words"), vocab_size=10_000, model=PRESETS["toy"],
    training=dict(steps=3000, batch=16, lr=3e-3, eval_batches=5), stories=2_000_000,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pretrain.add_arguments(parser, RECIPE)


def main(args: argparse.Namespace) -> None:
    job = pretrain.start(args, RECIPE)
    if not pretrain.train(job):
        return
    loss = job.trainer.report.val_loss
    print(f"held-out loss {loss:.4f} nats per word, perplexity {perplexity(loss):.2f}, the mean of both directions")
    print(pretrain.describe(job.folder))
    words = [job.tokenizer.tokens[i] for i in job.corpus.val[:12]]
    words[words.index(max(words, key=len))] = f"*{max(words, key=len)}*"
    text = f" --data {shlex.quote(args.data)}" if args.data else ""
    print(f"to look at it: python -m train neighbours {job.folder} {shlex.quote(' '.join(words))}{text}")
    print(f"to use it: python -m train finetune {job.folder} --task tag --data FILE.tsv")
