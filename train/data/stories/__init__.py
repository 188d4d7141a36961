"""The built-in stories: children's-story English of any size from a seed, whose exact entropy is known.

The corpus to train on when there is no network, and a ruler to hold a language model against. Every random choice
behind a story is counted, and each text can come about in one way only (telling.py says why), so a story's `nats` are
exactly -log of its probability: no model can expect to do better on average, and a model's loss has a floor to be
compared with. What happened stands beside the text as events with character spans, from which labelled tasks
(next sentence, sentiment, question answering, role tagging) are made.

    corpus = stories.corpus(characters=4_000_000, seed=0)
    corpus.text, corpus.nats_per_character, corpus.floor(len(corpus.text) * 9 // 10, len(corpus.text))
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from train.data.stories.telling import Event, Mention, Teller

SEPARATOR = "\n\n"


@dataclass(frozen=True)
class Story:
    text: str
    nats: float  # -log of the text's probability
    events: tuple[Event, ...]  # in order; spans are character positions in text
    people: dict[str, str]  # name -> girl, boy or pet
    holders: dict[str, str | None]  # thing -> who has it at the end, None if nobody


@dataclass(frozen=True)
class Corpus:
    """Stories one after another, each followed by a blank line."""

    text: str
    stories: tuple[Story, ...]
    starts: list[int]  # where each story starts in text, and where the text ends
    nats_before: list[float]  # nats of everything before each start

    @property
    def nats(self) -> float:
        return self.nats_before[-1]

    @property
    def nats_per_character(self) -> float:
        return self.nats / len(self.text)

    def floor(self, start: int = 0, stop: int | None = None) -> float:
        """Nats per character of text[start:stop]: the loss of the perfect model.

        Exact where start and stop are starts of stories. A story cut by either end counts by the share of its
        characters inside, which errs by less than that one story's nats.
        """
        stop = len(self.text) if stop is None else stop
        if not 0 <= start < stop <= len(self.text):
            raise ValueError(f"floor: wants 0 <= start < stop <= {len(self.text)}, not start {start}, stop {stop}")
        before, until = np.interp([start, stop], self.starts, self.nats_before).tolist()
        return (until - before) / (stop - start)


def stories(seed: int = 0) -> Iterator[Story]:
    """Stories without end; the same seed gives the same stories on every machine."""
    draw = random.Random(seed).random
    while True:
        teller = Teller(draw)
        while not teller.world.over:
            teller.event()
        yield Story("".join(teller.parts), teller.nats, tuple(teller.events),
                    {p.name: p.kind for p in teller.world.people},
                    {x.name: x.holder.name if x.holder else None for x in teller.world.things})


def enough(characters: int, seed: int = 0) -> Iterator[Story]:
    """Whole stories, until their texts, each with the blank line behind it, have at least so many characters."""
    if characters < 1:
        raise ValueError(f"corpus: wants at least 1 character, not {characters}")
    for story in stories(seed):
        yield story
        characters -= len(story.text) + len(SEPARATOR)
        if characters <= 0:
            return


def corpus(characters: int, seed: int = 0) -> Corpus:
    """Whole stories, at least the given number of characters of them."""
    told = tuple(enough(characters, seed))
    texts = [story.text + SEPARATOR for story in told]
    starts, nats = accumulate(map(len, texts), initial=0), accumulate((story.nats for story in told), initial=0.0)
    return Corpus("".join(texts), told, list(starts), list(nats))
