"""Learn a vocabulary from text files, and write tokenizer.json.

  python -m train tokenizer --data book.txt --vocab-size 4096 --out tokens.json
  python -m train tokenizer --data notes/ --kind wordpiece --cased --vocab-size 8000 --out words.json

The commands that train a model take the result with --tokenizer FILE.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from models.schema import Count, Whole
from models.tokenizers import ByteLevelBPE, Characters, ClassicBPE, Tokenizer, Unigram, WordPiece, Words
from train.data.records import passed_over
from train.data.text import TextFiles
from train.flags import typed
from train.places import check_output
from train.report import bar

KINDS = {"bpe": ByteLevelBPE, "classic": ClassicBPE, "wordpiece": WordPiece, "unigram": Unigram,
         "characters": Characters, "words": Words}

# The kinds an option is for, by the keyword it is to their train().
OPTIONS = {"special_tokens": ("bpe", "classic", "wordpiece", "unigram", "characters"), "pattern": ("bpe",),
           "lowercase": ("wordpiece", "classic"), "min_frequency": ("bpe", "classic", "wordpiece"),
           "score": ("wordpiece",), "extra_ids": ("unigram",)}


def add_arguments(parser) -> None:
    parser.add_argument("--kind", choices=KINDS, default="bpe", help="the scheme [bpe, byte-level]")
    parser.add_argument("--data", required=True, metavar="PATH", help="a UTF-8 text file or a folder of them")
    parser.add_argument("--vocab-size", type=typed(Count), metavar="N", help="tokens to have, special ones included")
    parser.add_argument("--out", required=True, metavar="PATH", type=Path,
                        help="a .json file, or a folder for tokenizer.json (wordpiece: or .txt; bpe: or .tiktoken)")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it exists")

    def add(flag: str, help: str, **how) -> None:
        parser.add_argument(flag, default=argparse.SUPPRESS, help=help, **how)

    add("--special", "special tokens, instead of the scheme's own", dest="special_tokens", nargs="*", metavar="TOKEN")
    add("--pattern", "bpe: how text is cut into words: gpt2, gpt4 or a pattern [gpt2]")
    add("--cased", "wordpiece, classic: keep capitals and accents", dest="lowercase", action="store_false")
    add("--min-frequency", "bpe, classic, wordpiece: merge no rarer pair [0]", type=typed(Whole), metavar="N")
    add("--score", "wordpiece: which pair to join next [frequency]", choices=("frequency", "likelihood"))
    add("--extra-ids", "unigram: T5's sentinels, 100 in T5 [0]", type=typed(Whole), metavar="N")


def main(args) -> None:
    files = TextFiles(args.data)
    if files.passed_over:
        print(passed_over(files.path, files.passed_over))
    if args.vocab_size is None and args.kind != "characters":
        raise ValueError(f"--kind {args.kind} needs --vocab-size; 4096 is a good start for a few megabytes of text")
    options = options_of(args)
    make_room(args.out, args.kind, args.overwrite, args.data)
    tokenizer = train(args, files, options)
    tokenizer.save(args.out)
    text = next(files.read())[:100_000]
    ratio = len(text) / max(len(tokenizer.encode(text)), 1)
    print(f"{args.out}: {args.kind}, {tokenizer.vocab_size} tokens, {ratio:.2f} characters a token")
    if args.vocab_size is not None and args.kind != "characters" and tokenizer.vocab_size < args.vocab_size:
        print(f"the text has no more to join: {tokenizer.vocab_size} tokens instead of {args.vocab_size}")


def options_of(args) -> dict:
    """The keywords for train() that flags were given for, each of which must mean something to the kind."""
    given = {name: value for name, value in vars(args).items() if name in OPTIONS}
    flags = {"special_tokens": "--special", "lowercase": "--cased"}
    for name in given:
        flag = flags.get(name, f"--{name.replace('_', '-')}")
        if args.kind not in OPTIONS[name]:
            raise ValueError(f"{flag} is for --kind {', '.join(OPTIONS[name])}, not {args.kind}; leave it out")
    return given


def make_room(out: Path, kind: str, overwrite: bool, data: str) -> None:
    """The folder that `out` is, or stands in, so that nothing is learnt in vain; and nothing that is there is lost."""
    own = {"wordpiece": ".txt", "bpe": ".tiktoken"}.get(kind)
    if out.suffix in (".txt", ".tiktoken") and out.suffix != own:
        raise ValueError(f"--out {out}: --kind {kind} is written to a .json file, or to a folder")
    file = out if out.suffix in (".json", own) else out / "tokenizer.json"
    check_output(file, overwrite, [data])
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {out} cannot be made: {error.strerror}") from None


def train(args, files: TextFiles, options: dict) -> Tokenizer:
    scheme, pieces = KINDS[args.kind], reading(files)
    if args.kind in ("characters", "words"):
        return scheme.train(pieces, args.vocab_size, **options)
    with bar(what="learning", total=args.vocab_size, unit="token", leave=True) as shown:
        progress = lambda done: shown.update(done - shown.n)
        return scheme.train(pieces, args.vocab_size, **options, progress=progress)


def reading(files: TextFiles) -> Iterator[str]:
    """The pieces of the text, with a bar that shows how far it was read."""
    with bar(what="reading", total=files.size, unit="B", unit_scale=True, leave=True) as shown:
        for piece in files.read():
            shown.update(len(piece.encode()))
            yield piece
