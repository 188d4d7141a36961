"""python -m train tokenizer: learns a vocabulary from text files and writes tokenizer.json.

The other commands take the result with --tokenizer FILE.
"""

from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from models.tokenizers import ByteLevelBPE, Characters, ClassicBPE, Tokenizer, Unigram, WordPiece, Words
from train.data.text import TextFiles

SUMMARY = "learn a vocabulary from text: byte-level BPE, classic BPE, WordPiece, Unigram, characters or words"
KINDS = {"bpe": ByteLevelBPE, "classic": ClassicBPE, "wordpiece": WordPiece, "unigram": Unigram,
         "characters": Characters, "words": Words}


def add_arguments(parser) -> None:
    parser.add_argument("--kind", choices=KINDS, default="bpe", help="the scheme (default: bpe, byte-level)")
    parser.add_argument("--data", required=True, metavar="PATH", help="a UTF-8 text file or a folder of them")
    parser.add_argument("--vocab-size", type=int, metavar="N", help="tokens in the vocabulary, special ones included")
    parser.add_argument("--out", required=True, metavar="PATH",
                        help="a .json file, or a folder for tokenizer.json (wordpiece: or .txt; bpe: or .tiktoken)")
    parser.add_argument("--special", nargs="*", metavar="TOKEN", help="special tokens, instead of the scheme's own")
    parser.add_argument("--pattern", default="gpt2", help="bpe: how text is cut into words: gpt2, gpt4 or a pattern")
    parser.add_argument("--cased", action="store_true", help="wordpiece, classic: keep capitals and accents")
    parser.add_argument("--min-frequency", type=int, default=0, metavar="N",
                        help="bpe, classic, wordpiece: merge no pair seen less often (default: 0)")
    parser.add_argument("--score", choices=("frequency", "likelihood"), default="frequency",
                        help="wordpiece: which pair to join next (default: frequency)")
    parser.add_argument("--extra-ids", type=int, default=0, metavar="N", help="unigram: T5's sentinels (100 in T5)")


def run(args) -> None:
    files = TextFiles(args.data)
    if args.vocab_size is None and args.kind != "characters":
        raise ValueError(f"--kind {args.kind} needs --vocab-size; 4096 is a good start for a few megabytes of text")
    if args.vocab_size is not None and args.vocab_size < 1:
        raise ValueError(f"--vocab-size {args.vocab_size} is not positive")
    make_room(Path(args.out), args.kind)
    tokenizer = train(args, files)
    tokenizer.save(args.out)
    print(f"{args.out}: {args.kind}, {tokenizer.vocab_size} tokens, "
          f"{characters_per_token(tokenizer, files):.2f} characters a token")
    if args.vocab_size is not None and args.kind != "characters" and tokenizer.vocab_size < args.vocab_size:
        print(f"the text has no more to join: {tokenizer.vocab_size} tokens instead of {args.vocab_size}")


def make_room(out: Path, kind: str) -> None:
    """The folder that `out` is, or stands in, so that nothing is learnt in vain."""
    own = {"wordpiece": ".txt", "bpe": ".tiktoken"}.get(kind)
    if out.suffix in (".txt", ".tiktoken") and out.suffix != own:
        raise ValueError(f"--out {out}: --kind {kind} is written to a .json file, or to a folder")
    try:
        (out.parent if out.suffix in (".json", own) else out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--out {out} cannot be made: {error.strerror}") from None


def train(args, files: TextFiles) -> Tokenizer:
    options = {"special_tokens": args.special} if args.special is not None else {}
    if args.kind == "bpe":
        options |= {"pattern": args.pattern, "min_frequency": args.min_frequency}
    elif args.kind in ("classic", "wordpiece"):
        options |= {"lowercase": not args.cased, "min_frequency": args.min_frequency}
    elif args.kind == "unigram":
        options |= {"extra_ids": args.extra_ids}
    if args.kind == "wordpiece":
        options |= {"score": args.score}
    if args.kind == "characters":
        return Characters.train(reading(files), args.vocab_size, **options)
    if args.kind == "words":
        if options:
            raise ValueError("--kind words has its own marks, <S>, </S> and <UNK>; leave out --special")
        return Words.train(reading(files), args.vocab_size)
    with tqdm(total=args.vocab_size, desc="learning", unit="token") as bar:
        progress = lambda done: bar.update(done - bar.n)
        return KINDS[args.kind].train(reading(files), args.vocab_size, **options, progress=progress)


def reading(files: TextFiles) -> Iterator[str]:
    """The pieces of the text, with a bar that shows how far it was read."""
    with tqdm(total=files.size, desc="reading", unit="B", unit_scale=True) as bar:
        for piece in files.read():
            bar.update(len(piece.encode()))
            yield piece


def characters_per_token(tokenizer: Tokenizer, files: TextFiles) -> float:
    text = next(files.read())[:100_000]
    return len(text) / max(len(tokenizer.encode(text)), 1)
