"""Our tokenizers and the published ones at the same work, in one process, on one core each.

    python -m benchmarks.tokenizers --text tinyshakespeare.txt --ranks gpt2.tiktoken [--vocab vocab.txt] [--repeat 5]

Every pair takes turns, and each figure is the least CPU time of its turns, so that other work on the machine weighs
on both alike. Both vocabularies come from tests/models/tokenizers/published.py. Encoding starts cold: a fresh
tokenizer of `tokenizers`, an empty cache of ours.
"""

import argparse
import json
import os
import sys
import tempfile
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time

os.environ["RAYON_NUM_THREADS"] = "1"                   # before tokenizers is imported: one core each
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import tiktoken
import tokenizers as hf

from models.tokenizers import ByteLevelBPE, ClassicBPE, Unigram, WordPiece, load
from models.tokenizers.split import GPT2


def race(repeat, *works):
    """The least CPU seconds of each work; a work is (prepare, run), and only run is timed."""
    best = [float("inf")] * len(works)
    for _ in range(repeat):
        for k, (prepare, run) in enumerate(works):
            ready = prepare()
            start = process_time()
            run(ready)
            best[k] = min(best[k], process_time() - start)
    return best


def just(run):
    return (lambda: None), (lambda _: run())


@dataclass(frozen=True)
class Raced:
    """Seconds of one work here and elsewhere; target: how many times as fast ours should be."""

    what: str
    ours: float
    theirs: float
    peer: str
    target: float | None = None


def report(rows):
    for row in rows:
        ratio, target = f"{row.theirs / row.ours:.2f}", "" if row.target is None else f"{row.target:g}"
        print(f"| {row.what} | {row.ours:.3f} s | {row.theirs:.3f} s ({row.peer}) | {ratio} | {target} |", flush=True)


def train_hf(text, model, trainer, pre_tokenizer, normalizer=None):
    tokenizer = hf.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.train_from_iterator([text], trainer)


def training(text, repeat):
    options = {"vocab_size": 4096, "show_progress": False}
    byte_level = hf.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bert = hf.pre_tokenizers.BertPreTokenizer(), hf.normalizers.BertNormalizer()
    yield Raced("train byte-level BPE, 4096 tokens", *race(
        repeat, just(lambda: ByteLevelBPE.train(text, 4096)),
        just(lambda: train_hf(text, hf.models.BPE(), hf.trainers.BpeTrainer(
            special_tokens=["<|endoftext|>"], initial_alphabet=byte_level.alphabet(), **options), byte_level))),
        "tokenizers", 1.0)
    yield Raced("train WordPiece, 4096 tokens", *race(
        repeat, just(lambda: WordPiece.train(text, 4096)),
        just(lambda: train_hf(text, hf.models.WordPiece(unk_token="[UNK]"), hf.trainers.WordPieceTrainer(
            special_tokens=["[UNK]"], **options), *bert))), "tokenizers", 1.0)
    yield Raced("train classic BPE, 4096 tokens", *race(
        repeat, just(lambda: ClassicBPE.train(text, 4096)),
        just(lambda: train_hf(text, hf.models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"), hf.trainers.BpeTrainer(
            special_tokens=["<unk>"], end_of_word_suffix="</w>", **options), *bert))), "tokenizers", 1.0)
    metaspace = hf.pre_tokenizers.Sequence([hf.pre_tokenizers.WhitespaceSplit(), hf.pre_tokenizers.Metaspace()])
    yield Raced("train Unigram, 4096 tokens", *race(
        1, just(lambda: Unigram.train(text, 4096)),
        just(lambda: train_hf(text, hf.models.Unigram(), hf.trainers.UnigramTrainer(
            special_tokens=["<unk>"], unk_token="<unk>", **options), metaspace, hf.normalizers.NFKC()))),
        "tokenizers", 1.0)


def encoding(text, gpt2, vocab, repeat):
    merging = ByteLevelBPE(gpt2.vocab, gpt2.merges, gpt2.special)      # every word by its merges, as tokenizers does
    peer = tiktoken.Encoding("gpt2", pat_str=GPT2, mergeable_ranks=gpt2.vocab, special_tokens=gpt2.special_tokens)
    with tempfile.TemporaryDirectory() as folder:
        merging.save(folder)
        fresh = cold_reader(Path(folder) / "tokenizer.json")

    def cold(tokenizer):
        return tokenizer.cache.clear, lambda _: tokenizer.encode(text)

    assert gpt2.encode(text) == peer.encode_ordinary(text) == merging.encode(text)
    ours, theirs = race(repeat, cold(merging), (fresh, lambda tokenizer: tokenizer.encode(text)))
    yield Raced("encode with GPT-2's vocabulary, cold", ours, theirs, "tokenizers", 3.0)
    ours, theirs = race(3 * repeat, cold(gpt2), just(lambda: peer.encode_ordinary(text)))
    yield Raced("encode with GPT-2's ranks, cold", ours, theirs, "tiktoken", 0.6)
    yield Raced("encode with GPT-2's ranks, all words known", *race(
        3 * repeat, just(lambda: gpt2.encode(text)), just(lambda: peer.encode_ordinary(text))), "tiktoken")
    if vocab:
        bert = WordPiece.load(vocab)
        with tempfile.TemporaryDirectory() as folder:
            bert.save(folder)
            fresh = cold_reader(Path(folder) / "tokenizer.json")
        ours, theirs = race(repeat, cold(bert),
                            (fresh, lambda tokenizer: tokenizer.encode(text, add_special_tokens=False)))
        yield Raced("encode with BERT's vocabulary, cold", ours, theirs, "tokenizers")


def encoding_t5(text, repeat):
    """A vocabulary of 8000 pieces, cut as the tokenizer.json of a T5 says: NFKC, white space squeezed, marks."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        Unigram.train(text, 8000, extra_ids=100).save(path)
        spec = json.loads(path.read_text())
        spec["normalizer"] = {"type": "Sequence", "normalizers": [
            {"type": "Nmt"}, {"type": "NFKC"}, {"type": "Strip", "strip_left": False, "strip_right": True},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}]}
        path.write_text(json.dumps(spec))
        ours, fresh = load(path), cold_reader(path)

    def clear():
        for cache in (*ours.known.values(), *ours.whole.values()):
            cache.clear()

    assert ours.encode(text) == fresh().encode(text, add_special_tokens=False).ids
    yield Raced("encode with a T5's file, cold", *race(
        repeat, (clear, lambda _: ours.encode(text)),
        (fresh, lambda tokenizer: tokenizer.encode(text, add_special_tokens=False))), "tokenizers")


def cold_reader(path):
    text = path.read_text()
    return lambda: hf.Tokenizer.from_str(text)


def growth(text, gpt2):
    """One word without spaces, and more and more of it: twice the text should take twice the time."""
    letters = "".join(one for one in text if one.isalpha())
    word, before = (letters * 2)[:1 << 20], None
    for size in (1 << 17, 1 << 18, 1 << 19, 1 << 20):
        gpt2.cache.clear()
        start = process_time()
        gpt2.encode(word[:size])
        took = process_time() - start
        compared = f"{took / before:.2f} times the last" if before else ""
        print(f"| one word of {size} letters | {took:.2f} s | {compared} |")
        before = took


def both_cores(text, gpt2):
    """A batch of 18 million characters in one process and in two: wall time, so only idle cores show the gain."""
    texts, walls = [text[at:at + 100_000] for at in range(0, len(text), 100_000)] * 16, []
    for workers in (1, 2):
        gpt2.cache.clear()
        start = perf_counter()
        gpt2.encode_batch(texts, workers=workers)
        walls.append(perf_counter() - start)
    print(f"| encode_batch, {sum(map(len, texts))} characters, one process | {walls[0]:.2f} s | |")
    print(f"| the same, two processes | {walls[1]:.2f} s | {walls[0] / walls[1]:.2f} times as fast |")


def memory(text):
    """What training holds at its peak, for the text once and four times over: the distinct words are the same."""
    for times in (1, 4):
        tracemalloc.start()
        ByteLevelBPE.train((text for _ in range(times)), 1000)
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        print(f"| training on the text {times} times over | {peak:.0f} MB at peak |")
        tracemalloc.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", required=True)
    parser.add_argument("--ranks", required=True)
    parser.add_argument("--vocab")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args()
    text = Path(args.text).read_text()
    print(f"tokenizers {hf.__version__}, tiktoken {tiktoken.__version__}, Python {sys.version.split()[0]}, "
          f"{len(text)} characters\n")
    print("| work | ours | theirs | their time / ours | target |\n|---|---|---|---|---|")
    gpt2 = ByteLevelBPE.load(args.ranks)
    report(training(text, args.repeat))
    report(encoding(text, gpt2, args.vocab, args.repeat))
    report(encoding_t5(text, args.repeat))
    print("\n| work | ours | compared |\n|---|---|---|")
    growth(text, gpt2)
    both_cores(text, gpt2)
    print("\n| work | memory |\n|---|---|")
    memory(text)


if __name__ == "__main__":
    main()
