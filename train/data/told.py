"""The built-in stories as the text of a corpus."""

import bisect
from collections.abc import Iterable

from train.data import stories
from train.data.text import HELD_OUT


class StoriesSource:
    """The built-in stories. The last tenth is held out, from the start of a story on, so its entropy is exact."""

    def __init__(self, characters: int, seed: int = 0, held_out: float = HELD_OUT):
        told = stories.corpus(characters, seed)
        first = bisect.bisect_left(told.starts, len(told.text) * (1 - held_out))
        cut, nats = told.starts[first], told.nats_before[first]
        self.texts = told.text[:cut], told.text[cut:]
        self.nats = (nats, told.nats - nats)

    def parts(self) -> tuple[Iterable[str], Iterable[str]]:
        """The training text and the held-out text, each as one piece."""
        return [self.texts[0]], [self.texts[1]]

    def said(self) -> str:
        """What is held out."""
        return "held out, not trained on: the last tenth of the stories"
