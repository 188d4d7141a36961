"""Decoding with GPT-2 (124M, random weights) here and in transformers: tokens per second, and the time of a prefill.

    python -m benchmarks.generate
    python -m benchmarks.generate --streams 1 8 --tokens 48 --prefill 512 --threads 2

Both write greedily with their own `generate` from the same prompts; the texts must be equal. They take turns in one
process, so that a machine that slows down slows both; the figures are medians over the turns. Reading one token means
reading all weights once, so one stream is bound by memory: 124M numbers of 4 bytes are 0.5 GB a token.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

import numpy as np
import threadpoolctl
import torch
import transformers

from models import GPT
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 8], help="texts written at once [1 8]")
    parser.add_argument("--tokens", type=int, default=48, help="tokens written in a turn [48]")
    parser.add_argument("--prefill", type=int, default=512, help="length of the prompt to read [512]")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each [5]")
    parser.add_argument("--threads", type=int, default=core_count(), help="of each side [all cores]")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(bos_token_id=None, eos_token_id=None)).eval()
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        ours = GPT.from_pretrained(folder).for_inference()
    draw = np.random.default_rng(0)
    print(f"{args.threads} threads each; transformers {transformers.__version__}, PyTorch {torch.__version__}, "
          f"NumPy {np.__version__}")
    print(f"{'':24} {'ours':>16} {'transformers':>16} {'ours / theirs':>14}")
    with torch.no_grad(), threadpoolctl.threadpool_limits(args.threads, "blas"):
        torch.set_num_threads(args.threads)
        for streams in args.streams:
            ids = draw.integers(0, 50257, (streams, 16))
            tensor = torch.tensor(ids)
            greedy = transformers.GenerationConfig(max_new_tokens=args.tokens, do_sample=False, pad_token_id=0)
            a, b, mine, other = race(
                lambda ids=ids: generate(ours, ids, args.tokens, temperature=0),
                lambda x=tensor, how=greedy: theirs.generate(
                    x, attention_mask=torch.ones_like(x), generation_config=how
                ).numpy(),
                args.rounds,
            )
            equal = "" if np.array_equal(mine, other) else "   the texts differ"
            a, b = (streams * args.tokens / seconds for seconds in (a, b))
            print(f"{f'{streams} stream(s)':24} {a:8.1f} tokens/s {b:8.1f} tokens/s {a / b:10.2f}{equal}", flush=True)
        ids = draw.integers(0, 50257, (1, args.prefill))
        tensor = torch.tensor(ids)
        a, b, mine, other = race(
            lambda: ours.step(ids, ours.new_cache(1, args.prefill)),
            lambda: theirs(tensor, use_cache=True, logits_to_keep=1).logits[:, 0].numpy(),
            args.rounds,
        )
        apart = abs(mine - other).max()
        label = f"prefill of {args.prefill}"
        print(f"{label:24} {1e3 * a:13.0f} ms {1e3 * b:13.0f} ms {b / a:10.2f}   logits differ by {apart:.0e} at most")


if __name__ == "__main__":
    main()
