"""The built-in stories as the text of a corpus."""

import bisect
from collections.abc import Iterable
from itertools import accumulate

from train.data import stories
from train.data.text import HELD_OUT
from train.report import bar


class StoriesSource:
    """The built-in stories. The last tenth is held out, from the start of a story on, so its entropy is exact."""

    def __init__(self, characters: int, seed: int = 0, held_out: float = HELD_OUT):
        texts, nats = [], [0.0]  # what happened in the stories is not kept
        with bar(what="telling stories", total=characters, unit=" characters", unit_scale=True) as shown:
            for story in stories.enough(characters, seed):
                texts.append(story.text + stories.SEPARATOR)
                nats.append(nats[-1] + story.nats)
                shown.update(len(texts[-1]))
        starts = list(accumulate(map(len, texts), initial=0))
        first = bisect.bisect_left(starts, starts[-1] * (1 - held_out))
        self.texts = "".join(texts[:first]), "".join(texts[first:])
        self.nats = (nats[first], nats[-1] - nats[first])

    def parts(self) -> tuple[Iterable[str], Iterable[str]]:
        """The training text and the held-out text, each as one piece."""
        return [self.texts[0]], [self.texts[1]]

    def said(self) -> str:
        """What is held out."""
        return "held out, not trained on: the last tenth of the stories"
