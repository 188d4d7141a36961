"""How well models that fill in words know a text: each token guessed from all others, one at a time.

    python -m benchmarks.pseudo runs/bert-1 runs/xlnet-1
    python -m benchmarks.pseudo runs/xlnet-1 --prefixes 32

The sum over a text is its pseudo-log-likelihood (Salazar et al. 2020, arXiv:1910.14659). It is not log p of the text:
every token is told by those behind it too, so no entropy bounds it, and it must not be read beside a GPT's loss. The
texts are paragraphs of the stories that runs on the built-in stories hold out.

--prefixes measures the chain rule from left to right in another way than `eval`: what stands before a token is read
both ways, as by `sample`, and each token of the second half of a window takes a pass of its own.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

import tinytensor as tt
from models.contract import Filler, Writer
from models.generate.sampling import log_softmax
from nn import evaluating
from train import checkpoint
from train.data.corpus import open_corpus
from train.data.told import StoriesSource


def pseudo_log_likelihood(model: Filler, tokenizer, text: str, longest: int, rows: int = 32) -> tuple[float, int]:
    """(sum of log p in nats, tokens) of a text, cut to `longest` tokens with those that stand around it."""
    framed = tokenizer.prepare([text], max_length=longest, special=True)
    places = np.flatnonzero(~np.isin(framed.ids[0], list(tokenizer.special_tokens.values())))
    total = 0.0
    for start in range(0, len(places), rows):
        some = places[start : start + rows]
        ids, types, mask = (np.repeat(array, len(some), axis=0) for array in (framed.ids, framed.types, framed.mask))
        own = np.arange(len(some))
        truth = ids[own, some]
        ids[own, some] = tokenizer.mask_id
        scores = model.fill_scores(ids, types, mask).numpy()[own, some]
        total += float(log_softmax(scores)[own, truth].sum())
    return total, len(places)


def by_prefixes(model: Writer, tokens: np.ndarray, windows: int) -> float:
    """Nats per token, from at least half a context of tokens before it."""
    context, half = model.config.context, model.config.context // 2
    starts = np.linspace(0, len(tokens) - context, windows).astype(int)
    ids = np.stack([tokens[start : start + context] for start in starts]).astype(int)
    nats = 0.0
    for place in tqdm(range(half, context), leave=False, disable=not sys.stderr.isatty()):
        log_p = log_softmax(model.step(ids[:, :place], model.new_cache(windows)))
        nats -= float(np.take_along_axis(log_p, ids[:, place, None], axis=1).sum())
    return nats / (windows * (context - half))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="runs that fill in words: bert, xlnet and their kin")
    parser.add_argument("--stories", type=int, default=8_000_000, help="characters, as in training [8000000]")
    parser.add_argument("--paragraphs", type=int, default=100, help="to measure on, spread over what is held out [100]")
    parser.add_argument("--prefixes", type=int, default=0, help="windows to measure from left to right instead [0]")
    args = parser.parse_args()
    for run in args.runs if args.prefixes else ():
        model, _ = checkpoint.load_model(run)
        with evaluating(model), tt.no_grad():
            nats = by_prefixes(model, open_corpus(run).val, args.prefixes)
        print(f"{run.name}: {nats:.4f} nats per token, what stands before it being read as a prompt")
    if args.prefixes:
        return
    lines = [line for line in StoriesSource(args.stories).texts[1].splitlines() if line.strip()]
    texts = [lines[i] for i in np.linspace(0, len(lines) - 1, args.paragraphs).astype(int)]
    print("| run | parameters | nats per token | nats per character |\n|---|---|---|---|")
    for run in args.runs:
        model, tokenizer = checkpoint.load_model(run)
        longest, nats, tokens = model.config.context, 0.0, 0
        texts = [text for text in texts if len(tokenizer.prepare([text], special=True).ids[0]) <= longest]
        with evaluating(model), tt.no_grad():
            for text in tqdm(texts, run.name, leave=False, disable=not sys.stderr.isatty()):
                found, count = pseudo_log_likelihood(model, tokenizer, text, longest)
                nats, tokens = nats - found, tokens + count
        characters = sum(map(len, texts))
        found = f"{nats / tokens:.4f} | {nats / characters:.4f}"
        print(f"| {run.name} | {model.parameter_count():,} | {found} |", flush=True)


if __name__ == "__main__":
    main()
