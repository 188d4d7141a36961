"""Make a page that shows what happens inside a model while it reads a text: one HTML file that needs nothing else.

  python -m train explore runs/gpt-1 --text "Once there was a fox."
  python -m train explore gpt2-folder/ --text "The river bank" --out gpt2.html
  python -m train explore runs/sight-1 --image cat.png --text "Where is this? in the wood"
  python -m train explore runs/t5-1 --text "reverse: stressed" --answer desserts
"""

import argparse
from pathlib import Path

from models.contract import Writer
from models.files import write_text
from models.schema import Count
from models.sight import Sight
from train import checkpoint
from train.data import images
from train.explore import page
from train.flags import typed
from train.places import check_output

TEXT = "Once there was a girl named Mia, who lost her red ball in the garden. Mia looked for the ball."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run", metavar="RUN", type=Path, help="the folder of a run, or a published one")
    add("--text", default=TEXT, help="what the model reads [two sentences about a ball]")
    add("--answer", metavar="TEXT", help="for a T5: what it should write [what it writes itself]")
    add("--image", metavar="FILE", type=Path, help="of a model that reads pictures: what it looks at before the text")
    add("--tokens", metavar="N", type=typed(Count), default=64, help="the most tokens to read [64]")
    add("--out", metavar="PATH", type=Path, help="the page to write [explore.html in RUN]")
    add("--overwrite", action="store_true", help="replace the page if it exists")
    add("--best", action="store_true", help="the weights of the lowest held-out loss, not the last")


def main(args: argparse.Namespace) -> None:
    if args.out:
        check_output(args.out, args.overwrite, [])
    model, tokenizer = checkpoint.load_model(args.run, "best" if args.best else "last")
    if args.answer is not None and not (isinstance(model, Writer) and model.reads_source):
        raise ValueError(f"--answer is for models that read one text and write another, not a {type(model).__name__}")
    if args.image and not isinstance(model, Sight):
        raise ValueError(f"--image is for models that read pictures, not for a {type(model).__name__}; leave it out")
    pixels = images.load(args.image, model.config.side) if args.image else None
    data = page.collect(model, tokenizer, args.text, args.answer, args.tokens, args.run.resolve().name, pixels)
    out = args.out or args.run / "explore.html"
    write_text(out, page.html(data))
    print(f"the page is {out}: open it in a browser")
