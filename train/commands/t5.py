"""Train a T5: an encoder-decoder, which reads one text and writes another.

Without any flag it learns span corruption from built-in stories, on all cores, in a few minutes.

  python -m train t5 --data book.txt                     learn from your own text
  python -m train t5 --objective next                    read a stretch of text, write the one that follows
  python -m train t5 --tokenizer bytes                   no vocabulary: bytes, as ByT5
  python -m train t5 --resume runs/t5-1                  go on where a run was stopped

Then teach it tasks: python -m train finetune runs/t5-1 --task text2text --data FILE.tsv
"""

import argparse
import shlex
import textwrap

from models.generate.answers import answer_ids, answer_text
from models.tokenizers import Bytes, Unigram
from train import pretrain
from train.recipes import Recipe
from train.report import perplexity

SENTINELS = 100  # that a tokenizer learned for a T5 has
RECIPE = Recipe(
    family="t5", usual=("unigram", "unigram"), vocab_size=1100,
    tokenizers={"bytes": lambda texts, vocab_size: Bytes(),
                "unigram": lambda texts, vocab_size: Unigram.train(texts, vocab_size, extra_ids=SENTINELS)},
    model=dict(layers=2, heads=4, head_width=32, width=128, hidden=512),
    # Adafactor's relative steps, as T5 was trained; after 300 steps 0.3 nats ahead of AdamW (benchmarks/results/t5.md).
    training=dict(steps=3000, batch=16, optimizer="adafactor-relative", lr=1e-2, min_lr=1e-3, weight_decay=0.0),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pretrain.add_arguments(parser, RECIPE)


def main(args: argparse.Namespace) -> None:
    train(pretrain.start(args, RECIPE))


def train(job: pretrain.Job) -> None:
    job.trainer.report.sample = job.trainer.config.tensor == 1 and (lambda: answers(job, 1)[0])
    if not pretrain.train(job):
        return
    texts = answers(job, 5)
    pretrain.save_samples(job, "", texts)
    print(f"\n{texts[0]}\n")
    loss = job.trainer.report.val_loss
    print(f"held-out loss {loss:.4f} nats per token of the output, perplexity {perplexity(loss):.2f}")
    print(pretrain.describe(job.folder))
    read = textwrap.shorten(texts[0].splitlines()[0].removeprefix("input: "), 80, placeholder="")
    print(f"to see what it writes: python -m train sample {job.folder} --input {shlex.quote(read)}")


def answers(job: pretrain.Job, count: int) -> list[str]:
    """What the model makes of a few held-out inputs, beside what was wanted."""
    trainer, tokenizer = job.trainer, job.tokenizer
    objective, model = trainer.objective, trainer.model
    batch = objective.evaluation_batch(trainer.val_data, objective.evaluation_batches(trainer.val_data)[0])
    batch = {name: array[:count] for name, array in batch.items()}
    written = answer_ids(model, batch["ids"], batch.get("mask"), batch["targets"].shape[1])
    texts = []
    for rows in zip(batch["ids"], written, batch["targets"]):
        said = (answer_text(row, tokenizer, model.config.eos_id) for row in rows)
        texts.append("\n".join(f"{what} {text}" for what, text in zip(("input: ", "output:", "wanted:"), said)))
    return texts
