"""Let a trained model write.

  python -m train sample runs/gpt-1 --prompt "Once upon a time"        a GPT goes on from a prompt
  python -m train sample runs/t5-1 --input "reverse: stressed"         a T5 answers an input
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import tinytensor as tt
from models import T5
from models.generate import answer, stream
from nn import Module
from train import checkpoint, finetune
from train.flags import add_device_flag

SUMMARY = "let a trained model write text"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run")
    parser.add_argument("--prompt", help="the text to go on from [a new line]")
    parser.add_argument("--input", metavar="TEXT", help="for a T5: the text to answer")
    parser.add_argument("--beams", metavar="N", type=int, default=1, help="with --input: keep the N best answers [1]")
    parser.add_argument("--tokens", metavar="N", type=int, default=500, help="how many to write at most [500]")
    parser.add_argument("--samples", metavar="N", type=int, default=1, help="how many texts [1]")
    parser.add_argument(
        "--temperature", metavar="X", type=float, help="0 is greedy, 1 as trained [0.8; with --input 0]"
    )
    parser.add_argument("--top-k", metavar="K", type=int, help="choose among the K most probable tokens only")
    parser.add_argument("--top-p", metavar="P", type=float, help="among the most probable that add up to P only")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="equal seeds write equal texts [0]")
    parser.add_argument("--best", action="store_true", help="the weights of the lowest held-out loss, not the last")
    add_device_flag(parser)


def run(args: argparse.Namespace) -> None:
    if args.tokens < 1 or args.samples < 1 or args.seed < 0:
        raise ValueError("--tokens and --samples must be at least 1, --seed at least 0")
    model, tokenizer = load(args.run, "best" if args.best else "last")
    model.to(args.device)
    holds = f"{args.run} holds a {type(model).__name__}"
    if not hasattr(model, "step"):
        raise ValueError(f"{holds}, which reads but does not write")
    reads = isinstance(model, T5)
    if reads and args.input is None:
        raise ValueError(f"{holds}, which answers: give the text to read with --input")
    if not reads and args.input is not None:
        raise ValueError(f"{holds}, which goes on from a --prompt; --input is for a T5")
    write_answers(model, tokenizer, args) if reads else write_on(model, tokenizer, args)


def load(folder: Path, which: str) -> tuple[Module, object]:
    """The model and tokenizer of a run, of a published folder, or of a T5 that was fine-tuned."""
    if finetune.is_finetuned(folder):
        tuned = finetune.load(folder)
        return tuned.model.body, tuned.inputs.tokenizer
    return checkpoint.load_model(folder, which)


def write_answers(model: Module, tokenizer, args: argparse.Namespace) -> None:
    """What an encoder-decoder answers to --input, a line for each sample."""
    if args.beams > 1:
        how = dict(beams=args.beams)
    else:
        how = dict(temperature=args.temperature or 0.0, top_k=args.top_k, top_p=args.top_p)
    tt.manual_seed(args.seed)
    for text in answer(model, tokenizer, [args.input], args.tokens, samples=args.samples, **how):
        print(text)


def write_on(model: Module, tokenizer, args: argparse.Namespace) -> None:
    """How a decoder goes on from --prompt, token by token as they come."""
    temperature = 0.8 if args.temperature is None else args.temperature
    text = "\n" if args.prompt is None else args.prompt
    if not text:
        raise ValueError("--prompt is empty; give at least one character")
    prompt = tokenizer.encode(text)
    for sample in range(args.samples):
        tt.manual_seed(args.seed, sample)
        if sample:
            print("-" * 30)
        ids, shown = list(prompt), 0
        for step in stream(
            model, np.array([prompt]), args.tokens, temperature=temperature, top_k=args.top_k, top_p=args.top_p
        ):
            ids.append(int(step.tokens[0]))
            text = tokenizer.decode(ids)
            if not text.endswith("\ufffd"):  # the rest of a character is still to come
                sys.stdout.write(text[shown:])
                sys.stdout.flush()
                shown = len(text)
        print()
