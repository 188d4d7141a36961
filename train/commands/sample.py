"""Let a trained model write.

  python -m train sample runs/gpt-1 --prompt "Once upon a time"
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import tinytensor as tt
from models.generate import stream
from train import checkpoint

SUMMARY = "let a trained model write text"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run")
    parser.add_argument("--prompt", default="\n", help="the text to go on from [a new line]")
    parser.add_argument("--tokens", metavar="N", type=int, default=500, help="how many to write [500]")
    parser.add_argument("--samples", metavar="N", type=int, default=1, help="how many texts [1]")
    parser.add_argument("--temperature", metavar="X", type=float, default=0.8, help="0 is greedy, 1 as trained [0.8]")
    parser.add_argument("--top-k", metavar="K", type=int, help="choose among the K most probable tokens only")
    parser.add_argument("--top-p", metavar="P", type=float, help="among the most probable that add up to P only")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="equal seeds write equal texts [0]")
    parser.add_argument("--best", action="store_true", help="the weights of the lowest held-out loss, not the last")


def run(args: argparse.Namespace) -> None:
    if args.tokens < 1 or args.samples < 1 or args.seed < 0:
        raise ValueError("--tokens and --samples must be at least 1, --seed at least 0")
    model, tokenizer = checkpoint.load_model(args.run, "best" if args.best else "last")
    if not args.prompt:
        raise ValueError("--prompt is empty; give at least one character")
    prompt = tokenizer.encode(args.prompt)
    for sample in range(args.samples):
        tt.manual_seed(args.seed, sample)
        if sample:
            print("-" * 30)
        ids, shown = list(prompt), 0
        for step in stream(
            model,
            np.array([prompt]),
            args.tokens,
            temperature=args.temperature,
            top_k=args.top_k,
            top_p=args.top_p,
        ):
            ids.append(int(step.tokens[0]))
            text = tokenizer.decode(ids)
            if not text.endswith("\ufffd"):  # the rest of a character is still to come
                sys.stdout.write(text[shown:])
                sys.stdout.flush()
                shown = len(text)
        print()
