"""Train a T5: an encoder-decoder, which reads one text and writes another.

Without any flag it learns span corruption from built-in stories, on all cores, in a few minutes.

  python -m train t5 --data book.txt                     learn from your own text
  python -m train t5 --objective next                    read a stretch of text, write the one that follows
  python -m train t5 --tokenizer bytes                   no vocabulary: bytes, as ByT5
  python -m train t5 --resume runs/t5-1                  go on where a run was stopped

Then teach it tasks: python -m train finetune runs/t5-1 --task text2text --data FILE.tsv
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from models.config import check_choice, check_positive, option
from models.files import write_text
from models.generate.answers import answer_ids, answer_text
from models.t5 import T5Config
from models.tokenizers import Bytes, Tokenizer, Unigram
from train import pretrain
from train.objectives.sequences import Deshuffling, NextSequence, PrefixLM
from train.objectives.spans import SpanCorruption
from train.objectives.windows import Windows
from train.report import perplexity
from train.trainer import TrainConfig

SUMMARY = "train a T5, a model that reads one text and writes another"
SENTINELS = 100  # that a tokenizer learned here has


@dataclass(frozen=True)
class T5Objective:
    """What to learn from plain text, and on how much of it at a time."""

    objective: str = option("spans", "what to learn: spans (write what was cut out), next (the text that follows), "
                            "prefix (the rest), deshuffle (the tokens in order)")  # fmt: skip
    context: int = option(128, "the longest input of the encoder in training; the model itself takes any")
    density: float = option(0.15, "spans: the share of the tokens that is cut out")
    mean_span: float = option(3.0, "spans: the mean length of what is cut out, in tokens")

    def __post_init__(self):
        check_choice(self, "objective", ("spans", "next", "prefix", "deshuffle"))
        check_positive(self, "context")

    def make(self, model: T5Config, training: TrainConfig, tokenizer: Tokenizer) -> Windows:
        if tokenizer.pad_token is None or tokenizer.frame.single[-1] not in tokenizer.special:
            raise ValueError(f"a T5 needs tokens for padding and the end; this {type(tokenizer).__name__} has none")
        size = dict(context=self.context, batch=training.batch, seed=training.seed)
        if self.objective == "spans":
            ids = tokenizer.special_tokens
            sentinels = [ids[name] for name in (f"<extra_id_{i}>" for i in range(len(ids))) if name in ids]
            return SpanCorruption(**size, sentinels=tuple(sentinels), eos=model.eos_id, density=self.density,
                                  mean_span=self.mean_span)  # fmt: skip
        if self.objective == "next":
            return NextSequence(**size)
        if self.objective == "prefix":
            return PrefixLM(**size, pad=model.pad_id, eos=model.eos_id, one_shape=training.graph)
        return Deshuffling(**size, eos=model.eos_id)


RECIPE = pretrain.Recipe(
    family="t5",
    make_objective=lambda model, training, objective, tokenizer: objective.make(model, training, tokenizer),
    tokenizers={
        "bytes": lambda texts, vocab_size: Bytes(),
        "unigram": lambda texts, vocab_size: Unigram.train(texts, vocab_size, extra_ids=SENTINELS),
    },
    usual=("unigram", "unigram"),
    vocab_size=1100,
    model=dict(layers=2, heads=4, head_width=32, width=128, hidden=512),
    # Adafactor's relative steps, as T5 was trained; after 300 steps 0.3 nats ahead of AdamW (benchmarks/results/t5.md).
    training=dict(steps=3000, batch=16, optimizer="adafactor-relative", lr=1e-2, min_lr=1e-3, weight_decay=0.0),
    objective=T5Objective,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pretrain.add_arguments(parser, RECIPE)


def main(args: argparse.Namespace) -> None:
    run = pretrain.start(args, RECIPE)
    if not pretrain.train(run):
        return
    print(f"\n{write_samples(run)}\n")
    loss = run.trainer.report.val_loss
    print(f"held-out loss {loss:.4f} nats per token of the output, perplexity {perplexity(loss):.2f}")
    print(pretrain.describe_folder(run))
    print(f'to see what it writes: python -m train sample {run.folder} --input "..."')


def write_samples(run: pretrain.Run, count: int = 5) -> str:
    """What the model makes of a few held-out inputs, beside what was wanted, into samples.txt; returns the first."""
    trainer, tokenizer = run.trainer, run.tokenizer
    objective, model = trainer.objective, trainer.model
    batch = objective.evaluation_batch(trainer.val_data, objective.evaluation_batches(trainer.val_data)[0])
    batch = {name: array[:count] for name, array in batch.items()}
    written = answer_ids(model, batch["ids"], batch.get("mask"), batch["targets"].shape[1])
    texts = []
    for rows in zip(batch["ids"], written, batch["targets"]):
        said = (answer_text(row, tokenizer, model.config.eos_id) for row in rows)
        texts.append("\n".join(f"{what} {text}" for what, text in zip(("input: ", "output:", "wanted:"), said)))
    rule = f"\n\n{'-' * 30}\n\n"
    write_text(run.folder / "samples.txt", f"after {trainer.progress.step} steps:\n\n{rule.join(texts)}\n")
    return texts[0]
