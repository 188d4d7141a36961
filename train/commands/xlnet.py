"""Train an XLNet: a model that predicts the tokens of a text one after another, in every order.

Without any flag it learns from built-in stories, on all cores, in a few minutes.

  python -m train xlnet --data book.txt                  learn from your own text, with blank lines between documents
  python -m train xlnet --partial 1                      predict every token, not the last sixth of the order
  python -m train xlnet --memory 0                       read every row by itself, without what came before
  python -m train xlnet --resume runs/xlnet-1            go on where a run was stopped
Then: python -m train eval, fill, sample, finetune, embed
"""

import argparse

import tinytensor as tt
from models.generate import generate
from models.tokenizers.xlnet import train as train_tokenizer
from train import pretrain
from train.entropy import compare_with_entropy
from train.evaluation import evaluate_on_all_cores
from train.recipes import Recipe
from train.report import describe_loss, perplexity

RECIPE = Recipe(
    family="xlnet", tokenizers={"unigram": train_tokenizer}, usual=("unigram", "unigram"), vocab_size=1024,
    model=dict(context=128, layers=2, heads=4, width=128, dropout=0.0, memory=64, reuse=64, init_std=0.04),
    training=dict(steps=4000, batch=8, lr=3e-3, beta2=0.98, weight_decay=0.01),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pretrain.add_arguments(parser, RECIPE)


def main(args: argparse.Namespace) -> None:
    job = pretrain.start(args, RECIPE)
    job.trainer.report.sample = job.trainer.config.tensor == 1 and (lambda: _written(job, 1, 60)[0])
    if not pretrain.train(job):
        return
    trainer, split, tokens = job.trainer, job.corpus.val_split, job.corpus.val
    texts = _written(job)
    pretrain.save_samples(job, ", temperature 0.8", texts)
    print(f"\n{texts[0]}\n")
    loss = trainer.report.val_loss
    print(f"held-out loss {loss:.4f} nats per predicted token, perplexity {perplexity(loss):.2f}, in random orders")
    in_order = trainer.objective.in_order()
    nats, count = evaluate_on_all_cores(trainer.model, in_order, tokens, in_order.evaluation_batches(tokens))
    print(f"from left to right {describe_loss(nats / count, split.tokens, split.bytes)}")
    if split.floor is not None:
        print(compare_with_entropy(job, nats / count, in_order))
    print(pretrain.describe(job.folder))
    print(f'to fill in words: python -m train fill --model {job.folder} "Once upon a time there was a <mask> girl."')
    print(f"to fine-tune it: python -m train finetune {job.folder} --task questions")


def _written(job: pretrain.Job, count: int = 3, tokens: int = 300) -> list[str]:
    """What the model writes, from left to right."""
    trainer = job.trainer
    start = trainer.val_data[:1].astype(int)  # a token that texts of this kind begin with
    with tt.random.seeded(trainer.config.seed):
        ids = generate(trainer.model, [start] * count, tokens, temperature=0.8)
    lines = trainer.objective.lines
    return [lines.decode(row[row < job.tokenizer.vocab_size]).strip() for row in ids]
