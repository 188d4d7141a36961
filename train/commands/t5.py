"""Train a T5: an encoder-decoder, which reads one text and writes another.

Without any flag it learns span corruption from built-in stories, on all cores, in a few minutes.

  python -m train t5 --data book.txt                     learn from your own text
  python -m train t5 --objective next                    read a stretch of text, write the one that follows
  python -m train t5 --tokenizer bytes                   no vocabulary: bytes, as ByT5
  python -m train t5 --resume runs/t5-1                  go on where a run was stopped

Then teach it tasks: python -m train finetune runs/t5-1 --task text2text --data FILE.tsv
"""

import argparse

from models.generate.answers import answer_ids, answer_text
from train import pretrain, recipes
from train.report import perplexity


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pretrain.add_arguments(parser, recipes.T5)


def main(args: argparse.Namespace) -> None:
    job = pretrain.start(args, recipes.T5)
    if not pretrain.train(job):
        return
    print(f"\n{write_samples(job)}\n")
    loss = job.trainer.report.val_loss
    print(f"held-out loss {loss:.4f} nats per token of the output, perplexity {perplexity(loss):.2f}")
    print(pretrain.describe(job.folder))
    print(f'to see what it writes: python -m train sample {job.folder} --input "..."')


def write_samples(job: pretrain.Job, count: int = 5) -> str:
    """What the model makes of a few held-out inputs, beside what was wanted, into samples.txt; returns the first."""
    trainer, tokenizer = job.trainer, job.tokenizer
    objective, model = trainer.objective, trainer.model
    batch = objective.evaluation_batch(trainer.val_data, objective.evaluation_batches(trainer.val_data)[0])
    batch = {name: array[:count] for name, array in batch.items()}
    written = answer_ids(model, batch["ids"], batch.get("mask"), batch["targets"].shape[1])
    texts = []
    for rows in zip(batch["ids"], written, batch["targets"]):
        said = (answer_text(row, tokenizer, model.config.eos_id) for row in rows)
        texts.append("\n".join(f"{what} {text}" for what, text in zip(("input: ", "output:", "wanted:"), said)))
    pretrain.save_samples(job, "", texts)
    return texts[0]
