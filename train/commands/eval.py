"""How well a trained model predicts a text: its loss, perplexity and bits per byte.

  python -m train eval runs/gpt-1                        on the text the run held out
  python -m train eval runs/gpt-1 --data other.txt       on any text
  python -m train eval runs/gpt-1 --stride 64            windows overlap, so that no token is read without context
"""

import argparse
import dataclasses
import math
from pathlib import Path

from models.families import family_of
from models.schema import Count, Whole
from train import checkpoint
from train.data.corpus import open_corpus
from train.data.records import passed_over
from train.data.text import TextFiles
from train.entropy import above
from train.evaluation import encode_text, evaluate_on_all_cores
from train.flags import add_device_flag, typed
from train.objectives import Objective
from train.objectives.bidirectional import Bidirectional
from train.objectives.permutation import Permutation
from train.objectives.windows import Causal
from train.recipes import OBJECTIVES, ObjectiveRecipe
from train.report import describe_loss, perplexity
from train.resume import load_settings
from train.trainer import TrainConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run, or a published GPT's")
    parser.add_argument("--data", metavar="PATH", help="a text file or a folder of them [what the run held out]")
    parser.add_argument("--batch", metavar="N", type=typed(Count), default=16, help="windows evaluated at once [16]")
    parser.add_argument("--stride", metavar="N", type=typed(Whole), default=0, help="of a GPT: tokens from one window "
        "to the next; with fewer than the context, windows overlap and each token (but the first ones) is predicted "
        "from at least the difference [the context]")  # fmt: skip
    parser.add_argument("--best", action="store_true", help="the weights of the lowest held-out loss, not the last")
    add_device_flag(parser)


def main(args: argparse.Namespace) -> None:
    model, tokenizer = checkpoint.load_model(args.run, "best" if args.best else "last")
    model.to(args.device)
    recipe, made = _objective(args, model, tokenizer)
    objective = _plain(args, recipe, made)
    if args.data:
        files = TextFiles(args.data)
        if files.passed_over:
            print(passed_over(files.path, files.passed_over))
        tokens, split = encode_text(files.read(), recipe.encoder(tokenizer))
    elif (args.run / "corpus.json").exists():
        corpus = open_corpus(args.run, len(tokenizer.tokens))
        tokens, split = corpus.val, corpus.val_split
    else:
        raise ValueError(f"{args.run} has no text that it held out; name one with --data")
    if len(tokens) <= objective.context:  # a short text is one window
        objective = dataclasses.replace(objective, context=max(1, len(tokens) - 1))
    objective.check(tokens, "evaluated")
    nats, count = evaluate_on_all_cores(model, objective, tokens, objective.evaluation_batches(tokens))
    if not count:
        raise ValueError("the text has nothing to predict; give more of it")
    if isinstance(objective, Bidirectional):
        loss = f"{nats / count:.4f} nats per word, perplexity {perplexity(nats / count):.2f}"
        print(f"{count:.0f} words each way: {loss}, both ways' mean")
    else:
        print(f"{count:.0f} of {split.tokens} tokens: {describe_loss(nats / count, split.tokens, split.bytes)}")
    if isinstance(made, Permutation) and len(tokens) > made.context:
        print(in_random_orders(*evaluate_on_all_cores(model, made, tokens, made.evaluation_batches(tokens))))
    if nats / count > (guessing := math.log(tokenizer.vocab_size)):
        size = f"{tokenizer.vocab_size:,} entries of the vocabulary"
        print(f"guessing blindly among the {size} would cost {guessing:.4f} nats: of such text the model knows nothing")
    if split.floor is not None:
        print(f"the entropy of this text is {split.floor:.4f} nats per token: {above(nats / count, split.floor)} it")


def in_random_orders(nats: float, count: int) -> str:
    """What an XLNet's own objective says of a text."""
    loss = f"{nats / count:.4f} nats per predicted token, perplexity {perplexity(nats / count):.2f}"
    return f"in random orders, as it was trained: {loss} ({count:.0f} predictions)"


def _objective(args: argparse.Namespace, model, tokenizer) -> tuple[ObjectiveRecipe, Objective]:
    """What the model was trained to predict, and how that is made."""
    family = family_of(model)
    recipe = OBJECTIVES[family.objective]
    if not recipe.plain:
        holds = f"{args.run} holds a {family.name}, which is measured on tasks: python -m train finetune {args.run}"
        raise ValueError(f"eval measures models that predict a text, gpt, elmo and xlnet; {holds}")
    settings = recipe.settings()
    if dataclasses.fields(settings):  # where there are none, a published folder will do
        _, _, settings = load_settings(args.run, recipe.settings)
    return recipe, recipe.make(model.config, TrainConfig(batch=args.batch), settings, tokenizer)


def _plain(args: argparse.Namespace, recipe: ObjectiveRecipe, made: Objective) -> Causal | Bidirectional:
    """What predicts each token of a text once: the next one, or the words on both sides."""
    plain = recipe.plain(made)
    if not args.stride:
        return plain
    if not isinstance(plain, Causal) or not 0 < args.stride <= plain.context:
        what = "windows of a GPT (or an XLNet) begin from 1 to its context of tokens apart"
        raise ValueError(f"--stride {args.stride}: {what}")
    return dataclasses.replace(plain, apart=args.stride)
