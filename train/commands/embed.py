"""Search a text by meaning: which of its sentences are most like what you ask?

  python -m train embed notes/ "how to bake bread"                with the newest bert run
  python -m train embed notes/ "how to bake bread" --model FOLDER with a published sentence model, or any run
  python -m train embed notes/ --out vectors.npz                  keep the sentences' vectors
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np

from models.files import replace_file
from models.pretrained.text_vectors import POOLS, text_vectors
from models.schema import Count
from models.sentences import split_sentences
from train import checkpoint
from train.data.text import TextFiles
from train.embedding import embed, nearest, normalized, reader
from train.flags import add_device_flag, typed
from train.places import check_output, newest_run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="PATH", help="a text file or a folder of them")
    parser.add_argument("query", metavar="QUERY", nargs="?", help="what to look for")
    parser.add_argument("--model", metavar="PATH", type=Path, help="a run or a published folder [the newest bert run]")
    parser.add_argument("--pool", choices=POOLS, help="a text's vector: its tokens' mean, [CLS]'s, or their maximum "
                        "[what the folder says, else mean]")
    parser.add_argument("--top", metavar="N", type=typed(Count), default=5, help="sentences to show [5]")
    parser.add_argument("--batch", metavar="N", type=typed(Count), default=32, help="sentences read at once [32]")
    parser.add_argument("--out", metavar="FILE", type=Path, help="write all sentences and vectors into this .npz file")
    parser.add_argument("--overwrite", action="store_true", help="replace that file if it exists")
    add_device_flag(parser)


def main(args: argparse.Namespace) -> None:
    if args.query is None and args.out is None:
        raise ValueError("give something to look for, or --out FILE to keep the vectors")
    if args.out and args.out.suffix != ".npz":
        raise ValueError(f"--out {args.out} must end in .npz, NumPy's format for several arrays")
    place = args.model or newest_run("bert")
    if args.out:
        check_output(args.out, args.overwrite, [args.data, place])
    how = text_vectors(place)
    model, tokenizer = checkpoint.load_model(how.model)
    body, inputs = reader(model, tokenizer, how.max_length)
    if not (found := passages(args.data)):
        raise ValueError(f"{args.data} holds no sentences")
    texts = [text for _, text in found]
    body.to(args.device)
    vectors_of = partial(embed, body, inputs, pool=args.pool or how.pool, batch=args.batch, normalize=how.normalize)
    vectors = vectors_of(how.prepared(texts))
    if args.out:
        arrays = dict(vectors=vectors, texts=np.array(texts), files=np.array([file for file, _ in found]))
        replace_file(args.out, lambda path: write_arrays(path, arrays))
        print(f"{len(texts)} sentences and their vectors of {vectors.shape[1]} numbers are in {args.out}")
    if args.query is not None:
        (query,) = normalized(vectors_of(how.prepared([args.query], query=True)))
        for i, cosine in nearest(query, normalized(vectors), args.top):
            print(f"{cosine:.3f}  {texts[i]}  ({found[i][0]})")


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with open(path, "wb") as file:  # given a name, savez would add .npz to it
        np.savez(file, **arrays)


def passages(path: str | Path) -> list[tuple[str, str]]:
    """(file, sentence) of all sentences in a text file, or in a folder of them."""
    found = []
    files = TextFiles(path)
    if files.passed_over:
        print(files.passed_over_sentence())
    for file in files.files:
        for piece in file.read(0, file.size):
            found += [(str(file.path), s.strip()) for line in piece.splitlines() for s in split_sentences(line)]
    return found
