"""See how a model reads a text: every token's probability and rank, given the tokens before it.

  python -m train score runs/gpt-1 --text "Once there was a fox."
  python -m train score runs/gpt-1 --file story.txt --html story.html
"""

import argparse
import html
import math
import os
import sys
from pathlib import Path

import numpy as np

from models.contract import LeftToRight
from models.files import read_text, write_text
from models.score import Scores, score
from models.tokenizers import Tokenizer
from train import checkpoint
from train.flags import add_device_flag
from train.places import check_output
from train.report import perplexity

# From sure to surprised: (probability from which on it holds, terminal colour of 256, web colour).
SHADES = [(0.5, 114, "#87d787"), (0.1, 149, "#afd75f"), (0.02, 221, "#ffd75f"), (0.002, 215, "#ffaf5f"),
          (0.0, 203, "#ff5f5f")]  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", type=Path, help="the folder of a run, or a published one")
    parser.add_argument("--text", help="the text to score")
    parser.add_argument("--file", metavar="PATH", type=Path, help="or a file that holds it")
    parser.add_argument("--html", metavar="PATH", type=Path, help="also write a page with the text in colour")
    parser.add_argument("--overwrite", action="store_true", help="replace that page if it exists")
    parser.add_argument("--best", action="store_true", help="the weights of the lowest held-out loss, not the last")
    add_device_flag(parser)


def main(args: argparse.Namespace) -> None:
    if (args.text is None) == (args.file is None):
        raise ValueError("give the text to score: either --text or --file")
    if args.html:
        check_output(args.html, args.overwrite, [args.model, args.file], "--html")
    text = args.text if args.file is None else read_text(args.file)
    model, tokenizer = checkpoint.load_model(args.model, "best" if args.best else "last")
    if not isinstance(model, LeftToRight):
        raise ValueError(f"a {type(model).__name__} does not read from left to right; score works with GPT models")
    ids = tokenizer.encode(text)
    if len(ids) < 2:
        raise ValueError(f"scoring needs a text of at least two tokens, and {text[:40]!r} has {len(ids)}")
    scores, pieces = score(model.to(args.device), ids), text_pieces(tokenizer, ids)
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    print(terminal_page(pieces, scores, colour))
    print(caption := summary(scores, text))
    if args.html:
        write_text(args.html, html_page(pieces, scores, caption))
        print(f"the page is {args.html}")


def text_pieces(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    """The part of the text that each token adds; "" while a character's other bytes are still to come."""
    text = lambda start, stop: tokenizer.decode(ids[start:stop]).rstrip("\ufffd")
    pieces = [text(0, 1)]
    for n in range(1, len(ids)):
        start = max(0, n - 16)  # enough for the longest character, and for how a token reads after another
        pieces.append(text(start, n + 1)[len(text(start, n)) :])
    return pieces


def terminal_page(pieces: list[str], scores: Scores, colour: bool) -> str:
    """The text, coloured, and a line for each token."""
    paint = lambda text, chance: f"\x1b[38;5;16;48;5;{shade(chance)[1]}m{text}\x1b[0m" if colour else text
    chances = np.exp(scores.log_probs)
    running = pieces[0] + "".join(paint(piece, chance) for piece, chance in zip(pieces[1:], chances))
    lines = [running, "", f"{'probability':>11}  {'rank':>6}  token", f"{'-':>11}  {'-':>6}  {pieces[0]!r}"]
    for piece, chance, rank in zip(pieces[1:], chances, scores.ranks):
        lines.append(f"{chance:11.4f}  {rank:6}  {paint(repr(piece), chance)}")
    return "\n".join(lines)


def html_page(pieces: list[str], scores: Scores, caption: str) -> str:
    """One page that needs nothing else: the text with a colour behind each token, its figures under the pointer."""
    spans = [f"<span>{html.escape(pieces[0])}</span>"]
    for piece, log_p, rank in zip(pieces[1:], scores.log_probs, scores.ranks):
        chance = math.exp(log_p)
        about = f"probability {chance:.4f}, rank {rank}, {-log_p:.2f} nats"
        spans.append(f'<span style="background:{shade(chance)[2]}" title="{about}">{html.escape(piece)}</span>')
    legend = " ".join(f'<span style="background:{web}">&nbsp;from {floor:g}&nbsp;</span>' for floor, _, web in SHADES)
    return (
        '<!doctype html>\n<meta charset="utf-8">\n<title>Token probabilities</title>\n'
        "<style>body{font:18px/1.7 Georgia,serif;max-width:46em;margin:3em auto;padding:0 1em;color:#222}"
        "pre{font:inherit;white-space:pre-wrap}span{border-radius:3px}p{font:14px sans-serif}</style>\n"
        f"<pre>{''.join(spans)}</pre>\n<p>{html.escape(caption)}</p>\n<p>Probability of a token: {legend}</p>\n"
    )


def shade(chance: float) -> tuple[float, int, str]:
    return next(entry for entry in SHADES if chance >= entry[0])


def summary(scores: Scores, text: str) -> str:
    nats, first = -scores.log_probs.mean(), (scores.ranks == 1).mean()
    bits = -scores.log_probs.sum() / math.log(2) / len(text.encode())
    return (f"{len(scores.ranks)} tokens predicted: {nats:.4f} nats each, perplexity {perplexity(nats):.2f}, "
            f"{bits:.4f} bits per byte; {100 * first:.0f}% were the model's first choice")  # fmt: skip
