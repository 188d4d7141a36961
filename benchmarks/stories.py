"""How hard the built-in stories are to predict: their entropy, and how far above it n-gram models stay.

    python -m benchmarks.stories                           4 million characters, the last tenth held out

The n-gram models back off by Witten and Bell's rule (1991): each context mixes what followed it with what its shorter
form says, and trusts itself the more often it was seen and the fewer different symbols followed it. One predicts
characters, one words (with the white space and marks between them as words of their own, so that it predicts the
whole text). A word that was never seen in training costs it only a uniform guess among the known ones.
"""

from __future__ import annotations

import argparse
import bisect
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

from train.data import stories


def n_gram_loss(train: Sequence, test: Sequence, order: int = 5) -> float:
    """The nats per symbol of an n-gram model with back-off, n = order, on the symbols of `test`."""
    counts = [defaultdict(Counter) for _ in range(order)]
    for length, table in enumerate(counts):
        for i in range(length, len(train)):
            table[train[i - length : i]][train[i]] += 1
    symbols = len(counts[0][train[:0]])
    loss = 0.0
    for i in range(order, len(test)):
        p = 1 / symbols
        for length, table in enumerate(counts):
            if (seen := table.get(test[i - length : i])) is None:
                break
            p = (seen[test[i]] + len(seen) * p) / (seen.total() + len(seen))
        loss -= math.log(p)
    return loss / (len(test) - order)


def words(text: str) -> tuple[str, ...]:
    """A word with the space before it, a mark, or other white space; joined again they are the text."""
    return tuple(re.findall(r" ?\w+|[^\w\s]|\s", text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--characters", type=int, default=4_000_000, help="how many characters of stories [4000000]")
    args = parser.parse_args()
    told = stories.corpus(args.characters)
    cut = told.starts[bisect.bisect_left(told.starts, len(told.text) * 9 // 10)]
    train, test = told.text[:cut], told.text[cut:]
    floor = told.floor(cut)
    different = len(set(words(told.text)))
    print(f"{len(told.stories):,} stories of {len(told.text):,} characters in all, {different:,} different words")
    print(f"entropy of the held-out part: {floor:.4f} nats per character")
    for name, split in (("characters", str), ("words", words)):
        known, unseen = split(train), split(test)
        loss = n_gram_loss(known, unseen) * len(unseen) / len(test)
        above = 100 * (loss / floor - 1)
        print(f"5-gram model of {name}: {loss:.4f} nats per character, {above:.0f}% above the entropy")


if __name__ == "__main__":
    main()
