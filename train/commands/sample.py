"""Let a trained model write.

  python -m train sample runs/gpt-1 --prompt "Once upon a time"
  python -m train sample runs/gpt-1 --top-p 0.9 --samples 3 --stop "."
  python -m train sample runs/gpt-1 --beams 5 --tokens 40
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import tinytensor as tt
from models.generate import Sampling, stream_text, write
from models.generate.draft import PAST_CONTEXT
from train import checkpoint
from train.flags import add_config_flags, given

SUMMARY = "let a trained model write text"
END = "<|endoftext|>"  # a special token of this name ends a text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run, or a published one")
    parser.add_argument("--prompt", default="\n", help="the text to go on from [a new line]")
    parser.add_argument("--tokens", metavar="N", type=int, default=500, help="how many to write [500]")
    parser.add_argument("--samples", metavar="N", type=int, default=1, help="how many texts [1]")
    parser.add_argument("--stop", metavar="TEXT", action="append", default=[], help="end before TEXT (may be repeated)")
    parser.add_argument("--beams", metavar="N", type=int, default=1, help="beam search: the N best texts live on [1]")
    parser.add_argument("--length-penalty", metavar="X", type=float, default=1.0,
                        help="of beam search: above 0 favours long texts [1.0]")  # fmt: skip
    parser.add_argument("--past-context", choices=PAST_CONTEXT, default="slide",
                        help="what to do when the context is full [slide]")  # fmt: skip
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="equal seeds write equal texts [0]")
    parser.add_argument("--best", action="store_true", help="the weights of the lowest held-out loss, not the last")
    add_config_flags(parser, "how to choose a token", Sampling, {"temperature": 0.8})


def run(args: argparse.Namespace) -> None:
    if args.tokens < 1 or args.samples < 1 or args.seed < 0 or args.beams < 1:
        raise ValueError("--tokens, --samples and --beams must be at least 1, --seed at least 0")
    how = given(args, Sampling)
    if args.beams == 1:
        how = {"temperature": 0.8} | how
    Sampling(**how)  # bad values are named before any file is read
    model, tokenizer = checkpoint.load_model(args.run, "best" if args.best else "last")
    if not args.prompt:
        raise ValueError("--prompt is empty; give at least one character")
    how |= dict(stop=args.stop, past_context=args.past_context)
    if END in tokenizer.special:
        how["end"] = tokenizer.special[END].id
    if args.beams > 1:
        beams = dict(beams=args.beams, length_penalty=args.length_penalty, samples=args.samples)
        texts = [[text] for text in write(model, tokenizer, args.prompt, args.tokens, **beams, **how)]
    else:
        texts = (stream_text(model, tokenizer, args.prompt, args.tokens, **how) for _ in range(args.samples))
    for sample, pieces in enumerate(texts):
        tt.manual_seed(args.seed, sample)
        sys.stdout.write("-" * 30 + "\n" if sample else "")
        sys.stdout.write(args.prompt)
        for piece in pieces:
            sys.stdout.write(piece)
            sys.stdout.flush()
        print()
