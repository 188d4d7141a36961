"""Decoding here and in transformers: GPT-2 (124M, random weights), a prompt read, T5 small, and a BERT that scores.

    python -m benchmarks.generate
    python -m benchmarks.generate --streams 1 8 --tokens 48 --prefill 512 --threads 2

Both write greedily with their own `generate` from the same prompts; the texts must be equal. They take turns in one
process, so that a machine that slows down slows both; the figures are medians over the turns. Reading one token means
reading all weights once, so one stream is bound by memory: 124M numbers of 4 bytes are 0.5 GB a token.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import threadpoolctl
import torch
import transformers

import tinytensor as tt
from models import GPT, T5, BERTForPreTraining
from models.generate import generate
from tinytensor.distributed import core_count


def timed(work) -> tuple[float, object]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def race(ours, theirs, rounds: int) -> tuple[float, float, object, object]:
    """(our median seconds, their median seconds, our result, their result), taking turns after a first one of each."""
    ours(), theirs()
    times = [(timed(ours), timed(theirs)) for _ in range(rounds)]
    return (*(statistics.median(turn[side][0] for turn in times) for side in (0, 1)), times[0][0][1], times[0][1][1])


@dataclass(frozen=True)
class Raced:
    """What took how many seconds here and in transformers, and what its result says."""

    work: str
    ours: float
    theirs: float
    tokens: int  # written or read in that time
    note: str = ""


def both(theirs, ours) -> tuple:
    """A model of transformers, and ours of the same weights, in the layout for reading a token at a time."""
    with tempfile.TemporaryDirectory() as folder:
        theirs.eval().save_pretrained(folder)
        return theirs, ours.from_pretrained(folder).for_inference()


def gpt(streams: list[int], tokens: int, prefill: int, rounds: int) -> Iterator[Raced]:
    """GPT-2 writes greedily, each side by its own `generate`, and reads a prompt."""
    config = transformers.GPT2Config(bos_token_id=None, eos_token_id=None)
    theirs, ours = both(transformers.GPT2LMHeadModel(config), GPT)
    greedy = transformers.GenerationConfig(max_new_tokens=tokens, do_sample=False, pad_token_id=0)
    draw = np.random.default_rng(0)
    for count in streams:
        ids = draw.integers(0, 50257, (count, 16))
        x = torch.tensor(ids)
        yield raced(
            f"GPT-2 124M writes, {count} stream(s)", lambda ids=ids: generate(ours, ids, tokens, temperature=0),
            lambda x=x: theirs.generate(x, attention_mask=torch.ones_like(x), generation_config=greedy).numpy(),
            rounds, count * tokens,
        )
    ids = draw.integers(0, 50257, (1, prefill))
    x = torch.tensor(ids)
    yield raced(
        f"GPT-2 124M, first token behind {prefill}", lambda: ours.step(ids, ours.new_cache(1, prefill)),
        lambda: theirs(x, use_cache=True, logits_to_keep=1).logits[:, 0].numpy(), rounds, prefill,
    )


def t5(tokens: int, rounds: int) -> Iterator[Raced]:
    """T5 small reads 32 tokens and writes."""
    config = transformers.T5Config(vocab_size=32128, eos_token_id=None, decoder_start_token_id=0)
    theirs, ours = both(transformers.T5ForConditionalGeneration(config), T5)
    ids = np.random.default_rng(0).integers(2, 32000, (1, 32))
    x, start = torch.tensor(ids), np.zeros((1, 1), int)
    greedy = transformers.GenerationConfig(max_new_tokens=tokens, do_sample=False, pad_token_id=0,
                                           decoder_start_token_id=0, eos_token_id=None)  # fmt: skip
    yield raced(
        "T5 small writes, one stream", lambda: generate(ours, start, tokens, temperature=0, source=ids),
        lambda: theirs.generate(x, attention_mask=torch.ones_like(x), generation_config=greedy).numpy(), rounds, tokens,
    )


def bert(rounds: int) -> Iterator[Raced]:
    """BERT base scores every word at every place of 4 texts of 64 tokens."""
    theirs, ours = both(transformers.BertForPreTraining(transformers.BertConfig()), BERTForPreTraining)
    ids = np.random.default_rng(0).integers(1000, 30522, (4, 64))
    x, mask = torch.tensor(ids), np.ones(ids.shape, bool)

    def score() -> np.ndarray:
        with tt.no_grad():
            return ours.fill_scores(ids, np.zeros_like(ids), mask).data

    yield raced("BERT base scores 4 x 64 places", score, lambda: theirs(x).prediction_logits.numpy(), rounds, ids.size)


def raced(work: str, ours, theirs, rounds: int, tokens: int) -> Raced:
    a, b, mine, other = race(ours, theirs, rounds)
    if mine.dtype.kind == "f":
        note = f"they differ by {abs(mine - other).max():.0e} at most"
    else:
        note = "" if np.array_equal(mine, other) else "the texts differ"
    return Raced(work, a, b, tokens, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 8], help="texts written at once [1 8]")
    parser.add_argument("--tokens", type=int, default=48, help="tokens written in a turn [48]")
    parser.add_argument("--prefill", type=int, default=512, help="length of the prompt to read [512]")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each [5]")
    parser.add_argument("--threads", type=int, default=core_count(), help="of each side [all cores]")
    args = parser.parse_args()
    print(f"{args.threads} threads each; transformers {transformers.__version__}, PyTorch {torch.__version__}, "
          f"NumPy {np.__version__}")  # fmt: skip
    print(f"{'':36} {'ours':>16} {'transformers':>16} {'times as fast':>14}")
    with on(args.threads):
        writing = gpt(args.streams, args.tokens, args.prefill, args.rounds), t5(args.tokens, args.rounds)
        for one in itertools.chain(*writing, bert(args.rounds)):
            a, b = one.tokens / one.ours, one.tokens / one.theirs
            print(f"{one.work:36} {a:8.1f} tokens/s {b:8.1f} tokens/s {a / b:10.2f}   {one.note}", flush=True)


@contextlib.contextmanager
def on(threads: int) -> Iterator[None]:
    """With so many threads on each side, and without gradients."""
    torch.manual_seed(0)
    with torch.no_grad(), threadpoolctl.threadpool_limits(threads, "blas"):
        torch.set_num_threads(threads)
        yield


if __name__ == "__main__":
    main()
