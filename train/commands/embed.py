"""Search a text by meaning: which of its sentences are most like what you ask?

  python -m train embed notes/ "how to bake bread"                with the newest bert run
  python -m train embed notes/ "how to bake bread" --model FOLDER with a published sentence model, or any run
  python -m train embed notes/ "how to bake bread" --index notes.npz    keep their vectors for the next question
  python -m train embed notes/ --out vectors.npz                  the same, for your own use
"""

import argparse
import json
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from models.files import replace_file
from models.pretrained.text_vectors import POOLS, TextVectors, text_vectors
from models.schema import Count
from train import checkpoint
from train.data.records import passed_over
from train.data.text import TextFiles
from train.embedding import embed, nearest, normalized, reader
from train.flags import add_device_flag, typed
from train.places import check_output, newest_run
from train.search import passages


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", metavar="PATH", help="a text file or a folder of them")
    parser.add_argument("query", metavar="QUERY", nargs="?", help="what to look for")
    parser.add_argument("--model", metavar="PATH", type=Path, help="a run or a published folder [the newest bert run]")
    parser.add_argument("--pool", choices=POOLS, help="a text's vector: its tokens' mean, [CLS]'s, or their maximum "
                        "[what the folder says, else mean]")
    parser.add_argument("--top", metavar="N", type=typed(Count), default=5, help="sentences to show [5]")
    parser.add_argument("--batch", metavar="N", type=typed(Count), default=32, help="sentences read at once [32]")
    parser.add_argument("--index", metavar="FILE", type=Path, help="an .npz file that keeps the vectors: opened where "
                        "it is of these files and this model, else made anew")  # fmt: skip
    parser.add_argument("--out", metavar="FILE", type=Path, help="write all sentences and vectors into this .npz file")
    parser.add_argument("--overwrite", action="store_true", help="replace that file if it exists")
    add_device_flag(parser)


def main(args: argparse.Namespace) -> None:
    if args.query is None and args.out is None and args.index is None:
        raise ValueError("give something to look for, or --index FILE or --out FILE to keep the vectors")
    for flag, file in (("--out", args.out), ("--index", args.index)):
        if file and file.suffix != ".npz":
            raise ValueError(f"{flag} {file} must end in .npz, NumPy's format for several arrays")
    place = args.model or newest_run("bert")
    if args.out:
        check_output(args.out, args.overwrite, [args.data, place])
    if args.index:
        check_output(args.index, True, [args.data, place], "--index")
    how = text_vectors(place)
    files = TextFiles(args.data)
    if files.passed_over:
        print(passed_over(files.path, files.passed_over))
    pool = args.pool or how.pool
    model, tokenizer = checkpoint.load_model(how.model)
    body, inputs = reader(model, tokenizer, how.max_length)
    body.to(args.device)
    vectors_of = partial(embed, body, inputs, pool=pool, batch=args.batch, normalize=how.normalize)
    key = key_of(files, how, pool)
    found = args.index and args.index.exists() and read_index(args.index, key)
    if not found:
        if not (sentences := passages(files)):
            raise ValueError(f"{args.data} holds no sentences")
        found = Found(list(sentences), list(sentences.values()), vectors_of(how.prepared(list(sentences))))
    if args.index and found.made:
        found.write(args.index, key)
        print(f"{len(found.texts)} sentences and their vectors are in {args.index}")
    if args.out:
        found.write(args.out, key)
        print(f"{len(found.texts)} sentences and their vectors of {found.vectors.shape[1]} numbers are in {args.out}")
    if args.query is not None:
        (query,) = normalized(vectors_of(how.prepared([args.query], query=True)))
        for i, cosine in nearest(query, normalized(found.vectors), args.top):
            print(f"{cosine:.3f}  {found.texts[i]}  ({found.files[i]})")


@dataclass
class Found:
    """All sentences, the file each stands in, and their vectors.   made: just now, not read from an index."""

    texts: list[str]
    files: list[str]
    vectors: np.ndarray
    made: bool = True

    def write(self, path: Path, key: str) -> None:
        arrays = dict(vectors=self.vectors, texts=np.array(self.texts), files=np.array(self.files), key=np.array(key))

        def write(beside: Path) -> None:
            with open(beside, "wb") as file:  # given a name, savez would add .npz to it
                np.savez(file, **arrays)

        replace_file(path, write)


def key_of(files: TextFiles, how: TextVectors, pool: str) -> str:
    """What the vectors depend on: the files, as far as their sizes and times tell, and the model's."""
    kinds = (".json", ".safetensors", ".bin", ".hdf5")
    of_model = (path for path in sorted(how.model.iterdir()) if path.suffix in kinds)
    paths = [*(file.path for file in files.files), *of_model]
    states = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return json.dumps([pool, str(how), states])


def read_index(path: Path, key: str) -> Found | None:
    """The sentences and vectors in an index, if they are of these files and this model."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if "key" not in arrays or str(arrays["key"]) != key:
                print(f"{path} is of other files or another model, and is made anew")
                return None
            return Found(arrays["texts"].tolist(), arrays["files"].tolist(), arrays["vectors"], made=False)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        what = f"--index {path} is none that embed has written, or is damaged"
        raise ValueError(f"{what} ({error}); name another") from None
