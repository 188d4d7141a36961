"""Train a BERT: a model that reads, by filling in words that were blotted out and telling which texts belong together.

Without any flag it learns from built-in stories, on all cores, in a few minutes.

  python -m train bert --data book.txt                   learn from your own text: a sentence or a paragraph a line,
                                                         a blank line between documents
  python -m train bert --mask-share 0.4                  more to predict in every text: learns faster from few texts
  python -m train bert --pairs order                     ALBERT's second task; --pairs none: RoBERTa's way
  python -m train bert --resume runs/bert-1              go on where a run was stopped
Then: python -m train fill, finetune, embed
"""

import argparse
import shlex

import numpy as np

import tinytensor as tt
from models.bert import PRESETS
from models.tokenizers import WordPiece
from nn import Module, evaluating
from tinytensor.ops.softmax import IGNORED
from train import pretrain
from train.objectives.masked import Masked
from train.recipes import Recipe
from train.report import bar, perplexity

RECIPE = Recipe(
    family="bert", tokenizers={"wordpiece": WordPiece.train}, usual=("wordpiece", "wordpiece"), vocab_size=1024,
    # BERT-Tiny, with larger first weights, from which a narrow model learns faster, and without dropout. Many small
    # batches: for the same tokens the loss falls faster than with a quarter as many of 32 (benchmarks/results/bert.md).
    model=PRESETS["tiny"] | dict(context=128, init_std=0.04, dropout=0.0, attention_dropout=0.0),
    training=dict(steps=8000, batch=8, lr=1e-3, beta2=0.98, weight_decay=0.01),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pretrain.add_arguments(parser, RECIPE)


def main(args: argparse.Namespace) -> None:
    job = pretrain.start(args, RECIPE)
    if not pretrain.train(job):
        return
    print(describe(measure(job.trainer.model, job.trainer.objective, job.corpus.val)))
    print(pretrain.describe(job.folder))
    print(f"to fill in words: python -m train fill --model {job.folder} {shlex.quote(_with_a_gap(job))}")
    print(f"to fine-tune it: python -m train finetune {job.folder} --task questions")


def _with_a_gap(job: pretrain.Job) -> str:
    """The first held-out sentence of a few words, with a mask in place of the longest."""
    ends = np.flatnonzero(job.corpus.val[:1000] == job.tokenizer.separator_id)
    sentences = (job.tokenizer.decode(ids[ids != job.tokenizer.separator_id]).split()[:12]
                 for ids in np.split(job.corpus.val[:1000], ends))  # fmt: skip
    words = next((words for words in sentences if len(words) > 4), ["the", "word"])
    words[words.index(max(words, key=len))] = job.tokenizer.tokens[job.tokenizer.mask_id]
    return " ".join(words)


def measure(model: Module, objective: Masked, tokens: np.ndarray, batches: int = 100) -> dict[str, float]:
    """On the held-out part: the mean -log p of a masked token, and the shares of words and pairs guessed right."""
    sums = dict.fromkeys(("words", "nats", "right", "pairs", "told"), 0.0)
    with evaluating(model), tt.no_grad():
        for key in bar(objective.evaluation_batches(tokens, batches), "guessing words"):
            batch = objective.evaluation_batch(tokens, key)
            encoded = model(batch["ids"], batch["token_types"], batch["mask"])
            targets = batch["targets"]
            asked = targets != IGNORED
            log_p = tt.ops.log_softmax(tt.Tensor(encoded.mlm_logits.numpy()[asked].astype(np.float32))).data
            sums["words"] += asked.sum()
            sums["nats"] -= log_p[np.arange(len(log_p)), targets[asked]].sum()
            sums["right"] += (log_p.argmax(axis=-1) == targets[asked]).sum()
            if "next" in batch:
                sums["pairs"] += len(batch["next"])
                sums["told"] += (encoded.nsp_logits.numpy().argmax(axis=-1) == batch["next"]).sum()
    found = {"nats": sums["nats"] / sums["words"], "word_accuracy": sums["right"] / sums["words"]}
    return found | ({"pair_accuracy": sums["told"] / sums["pairs"]} if sums["pairs"] else {})


def describe(found: dict[str, float]) -> str:
    loss = f"{found['nats']:.4f} nats (perplexity {perplexity(found['nats']):.2f})"
    pairs = f"; pairs: {found['pair_accuracy']:.1%} told right" if "pair_accuracy" in found else ""
    return f"held-out masked tokens: {loss}, {found['word_accuracy']:.1%} guessed right{pairs}"
