"""Fill in the words behind [MASK], with a BERT that was trained here or a published one.

  python -m train fill "Jim made [MASK] for his girlfriend and [MASK] was very proud!"
  python -m train fill --model bert-base-uncased-folder "Paris is the [MASK] of France."
"""

import argparse
from pathlib import Path

import numpy as np

import tinytensor as tt
from models.contract import Filler
from models.schema import Count
from tinytensor import backend
from train import checkpoint
from train.flags import add_device_flag, typed
from train.places import newest_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("text", metavar="TEXT", help="a text with [MASK] (or <mask>) where words are missing")
    parser.add_argument("--model", metavar="PATH", type=Path, help="a run or a published folder [the newest bert run]")
    parser.add_argument("--pair", metavar="TEXT", help="a second text that comes after the first")
    parser.add_argument("--top", metavar="N", type=typed(Count), default=5, help="guesses to show for each [5]")
    add_device_flag(parser)


def main(args: argparse.Namespace) -> None:
    model, tokenizer = checkpoint.load_model(args.model or newest_run("bert"))
    if not isinstance(model, Filler):
        raise ValueError(f"a {type(model).__name__} fills in no words; give a BERT, RoBERTa, DistilBERT or ALBERT")
    if "mlm" in model.untrained:
        raise ValueError(f"{args.model} has no masked-word head of this model's form, so it can fill in nothing")
    filled, guesses = fill(model.to(args.device), tokenizer, args.text, args.pair, args.top)
    print(filled)
    for number, guess in enumerate(guesses, start=1):
        print(f"  {number}: " + "  ".join(f"{token} {p:.1%}" for token, p in guess))


def fill(model, tokenizer, text: str, pair: str | None = None, top: int = 5) -> tuple[str, list[list]]:
    """(the text with the best guesses in it, for every mask the `top` most probable (token, probability))."""
    if tokenizer.mask_id is None:
        raise ValueError("the model's tokenizer has no mask token")
    batch = tokenizer.prepare([text], None if pair is None else [pair], special=True)
    (places,) = np.nonzero(batch.ids[0] == tokenizer.mask_id)
    if not len(places):
        mask = tokenizer.tokens[tokenizer.mask_id]
        raise ValueError(f"there is nothing to fill in: write {mask} where a word is missing")
    with tt.no_grad():
        logits = model.fill_scores(batch.ids, batch.types, batch.mask)
    p = tt.ops.softmax(tt.Tensor(backend.to_numpy(logits.data)[0, places])).data
    p = p[:, : len(tokenizer.tokens)]  # a published table may have rows beyond its tokens
    special = [*tokenizer.special_tokens.values(), *(i for i, token in enumerate(tokenizer.tokens) if token is None)]
    p[:, special] = 0  # they stand for no word
    best = p.argsort(axis=-1)[:, ::-1][:, : min(top, p.shape[1] - len(special))]
    guesses = [[(tokenizer.tokens[i], float(row[i])) for i in some] for row, some in zip(p, best)]
    ids = batch.ids[0].copy()
    ids[places] = best[:, 0]
    return tokenizer.decode([i for i in ids.tolist() if i not in special]).strip(), guesses
